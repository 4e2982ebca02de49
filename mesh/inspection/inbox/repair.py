"""What `mesh.approvals.open` lacks, and what it has too much, compared with the log.

Owns the comparison; `mesh approvals republish` sends what follows from it. The log alone says what
is open, so nothing can be missed: neither what was asked before the topic was there, nor what a
topic that was lost had, nor what a router that was cut off wrote too late.

The owners go on deciding meanwhile, and their records may land before or behind ours. So a round
looks at what the round before wrote as the last word on those keys, and writes again what the log
says otherwise by then. The last round finds nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import apsw

from mesh.codec.open_approvals import encode_shown, placed
from mesh.core.events import ApprovalRequested, NoteAdded, QuestionAnswered, QuestionAsked
from mesh.core.open_approvals import PAYLOAD, REQUEST, STANDING, NewPayload, ShowApproval, Shown, note_of, note_part
from mesh.core.state import StepState
from mesh.core.topics import Topics
from mesh.core.voting import tally_of
from mesh.inspection.inbox.inbox import Inbox
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.schema import select
from mesh.ports import OutRecord

ROUNDS: Final = 10
Key = tuple[str, str]  # approval and part


class Written(NamedTuple):
    """What a key had when the topic was read, or since we wrote it."""

    log_offset: int
    value: bytes | None


class Repair:
    """One repair, in rounds. `restored`, `removed`: keys that were written, and taken away."""

    def __init__(self, topics: Topics, inbox: Inbox, model: ReadModel) -> None:
        self.restored: set[Key] = set()
        self.removed: set[Key] = set()
        self._topics = topics
        self._inbox = inbox
        self._model = model
        self._touched: dict[Key, Written] = {}

    async def round(self) -> list[OutRecord]:
        """What is to be sent now; nothing if the topic has what the log has."""
        # in this order: what the topic shows was decided before the log is read
        await self._inbox.catch_up()
        await self._model.catch_up()
        held = _held(self._inbox.db) | self._touched
        out: list[OutRecord] = []
        wanted: set[Key] = set()
        for offset, show in _open_in_log(self._model.db, held):
            key = (show.approval_id, show.part)
            wanted.add(key)
            out += self._written(key, show, offset, held.get(key))
        for key, before in held.items():
            if key not in wanted:
                out += self._written(key, _tombstone(key), before.log_offset, before)
        return out

    def _written(self, key: Key, show: ShowApproval, offset: int, before: Written | None) -> list[OutRecord]:
        record = encode_shown(show, topics=self._topics)
        if before is not None and before.value == record.value:
            return []
        # not below what is there, or readers would pass it over
        offset = offset if before is None else max(offset, before.log_offset)
        self._touched[key] = Written(offset, record.value)
        (self.removed if record.value is None else self.restored).add(key)
        return [placed(record, offset)]


def _held(db: apsw.Connection) -> dict[Key, Written]:
    rows = select(db, "SELECT approval_id, part, log_offset, value FROM parts WHERE value IS NOT NULL")
    return {(approval_id, part): Written(offset, value) for approval_id, part, offset, value in rows}


_NOTES: Final = (NoteAdded, QuestionAsked, QuestionAnswered)


def _tombstone(key: Key) -> ShowApproval:
    approval_id, part = key
    return ShowApproval(workflow_id="", approval_id=approval_id, part=part, value=None, at_ms=0)


def _open_in_log(db: apsw.Connection, held: Mapping[Key, Written]) -> Iterator[tuple[int, ShowApproval]]:
    """Each part of each open approval, and the offset of its workflow's last decision."""
    for row in queries.approvals(db):
        state = queries.workflow_state(db, row.workflow_id, remembered=True)
        step = None if state is None else state.steps.get(row.step)
        event = queries.approval_request(db, row.approval_id)
        if step is None or event is None or (step.status, step.task_id) != ("asking", row.approval_id):
            continue
        decisions = queries.decisions_of(db, row.workflow_id)
        said = [one for entry in decisions for one in entry.decision.events if isinstance(one, _NOTES)]
        notes = [one for one in said if one.approval_id == row.approval_id]
        has_standing = (row.approval_id, STANDING) in held
        for part, value in _parts(event, step, notes, has_standing=has_standing):
            show = ShowApproval(
                workflow_id=row.workflow_id, approval_id=row.approval_id, part=part, value=value, at_ms=row.asked_at_ms
            )
            yield decisions[-1].offset, show


def _parts(
    event: ApprovalRequested,
    step: StepState,
    notes: Sequence[NoteAdded | QuestionAsked | QuestionAnswered],
    *,
    has_standing: bool,
) -> Iterator[tuple[str, Shown]]:
    yield REQUEST, event
    asking = step.asking
    if asking is None:
        return
    if asking.edition > 1:
        yield PAYLOAD, NewPayload(payload=step.input, digest=step.digest, edition=asking.edition, by=asking.editors[-1])
    if asking.is_changed or step.due_at_ms != event.deadline_at_ms or has_standing:
        yield STANDING, tally_of(asking, step.digest, step.due_at_ms)
    # of an approval that was asked again under its id, the newest ones count
    for note in map(note_of, notes[len(notes) - asking.notes :]):
        yield note_part(note.number), note
