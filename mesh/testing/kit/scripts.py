"""Scripts: what a played agent does with each task, and what a played person answers.

Owns the meaning of what a test writes; `mesh.testing.kit.cast` plays it.

The same output every time, an output made of the input, or one attempt after the other:

    mesh_kit.agent("checker", {"risk": "high"})
    mesh_kit.agent("checker", lambda claim: {"risk": claim["kind"]})
    mesh_kit.agent("payer", [TimeoutError("slow"), {"paid": True}])
    mesh_kit.agent("payer", fails("ConnectError", times=2), then={"paid": True})

An output 40 s after the agent was asked, and a task that is passed on, as `raise HandOver(...)` in
an agent does:

    mesh_kit.agent("payer", later("40s", {"paid": True}))
    mesh_kit.agent("triage", HandOver("billing", {"question": "..."}))

No output: nobody begins the task; the agent begins it and dies after 40 s; or it begins, stays
alive, and never comes to an end:

    mesh_kit.agent("payer", silent)
    mesh_kit.agent("payer", dies(after="40s"))
    mesh_kit.agent("payer", hangs)

An output that says what it used of the budget, and the real agent, an `@agent` function:

    mesh_kit.agent("writer", uses({"text": "..."}, tokens=1200))
    mesh_kit.agent(classify)

A person:

    mesh_kit.person("ana", roles=["manager"], answers=approves(after="2h"))
    mesh_kit.person("ben", roles=["manager"], answers=chooses("voucher"))

A list (or any iterator) has one reply for each attempt. To return a list as output, give a
function.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, repeat
from math import inf
from typing import Any, Final

import msgspec

from mesh.agent.definition import Agent
from mesh.agent.handover import HandOver
from mesh.core import inputs
from mesh.core.inputs import AnswerKind, TaskError
from mesh.services.agent_runtime.call import error_of
from mesh.testing.kit.durations import Duration, seconds


class Output(msgspec.Struct, frozen=True):
    """The attempt succeeds with this output."""

    value: Any
    after_s: float = 0.0
    usage: dict[str, float] | None = None


class Failure(msgspec.Struct, frozen=True):
    """The attempt fails with this error."""

    error: TaskError
    after_s: float = 0.0


class Silence(msgspec.Struct, frozen=True):
    """Nothing is ever heard of the attempt.

    `times`: how many attempts in a row; None means all that follow.
    """

    times: int | None = None


class Works(msgspec.Struct, frozen=True):
    """The agent begins, and never comes to an end.

    It gives signs of life for `lives_s`, if the route asks for them.
    """

    lives_s: float


class Called(msgspec.Struct, frozen=True):
    """A function, or a real agent, makes the reply."""

    handler: Callable[..., Any] | Agent[Any, Any]
    after_s: float = 0.0


class HandedOver(msgspec.Struct, frozen=True):
    """The agent passes its task on."""

    to: inputs.HandOver
    after_s: float = 0.0


Reply = Output | Failure | Silence | Works | Called | HandedOver


class Fails(msgspec.Struct, frozen=True, kw_only=True):
    error: TaskError
    times: int | None = None


class Uses(msgspec.Struct, frozen=True, kw_only=True):
    output: Any
    usage: dict[str, float]


class Later(msgspec.Struct, frozen=True, kw_only=True):
    after_s: float
    script: Any


silent: Final = Silence()
"""An agent that answers nothing, so that its time runs out; `[silent, output]`: once."""


hangs: Final = Works(inf)
"""An agent that begins, is alive, and never comes to an end."""


def dies(*, after: Duration = 0) -> Works:
    """An agent that begins, and from which nothing is heard after `after`."""
    return Works(seconds(after))


def fails(kind: str, message: str = "as scripted", *, times: int | None = None, retryable: bool = True) -> Fails:
    """Attempts that fail, with `kind` as the error's kind. `times` None: all of them."""
    return Fails(error=TaskError(kind=kind, message=message, retryable=retryable), times=times)


