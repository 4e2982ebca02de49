"""The voice for everybody: who was asked what, who answered what, and why.

It needs the log's decisions and nothing else.

No line holds a time or an offset: times are told as what is left until then, so that the same
course of things reads the same whenever and on whatever broker it happens. The words themselves are
`mesh.inspection.wording`'s.
"""

from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from mesh.core import events as ev
from mesh.core.effects import (
    AskApproval,
    PublishEvent,
    PublishOutcome,
    SendDeadLetter,
    SendInput,
    SendReceipt,
    SendTask,
    WithdrawTask,
    effects,
)
from mesh.core.ids import attempt_id
from mesh.inspection.wording import words_of
from mesh.inspection.wording.phrases import named
from mesh.testing.transcript.headings import heading

_EFFECTS_WITH_WORDS: Final = (
    SendTask,
    WithdrawTask,
    AskApproval,
    SendReceipt,
    PublishOutcome,
    PublishEvent,
    SendDeadLetter,
    SendInput,
)


class Told(NamedTuple):
    """What came in, in a line, and what came of it, in some."""

    heading: str
    body: list[str]


class Words:
    """Tells decisions, one after the other as the log has them: it remembers which agent had a
    task, for an answer does not say it.
    """

    def __init__(self) -> None:
        self._agents: dict[str, str] = {}  # of attempts, by id

    def tell(self, decision: ev.Decision) -> Told:
        sent = effects(decision)
        tasks = {attempt_id(effect.task_id, effect.attempt) for effect in sent if isinstance(effect, SendTask)}
        lines = [line for event in decision.events if (line := _line(event, decision, tasks))]
        others: list[object] = [effect for effect in sent if not isinstance(effect, _EFFECTS_WITH_WORDS)]
        lines += [f"-> {named(effect)}" for effect in others]
        told = Told(heading(decision, self._agents), lines)
        for event in decision.events:
            if isinstance(event, ev.TaskDispatched):
                self._agents[attempt_id(event.task_id, event.attempt)] = event.agent
        return told


def _line(event: ev.Event, decision: ev.Decision, sent: AbstractSet[str]) -> str:
    """Empty: the heading says it."""
    said = words_of(event, decision)
    if said is None:
        return named(event)
    if isinstance(event, ev.TaskDispatched):
        is_sent = attempt_id(event.task_id, event.attempt) in sent
        return f"{'->' if is_sent else 'needless before it was sent:'} {said.told}"
    return said.told
