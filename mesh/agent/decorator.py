"""`@agent`: it makes an `Agent` from a function, and finds mistakes when the file is read.

Owns the checks and their messages, each with file, line, function and how to fix it. It must not
know a broker. Called by agent authors, as `mesh.agent`.
"""

import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, overload

from mesh.agent.context import Context
from mesh.agent.definition import Agent
from mesh.agent.registry import place, register
from mesh.errors import AgentError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_NAME = re.compile(r"[a-z][a-z0-9-]*")
_MAX_NAME_LENGTH = 100  # a topic's name may have 249 characters, and the prefix comes before ours
_MAX_CAPABILITY_LENGTH = 63  # as of all names in routes
_MAX_PARAMETERS = 2

InputT = TypeVar("InputT")
ReturnT = TypeVar("ReturnT")


class _Decorator(Protocol):
    @overload
    def __call__(self, handler: Callable[[InputT], ReturnT], /) -> Agent[InputT, ReturnT]: ...
    @overload
    def __call__(self, handler: Callable[[InputT, Context], ReturnT], /) -> Agent[InputT, ReturnT]: ...


def agent(
    name: str,
    *,
    concurrency: int = 8,
    max_outstanding: int | None = None,
    version: str | None = None,
    description: str | None = None,
    capabilities: Sequence[str] = (),
) -> _Decorator:
    """Make an agent of a function.

    The function is `(input) -> output` or `(input, ctx: Context) -> output`, an `async def` or a
    `def` (run in a thread).

    `name`: `[a-z][a-z0-9-]*`, the one that routes use. `concurrency`: tasks that one process works
    on at once. `max_outstanding`: tasks that all routers together send it before it has answered;
    the others wait in their workflows. `version`: else the module's or its package's `__version__`,
    else a digest of the source file. `description`: else the docstring's first line.
    `capabilities`: the contracts that it keeps, so that routes can name one of them instead of it.
    Input and output may be of any type that pydantic can validate. Raises `AgentError` if the
    function can't be an agent.
    """
    _check_name(name)

    def decorate(handler: Callable[..., Any], /) -> Agent[Any, Any]:
        _check_capabilities(handler, capabilities)
        _check_options(handler, name, concurrency, max_outstanding)
        hints = _hints(handler)
        input_name, context_name = _parameters(handler, hints)
        made: Agent[Any, Any] = Agent(
            handler,
            name=name,
            version=version or _version(handler),
            description=description or (inspect.getdoc(handler) or "").partition("\n")[0],
            concurrency=concurrency,
            capabilities=tuple(capabilities),
            max_outstanding=max_outstanding,
            is_async=inspect.iscoroutinefunction(handler),
            takes_context=context_name is not None,
            input_adapter=_adapter(handler, f"parameter {input_name!r}", hints[input_name]),
            output_adapter=_adapter(handler, "its return value", hints["return"]),
        )
        register(made)
        return made

    return decorate


def _check_name(name: object) -> None:
    if not isinstance(name, str):  # `@agent` without its parentheses gives the function here
        where = place(name) if callable(name) else "@agent"
        raise AgentError(f'{where}: the agent has no name (write `@agent("my-agent")` above the function)')


def _check_options(handler: Callable[..., Any], name: str, concurrency: int, max_outstanding: int | None) -> None:
    if not inspect.isfunction(handler):
        raise AgentError(f"@agent({name!r}) needs a function, got {handler!r} (put it on a `def` or an `async def`)")
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise AgentError(f"{place(handler)}: an agent returns its output once (use `return` instead of `yield`)")
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME_LENGTH:
        raise AgentError(
            f"{place(handler)}: {name!r} can't be an agent's name (use lower-case letters, digits and hyphens, beginning with a "
            f"letter, at most {_MAX_NAME_LENGTH}: {_mended_name(name)!r})"
        )
    if concurrency < 1:
        raise AgentError(
            f"{place(handler)}: concurrency is {concurrency} (it is how many tasks run at once: 1 or more)"
        )
    if max_outstanding is not None and max_outstanding < 1:
        raise AgentError(
            f"{place(handler)}: max_outstanding is {max_outstanding} (it is how many tasks all its processes may have at once: 1 or more)"
        )