def uses(output: Any, **usage: float) -> Uses:
    """An output that says what it used of the budget.

    For example `uses({"text": "..."}, tokens=1200, usd=0.02)`.
    """
    return Uses(output=output, usage=usage)


def later(after: Duration, script: Any) -> Later:
    """Give the replies of `script`, this much later."""
    return Later(after_s=seconds(after), script=script)


# What people do -----------------------------------------------------------------------------------


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a played person answers. `payload` is an edit: it replaces what was asked."""

    decision: AnswerKind
    payload: Any = msgspec.UNSET
    reason: str = ""
    after_s: float = 0.0
    choice: str = ""
    form: Any = None
    text: str = ""
    to: str = ""
    question: int = 0
    digest: str = ""  # of the payload that the person saw; empty: the present one
    on_behalf: str = ""  # the person who has delegated to who answers


def approves(
    *, payload: Any = msgspec.UNSET, reason: str = "", form: Any = None, after: Duration = 0, on_behalf: str = ""
) -> Answer:
    """`on_behalf`: the person who has delegated to who answers."""
    said = {"payload": payload, "reason": reason, "form": form, "on_behalf": on_behalf}
    return Answer(decision="approve", after_s=seconds(after), **said)


def rejects(*, reason: str = "", form: Any = None, after: Duration = 0, on_behalf: str = "") -> Answer:
    return Answer(decision="reject", reason=reason, form=form, after_s=seconds(after), on_behalf=on_behalf)


def chooses(
    choice: str, *, payload: Any = msgspec.UNSET, reason: str = "", form: Any = None, after: Duration = 0
) -> Answer:
    """One of the approval's `choices`."""
    return Answer(decision="choose", choice=choice, payload=payload, reason=reason, form=form, after_s=seconds(after))


# Reading a script ---------------------------------------------------------------------------------


def replies(script: Any, *, after_s: float = 0.0) -> Iterator[Reply]:
    """The replies to one attempt after another. They may be endless."""
    match script:
        case Later():
            return replies(script.script, after_s=after_s + script.after_s)
        case list() | tuple() | Iterator():
            return chain.from_iterable(_one(item, after_s) for item in script)
        case _:
            return _endless(_one(script, after_s))


def _endless(found: Iterable[Reply]) -> Iterator[Reply]:
    """Repeat a script that does not say how often."""
    if isinstance(found, _Once):
        return repeat(found.reply)
    return iter(found)


class _Once:
    """One reply, if it is in a list. Outside of a list it is repeated."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply

    def __iter__(self) -> Iterator[Reply]:
        yield self.reply


def _one(item: Any, after_s: float) -> Iterable[Reply]:
    match item:
        case Later():
            return _one(item.script, after_s + item.after_s)
        case Uses():
            return _Once(Output(item.output, after_s, item.usage))
        case Fails(times=None):
            return _Once(Failure(item.error, after_s))
        case Fails(times=times):
            return repeat(Failure(item.error, after_s), times or 0)
        case Works():
            return _Once(item)
        case Silence(times=None):
            return _Once(item)
        case Silence(times=times):
            return repeat(item, times or 0)
        case HandOver():
            return _Once(HandedOver(inputs.HandOver(to=item.to, input=item.input), after_s))
        case BaseException():
            return _Once(Failure(error_of(item), after_s))
        case type() if issubclass(item, BaseException):
            return _Once(Failure(error_of(item()), after_s))
        case Agent():
            return _Once(Called(item, after_s))
        case _ if callable(item):
            return _Once(Called(item, after_s))
        case _:
            return _Once(Output(item, after_s))


def takes_context(function: Callable[..., Any]) -> bool:
    """Whether a plain function wants the context too, as `(input, ctx)`."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin may have no signature
        return False
    needed = [p for p in parameters if p.default is p.empty and p.kind in {p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD}]
    return len(needed) > 1


Answers = Answer | list[Answer] | Mapping[str, Answer | list[Answer]] | Callable[[Any], Answer | None]
"""What a person answers: always the same, in turn, by step, or by a function."""
