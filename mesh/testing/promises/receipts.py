"""Judges that what a person sent has exactly one receipt, also an answer that was held.

Owns this part of what `mesh.testing.promises.judge` checks. A receipt is of the decision's cause,
or of an answer that was held before and is judged now. Nothing stays held once its approval has
ended.
"""

from collections.abc import Iterable, Iterator

from mesh.core.effects import Effect
from mesh.core.events import AnswerHeld, ApprovalClosed2, ApprovalWithdrawn, Decision, IncidentRaised
from mesh.core.receipts import SendCommandReceipt, SendReceipt

_Place = tuple[str, int, int]


class Receipts:
    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[_Place, tuple[str, str]] = {}  # workflow and step, by the answer's place

    def take(self, decision: Decision, made: Iterable[Effect]) -> Iterator[str]:
        """What is wrong with the receipts of a decision."""
        cause = decision.cause
        own = (cause.source_topic, cause.source_partition, cause.source_offset)
        told = [
            (one.source.topic, one.source.partition, one.source.offset)
            for one in made
            if isinstance(one, SendReceipt | SendCommandReceipt) and one.source is not None
        ]
        for event in decision.events:
            if isinstance(event, AnswerHeld):
                self._held[event.answer.source] = (decision.workflow_id, event.step)
        # an answer that is held now has its receipt later
        expected = 1 if cause.receipt_by_place and own not in self._held else 0
        if told.count(own) != expected:
            yield f"{cause.id} has {told.count(own)} receipts"
        for place in told:
            if place != own and self._held.pop(place, None) is None:
                yield f"{place} has a receipt, and was not held"
        ended = {
            (decision.workflow_id, event.step)
            for event in decision.events
            if isinstance(event, ApprovalClosed2 | ApprovalWithdrawn | IncidentRaised)
        }
        for place in [place for place, where in self._held.items() if where in ended]:
            yield f"{self._held.pop(place)[1]} has ended, and the answer at {place} has no receipt"
