"""The cast: agents and people that a test plays, by their scripts.

Owns what each of them does next. It runs no handler itself (`handling` does), and sends nothing:
`mesh.testing.kit.stage` does, when it is their turn.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import chain
from typing import Any, Final

import msgspec
from pydantic import TypeAdapter

from mesh.agent.definition import Agent
from mesh.codec.tasks import Task
from mesh.core.approvals import Terms
from mesh.core.people import person_of
from mesh.core.voting import Body, may_edit, may_vote
from mesh.ports import Clock
from mesh.services.agent_runtime.call import Answer as Made
from mesh.testing.kit.errors import KitError, is_for_the_test
from mesh.testing.kit.handling import Handling
from mesh.testing.kit.scripts import Answer, Answers, Called, Failure, HandedOver, Output, Reply, replies, takes_context

__tracebackhide__ = is_for_the_test

_ANYTHING: Final[TypeAdapter[Any]] = TypeAdapter(Any)


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One task that an agent was given."""

    workflow_id: str
    step: str
    attempt: int
    input: Any


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a person is asked."""

    workflow_id: str
    step: str
    approval_id: str
    question: str
    payload: Any
    role: str
    payload_schema: dict[str, Any] | None = None
    deadline_at: str | None = None  # RFC 3339
    terms: Terms | None = None  # where more than the first answer counts


class PlayedAgent:
    """An agent that a test plays. `calls`: the tasks that it was given so far, in order."""

    def __init__(
        self, name: str, script: Any, then: Any, after_s: float, tell: Callable[[BaseException], None]
    ) -> None:
        self.name = name
        self.calls: list[Call] = []
        self.real = script if isinstance(script, Agent) else None
        self.capabilities: tuple[str, ...] = self.real.capabilities if self.real is not None else ()
        self.max_outstanding = self.real.max_outstanding if self.real is not None else None
        self._tell = tell
        self._replies: Iterator[Reply] = replies(script, after_s=after_s)
        if then is not msgspec.UNSET:
            self._replies = chain(self._replies, replies(then, after_s=after_s))
        self._known: dict[int, Handling] = {}

    @property
    def inputs(self) -> list[Any]:
        return [call.input for call in self.calls]

    def next_reply(self, task: Task) -> Reply:
        """Note the call, and take the next reply from the script.

        Raises `KitError` if the script has ended.
        """
        value = msgspec.json.decode(bytes(task.input))
        self.calls.append(Call(workflow_id=task.workflow_id, step=task.step, attempt=task.attempt, input=value))
        reply = next(self._replies, None)
        if reply is None:
            raise KitError(
                f"{task.workflow_id} asks the agent {self.name} for {task.step}, attempt {task.attempt}, and its script has come to its end after "
                f"{len(self.calls) - 1} replies: give it more, or `then=` for the rest"
            )
        return reply

    async def answer(
        self, task: Task, reply: Reply, usage: dict[str, float], *, clock: Clock, arrived_ms: int
    ) -> Made | None:
        """Turn a reply into JSON, an error, or a handover to another agent.

        None if it is too late to begin. Puts what the attempt used into `usage`.
        """
        match reply:
            case Output():
                usage.update(reply.usage or {})
                return _ANYTHING.dump_json(reply.value, by_alias=True, warnings="error")
            case Failure():
                return reply.error
            case HandedOver():
                return reply.to
            case Called():
                return await self._handling(reply, clock).answer(task, arrived_ms, usage)
            case _:
                raise AssertionError(f"{reply} is not an answer")

    def is_slow(self, reply: Reply) -> bool:
        """Whether its handler may wait for something. Others should not wait for it then."""
        if not isinstance(reply, Called):
            return False
        handler = reply.handler
        return handler.is_async if isinstance(handler, Agent) else inspect.iscoroutinefunction(handler)

    def _handling(self, reply: Called, clock: Clock) -> Handling:
        handler = reply.handler
        known = self._known.get(id(handler))
        if known is None:
            made = _in_place(handler) if isinstance(handler, Agent) else self._agent_of(handler)
            known = self._known[id(handler)] = Handling(made, clock, waits=self.is_slow(reply))
        return known

    def _agent_of(self, function: Callable[..., Any]) -> Agent[Any, Any]:
        """Make an agent of a test's own function.

        A failed assertion in it belongs to the test. It is not a failure of the agent.
        """

        async def handle(*arguments: Any) -> Any:
            try:
                found = function(*arguments)
                return await found if inspect.isawaitable(found) else found
            except AssertionError as error:
                self._tell(error)
                raise

        return _agent(handle, name=self.name, takes_context=takes_context(function))


def _in_place(agent: Agent[Any, Any]) -> Agent[Any, Any]:
    """A real agent that is called in the running loop.

    In production a plain function gets a thread of its own. Here it is called as if no loop were
    running.
    """
    if agent.is_async:
        return agent

    async def handle(*arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        asyncio._set_running_loop(None)  # noqa: SLF001 - offered to authors of event loops
        try:
            return agent.handler(*arguments)
        finally:
            asyncio._set_running_loop(loop)  # noqa: SLF001 - as above

    return _agent(handle, name=agent.name, takes_context=agent.takes_context, like=agent)


def _agent(
    handler: Callable[..., Awaitable[Any]], *, name: str, takes_context: bool, like: Agent[Any, Any] | None = None
) -> Agent[Any, Any]:
    return Agent(
        handler,
        name=name,
        version="test",
        description="",
        concurrency=1,
        max_outstanding=like.max_outstanding if like else None,
        capabilities=like.capabilities if like else (),
        is_async=True,
        takes_context=takes_context,
        input_adapter=like.input_adapter if like else _ANYTHING,
        output_adapter=like.output_adapter if like else _ANYTHING,
    )


class PlayedPerson:
    """A person with roles, who answers by a script or when the test says so."""

    def __init__(self, name: str, roles: frozenset[str], answers: Answers | None) -> None:
        self.name = name
        self.roles = roles
        self._answers = answers
        self._lists: dict[str, Iterator[Answer]] = {}

    def may_answer(self, question: Question) -> bool:
        """Whether the person can vote or edit, by the roles that the test gave them."""
        terms = question.terms
        if terms is None:
            return question.role in self.roles
        body = Body(person_of(self.name), self.roles)
        is_voter = may_vote(terms, body) and body.name not in terms.excluded
        return is_voter or may_edit(terms, body)

    def next_answer(self, question: Question) -> Answer | None:
        """What the script answers to this question. None if it has no answer."""
        script = self._answers
        if isinstance(script, Mapping):
            name = question.step if question.step in script else question.step.partition("[")[0]
            return self._of(script.get(name), name, question)
        return self._of(script, "", question)

    def _of(self, script: Any, name: str, question: Question) -> Answer | None:
        match script:
            case None | Answer():
                return script
            case list() | tuple():
                return next(self._lists.setdefault(name, iter(script)), None)
            case _ if callable(script):
                found = script(question)
                if found is None or isinstance(found, Answer):
                    return found
        raise KitError(
            f"{self.name} can't answer {question.step} with {script!r}: write approves(...) or rejects(...), a list of them, or a function of the question"
        )
