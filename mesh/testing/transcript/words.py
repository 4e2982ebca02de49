"""The words for everybody: who was asked what, who answered what, and why.

Owns how a decision reads. It needs the log's decisions and nothing else.

No line holds a time or an offset. Times are given as what is left until then, so that the same
events read the same at any time and on any broker. The words for one event are
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
    SendPersonal,
    SendTask,
    TellForked,
    WithdrawTask,
    effects,
)
from mesh.core.ids import attempt_id
from mesh.core.open_approvals import ShowApproval
from mesh.core.receipts import SendCommandReceipt, SendReceipt
from mesh.inspection.wording import words_of
from mesh.inspection.wording.phrases import named
from mesh.testing.transcript.headings import heading

_EFFECTS_WITH_WORDS: Final = (
    SendTask,
    WithdrawTask,
    AskApproval,
    ShowApproval,
    SendCommandReceipt,
    SendReceipt,
    PublishOutcome,
    PublishEvent,
    SendDeadLetter,
    SendInput,
    SendPersonal,
    TellForked,
)


class Told(NamedTuple):
    """What came in, in one line, and what came of it, in some lines."""

    heading: str
    body: list[str]


class Words:
    """Tells decisions, one after the other as the log has them.

    It remembers which agent had a task, because an answer does not name it.
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
    """Tell one event. Empty if the heading says it already."""
    said = words_of(event, decision)
    if said is None:
        return named(event)
    if isinstance(event, ev.TaskDispatched):
        is_sent = attempt_id(event.task_id, event.attempt) in sent
        return f"{'->' if is_sent else 'needless before it was sent:'} {said.told}"
    return said.told