def _check_capabilities(handler: Callable[..., Any], capabilities: Sequence[str]) -> None:
    # a string is a sequence, too: of capabilities with one letter each
    if isinstance(capabilities, str):
        raise AgentError(
            f"{place(handler)}: capabilities is a string (write a list of names: capabilities=[{capabilities!r}])"
        )
    for name in capabilities:
        if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > _MAX_CAPABILITY_LENGTH:
            raise AgentError(
                f"{place(handler)}: {name!r} can't be a capability's name (use lower-case letters, digits and hyphens, beginning with a "
                f"letter, at most {_MAX_CAPABILITY_LENGTH})"
            )
        if list(capabilities).count(name) > 1:
            raise AgentError(f"{place(handler)}: the capability {name!r} is given twice (once will do)")


def _mended_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).lstrip("-0123456789").rstrip("-")[:_MAX_NAME_LENGTH] or "my-agent"


def _hints(handler: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(handler, include_extras=True)
    except Exception as error:  # an annotation is any expression, so evaluating it may raise anything
        raise AgentError(
            f"{place(handler)}: an annotation can't be resolved: {error} (define or import the type at the top level, above the function)"
        ) from error


def _parameters(handler: Callable[..., Any], hints: dict[str, Any]) -> tuple[str, str | None]:
    """The names of the input's parameter and of the context's, if there is one."""
    parameters = list(inspect.signature(handler).parameters.values())
    if not 1 <= len(parameters) <= _MAX_PARAMETERS:
        raise AgentError(
            f"{place(handler)}: an agent takes its input and, if it likes, a context, not {len(parameters)} parameters "
            "(put several inputs into one pydantic model)"
        )
    for parameter in parameters:
        _check_parameter(handler, parameter, hints)
    if "return" not in hints:
        raise AgentError(f"{place(handler)}: the return value has no type (write `-> YourOutput:`, or `-> None:`)")
    first, *rest = (parameter.name for parameter in parameters)
    if _is_context(hints[first]):
        raise AgentError(
            f"{place(handler)}: the first parameter is the input (write `(value: YourInput, {first}: Context)`)"
        )
    if rest and not _is_context(hints[rest[0]]):
        raise AgentError(
            f"{place(handler)}: the second parameter, {rest[0]!r}, is not a Context (annotate it `{rest[0]}: Context`, or put "
            "both inputs into one pydantic model)"
        )
    return first, rest[0] if rest else None


def _check_parameter(handler: Callable[..., Any], parameter: inspect.Parameter, hints: dict[str, Any]) -> None:
    if parameter.kind not in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}:
        raise AgentError(
            f"{place(handler)}: parameter {str(parameter)!r} must be an ordinary one (no `*`, `**` or keyword-only)"
        )
    if parameter.name not in hints:
        raise AgentError(
            f"{place(handler)}: parameter {parameter.name!r} has no type (write `{parameter.name}: YourInput`, any type that pydantic "
            "knows; `Context` for the context)"
        )


def _is_context(hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _is_context(typing.get_args(hint)[0])
    if origin in {typing.Union, types.UnionType}:
        return any(_is_context(arm) for arm in typing.get_args(hint))
    return isinstance(hint, type) and issubclass(hint, Context)


def _adapter(handler: Callable[..., Any], what: str, hint: Any) -> "TypeAdapter[Any]":
    from pydantic import TypeAdapter  # noqa: PLC0415 - `import mesh` is on the way of every command, and must be light
    from pydantic.errors import PydanticUserError  # noqa: PLC0415 - as above

    try:
        return TypeAdapter(hint)
    except (PydanticUserError, TypeError) as error:
        raise AgentError(
            f"{place(handler)}: the type of {what} can't be validated: {error} (use a pydantic model, a dataclass, a TypedDict, or JSON's types)"
        ) from error


def _version(handler: Callable[..., Any]) -> str:
    package = sys.modules.get(handler.__module__.partition(".")[0])
    declared = handler.__globals__.get("__version__") or getattr(package, "__version__", None)
    if isinstance(declared, str):
        return declared
    try:
        # The whole file, and not the function alone: what it calls there is its behaviour, too.
        source = Path(handler.__code__.co_filename).read_bytes()
    except OSError:  # made in an interpreter's prompt: there is no file
        source = handler.__code__.co_code
    return "src-" + sha256(source).hexdigest()[:12]
