"""An agent: a name, a handler, and the types of input and output.

This is the agent as the runtime and the tests use it. Owns `Agent`. It must not know a broker or a
record. `mesh.agent.decorator` makes agents, `mesh.services.agent_runtime` runs them, and a test
calls them like the function they were made from.
"""

from collections.abc import Callable
from functools import cached_property, update_wrapper
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from mesh.agent.context import Context

if TYPE_CHECKING:
    from pydantic import TypeAdapter

InputT = TypeVar("InputT")
ReturnT_co = TypeVar("ReturnT_co", covariant=True)


class Agent(Generic[InputT, ReturnT_co]):
    """A handler with its name and types.

    Calling it calls the handler: `await classify(Issue(...))`, with or without a context.
    """

    __name__: str
    name: str
    version: str
    description: str
    concurrency: int  # tasks that one process works on at once, >= 1
    capabilities: tuple[str, ...]
    max_outstanding: int | None  # tasks of all its processes at once, >= 1
    is_async: bool
    takes_context: bool
    handler: Callable[..., Any]
    input_adapter: "TypeAdapter[Any]"
    output_adapter: "TypeAdapter[Any]"

    def __init__(
        self,
        handler: Callable[..., ReturnT_co],
        *,
        name: str,
        version: str,
        description: str,
        concurrency: int,
        capabilities: tuple[str, ...],
        max_outstanding: int | None,
        is_async: bool,
        takes_context: bool,
        input_adapter: "TypeAdapter[Any]",
        output_adapter: "TypeAdapter[Any]",
    ) -> None:
        self.handler = handler
        self.name = name
        self.version = version
        self.description = description
        self.concurrency = concurrency
        self.capabilities = capabilities
        self.max_outstanding = max_outstanding
        self.is_async = is_async
        self.takes_context = takes_context
        self.input_adapter = input_adapter
        self.output_adapter = output_adapter
        update_wrapper(cast("Callable[..., Any]", self), handler)

    def __call__(self, value: InputT, /, ctx: Context | None = None) -> ReturnT_co:
        """What the handler returns for `value`; nothing is validated.

        Without `ctx` the handler gets `Context.local`.
        """
        if not self.takes_context:
            return cast("ReturnT_co", self.handler(value))
        return cast("ReturnT_co", self.handler(value, Context.local(self.name) if ctx is None else ctx))

    @cached_property
    def input_schema(self) -> dict[str, Any] | None:
        """The JSON Schema of what it takes; None if the type has none."""
        return _json_schema(self.input_adapter, "validation")

    @cached_property
    def output_schema(self) -> dict[str, Any] | None:
        """The JSON Schema of what it returns; None if the type has none."""
        return _json_schema(self.output_adapter, "serialization")

    def __repr__(self) -> str:
        return f"<agent {self.name} {self.version}>"


def _json_schema(adapter: "TypeAdapter[Any]", mode: Literal["validation", "serialization"]) -> dict[str, Any] | None:
    from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError  # noqa: PLC0415 - `import mesh` is on the way of every command, and must be light

    try:
        return adapter.json_schema(mode=mode)
    except (PydanticInvalidForJsonSchema, PydanticUserError):
        return None
