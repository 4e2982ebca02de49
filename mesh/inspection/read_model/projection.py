"""Records to rows: what one batch of records changes in the read model's file.

Owns the fold of the log into the file (with the same code that owners fold with) and the reading of
the other topics. It must not read from the broker or open transactions:
`mesh.inspection.read_model.model` does, and calls `Folder.apply` inside one.

The file keeps every workflow as a row of its own, and a batch loads only the workflows that it
touches: a decision touches its own workflow and no other.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import chain, repeat
from typing import Any, Final

import apsw
import msgspec

from mesh.codec.cards import decode_card
from mesh.codec.cloudevents import BatchOfEvents, from_record
from mesh.codec.dead_letters import decode_dead_letter
from mesh.codec.event_batches import member_number, members_of
from mesh.codec.links import approval_ref
from mesh.codec.log import decode_log_record
from mesh.codec.places import place_id
from mesh.codec.state import decode_meta, decode_workflow, encode_meta, encode_workflow
from mesh.codec.unreadable import event_id
from mesh.core.events import (
    AnswerRefused,
    ApprovalClaimed,
    ApprovalClosed,
    ApprovalReleased,
    ApprovalRequested,
    ApprovalWithdrawn,
    CommandAccepted,
    CommandRefused,
    DeadlineMoved,
    Decision,
    IncidentRaised,
    NoteAdded,
    OwnerChanged,
    PayloadEdited,
    PayloadsErased,
    QuestionAnswered,
    QuestionAsked,
    VoteCast,
    VoteTakenBack,
    WorkflowEnded,
)
from mesh.core.ownership import Epochs
from mesh.core.replay import PartitionFold
from mesh.core.state import PartitionState, Workflow
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.inspection.read_model.erasing import take_out
from mesh.inspection.read_model.incidents import IncidentFold
from mesh.inspection.read_model.letters import take_letters
from mesh.inspection.read_model.open_steps import rows_of
from mesh.inspection.read_model.rates import take_rates
from mesh.inspection.read_model.routers import take_cards
from mesh.inspection.read_model.schema import select, select_one
from mesh.inspection.read_model.search import take_starts
from mesh.ports import Record

_encode_json: Final = msgspec.json.Encoder().encode


def record_digest(record: Record) -> bytes:
    """A digest by which the read model recognises the last record that it has folded.

    At its next start it knows by this that the broker still holds the same log.
    """
    return sha256(record.value or b"").digest()[:16]


class Folder:
    """Writes batches of records into the file.

    Each connection needs its own. It is not safe for threads.
    """

    def __init__(self, db: apsw.Connection, topics: Topics) -> None:
        self._db = db
        self._topics = topics
        self._folds: dict[int, PartitionFold] = {}
        self._incidents = IncidentFold(db)
        self.steps_written = 0
        """Of the workflows that the last batch of the log touched: what it cost to write them."""

    def forget(self) -> None:
        """Drop what is kept in memory, because the file may not be as this process left it.

        Another process moved it on, or a transaction was rolled back.
        """
        self._folds.clear()
        self._incidents.end_batch()

    def apply(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        """Take in consecutive records of one partition, all of them after what the file has.

        Raises `UnknownFormat` if a newer version wrote the log.
        """
        topics = self._topics
        if topic == topics.log:
            self._apply_log(partition, records)
        elif topic == topics.events:
            self._apply_events(records)
        elif topic == topics.dlq:
            self._apply_dead_letters(records)
        elif topic == topics.agents:
            self._apply_cards(records)
        elif topic == topics.routers:
            take_cards(self._db, records)

    # The log --------------------------------------------------------------------------------------

    def _apply_log(self, partition: int, records: Sequence[Record]) -> None:
        fold = self._fold(partition, records[0].offset)
        touched: set[str] = set()
        for record in records:
            entry = decode_log_record(record)
            match entry:
                case OwnerChanged():
                    self._take_owner(fold, record.offset, entry)
                case Decision():
                    self._take_decision(fold, record, entry, touched)
        self._write_workflows(partition, touched, fold.state)
        self.steps_written = sum(len(one.steps) for one in fold.state.workflows.values())
        self._incidents.end_batch()
        self._write_partition(fold)
        # The rows of the file are the state: only what a batch touches is held in memory.
        fold.state.workflows.clear()

    def _fold(self, partition: int, offset: int) -> PartitionFold:
        fold = self._folds.get(partition)
        if fold is None or fold.next_offset > offset:
            fold = self._load_fold(partition, offset)
            self._folds[partition] = fold
        return fold

    def _load_fold(self, partition: int, offset: int) -> PartitionFold:
        row = select_one(self._db, "SELECT meta, epoch FROM partitions WHERE partition = ?", partition)
        if row is None:
            return PartitionFold(partition, next_offset=offset)
        meta = decode_meta(row[0])
        tokens = select(self._db, "SELECT token FROM epochs WHERE partition = ?", partition)
        return PartitionFold(
            partition,
            state=meta.state({}),
            epochs=Epochs((token for (token,) in tokens), row[1]),
            next_offset=offset,
        )

    def _take_owner(self, fold: PartitionFold, offset: int, entry: OwnerChanged) -> None:
        fold.apply(offset, entry)
        # A repeated claim of an owner that has lost the partition since.
        if fold.epochs.current != entry.token:
            return
        self._db.execute("INSERT OR IGNORE INTO epochs VALUES (?, ?)", (fold.partition, entry.token))
        self._db.execute(
            "INSERT INTO partitions VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0) ON CONFLICT (partition) DO UPDATE SET epoch = ?3, owner = ?4,"
            " owner_since_ms = ?5, mesh_partitions = ?6",
            (fold.partition, encode_meta(fold.state), entry.token, entry.owner, entry.at_ms, entry.partitions),
        )

    def _take_decision(self, fold: PartitionFold, record: Record, decision: Decision, touched: set[str]) -> None:
        workflow_id = decision.workflow_id
        workflows = fold.state.workflows
        # Once for each batch: after that, what is in memory is newer than the row.
        if workflow_id not in touched and (loaded := self._load_workflow(workflow_id)) is not None:
            workflows[workflow_id] = loaded
        touched.add(workflow_id)
        before = workflows.get(workflow_id)
        if not fold.apply(record.offset, decision):
            return
        after = workflows.get(workflow_id)
        if decision.events and type(decision.events[-1]) is PayloadsErased:
            take_out(self._db, workflow_id)
            before = None
        if before is not None and after is None:
            self._write_workflow(fold.partition, before)  # its last state, for those who ask later
        subject = after or before
        self._db.execute(
            "INSERT OR REPLACE INTO decisions VALUES (?, ?, ?, ?, ?, ?)",
            (
                fold.partition,
                record.offset,
                workflow_id,
                subject.run_id if subject else "",
                decision.at_ms,
                record.value,
            ),
        )
        self._db.execute(
            "UPDATE partitions SET decided_at_ms = ? WHERE partition = ?", (decision.at_ms, fold.partition)
        )
        self._cite(fold.partition, record.offset, decision)
        take_rates(self._db, decision, subject.started_at_ms if subject else 0)
        self._take_events(decision)

    def _load_workflow(self, workflow_id: str) -> Workflow | None:
        row = select_one(self._db, "SELECT state FROM workflows WHERE workflow_id = ? AND NOT forgotten", workflow_id)
        return decode_workflow(row[0]) if row else None

    def _cite(self, partition: int, offset: int, decision: Decision) -> None:
        cause = decision.cause
        if cause.source_topic:
            self._db.execute(
                "INSERT OR IGNORE INTO citations VALUES (?, ?, ?, ?, ?)",
                (cause.source_topic, cause.source_partition, cause.source_offset, partition, offset),
            )

    def _take_events(self, decision: Decision) -> None:
        workflow_id, at_ms = decision.workflow_id, decision.at_ms
        self._incidents.hear(workflow_id, decision.events)
        take_starts(self._db, workflow_id, decision.events)
        for event in decision.events:
            match event:
                case ApprovalRequested():
                    self._open_approval(workflow_id, at_ms, event)
                case ApprovalClosed():
                    self._close_approval(event.approval_id, at_ms, event.verdict, event.by, _closing_reason(event))
                    if event.answer_id:
                        self._insert_answer(
                            event.answer_id, event.approval_id, at_ms, "accepted", "accepted", "", event.by
                        )
                case VoteCast(vote=vote):
                    self._insert_answer(
                        vote.answer_id, event.approval_id, at_ms, "accepted", "counted", vote.reason, vote.by
                    )
                case DeadlineMoved():
                    self._move_deadline(at_ms, event)
                case QuestionAsked() | QuestionAnswered():
                    self._take_question(at_ms, event)
                # of a void vote the command has a row of its own
                case (
                    VoteTakenBack(why="person") | PayloadEdited() | NoteAdded() | ApprovalClaimed() | ApprovalReleased()
                ):
                    code = _WORD_CODES[type(event)]
                    self._insert_answer(event.answer_id, event.approval_id, at_ms, "accepted", code, "", event.by)
                case IncidentRaised() if event.approval_id:
                    self._close_approval(event.approval_id, at_ms, "", "", event.message)
                case ApprovalWithdrawn():
                    self._close_approval(event.approval_id, at_ms, "", "", event.reason)
                case AnswerRefused(answer_id=answer, approval_id=approval):
                    self._insert_answer(answer, approval, at_ms, "refused", event.code, event.message, event.by)
                case CommandAccepted(command_id=command):
                    self._insert_command(
                        command, workflow_id, at_ms, event.command, event.by, 1, "accepted", event.reason
                    )
                # of one that is repeated, what was decided when it came first has a row already
                case CommandRefused(command_id=command) if event.code != "repeated":
                    self._insert_command(
                        command, workflow_id, at_ms, event.command, event.by, 0, event.code, event.message
                    )
                case WorkflowEnded():
                    self._db.execute(
                        "UPDATE approvals SET closed_at_ms = ?, reason = 'the workflow ended' WHERE workflow_id = ? AND closed_at_ms IS NULL",
                        (at_ms, workflow_id),
                    )
                case _:
                    pass

    def _take_question(self, at_ms: int, event: QuestionAsked | QuestionAnswered) -> None:
        if isinstance(event, QuestionAsked) and event.deadline_at_ms is not None:
            self._db.execute(
                "UPDATE approvals SET deadline_at_ms = ? WHERE approval_id = ?",
                (event.deadline_at_ms, event.approval_id),
            )
        # an agent's answer is a result, and no record of the answers
        if event.answer_id:
            code = _WORD_CODES[type(event)]
            self._insert_answer(event.answer_id, event.approval_id, at_ms, "accepted", code, "", event.by)

    def _open_approval(self, workflow_id: str, at_ms: int, event: ApprovalRequested) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO approvals VALUES (?, ?, ?, ?, ?, ?, ?, NULL, '', '', '', ?, ?)",
            (
                event.approval_id,
                workflow_id,
                event.step,
                event.question,
                event.role,
                at_ms,
                event.deadline_at_ms,
                _encode_json(event),
                approval_ref(event.approval_id),
            ),
        )

    def _move_deadline(self, at_ms: int, event: DeadlineMoved) -> None:
        self._db.execute(
            "UPDATE approvals SET deadline_at_ms = ? WHERE approval_id = ?", (event.deadline_at_ms, event.approval_id)
        )
        # of an operator's order the command has a row of its own
        if event.answer_id:
            self._insert_answer(event.answer_id, event.approval_id, at_ms, "accepted", "extended", "", event.by)

    def _close_approval(self, approval_id: str, at_ms: int, verdict: str, by: str, reason: str) -> None:
        self._db.execute(
            "UPDATE approvals SET closed_at_ms = ?, verdict = ?, closed_by = ?, reason = ? WHERE approval_id = ?",
            (at_ms, verdict, by, reason, approval_id),
        )

    def _insert_answer(self, *row: str | int) -> None:
        # what counted stays: anybody may send another answer under its id, which is then refused
        self._db.execute(
            "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (answer_id, approval_id) DO UPDATE SET"
            " at_ms = excluded.at_ms, status = excluded.status, code = excluded.code, message = excluded.message,"
            " by = excluded.by WHERE answers.status <> 'accepted' OR excluded.status = 'accepted'",
            row,
        )

    def _insert_command(self, *row: str | int) -> None:
        self._db.execute("INSERT OR REPLACE INTO commands VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def _write_workflows(self, partition: int, touched: Iterable[str], state: PartitionState) -> None:
        for workflow_id in touched:
            # steps that have settled since have rows there, and would look open
            self._db.execute("DELETE FROM open_steps WHERE workflow_id = ?", (workflow_id,))
            workflow = state.workflows.get(workflow_id)
            if workflow is None:
                self._db.execute("UPDATE workflows SET forgotten = 1 WHERE workflow_id = ?", (workflow_id,))
            else:
                self._write_workflow(partition, workflow)

    def _write_workflow(self, partition: int, workflow: Workflow) -> None:
        open_steps = list(rows_of(workflow))
        self._db.execute(
            "INSERT OR REPLACE INTO workflows VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?)",
            (
                workflow.workflow_id,
                partition,
                workflow.run_id,
                workflow.route,
                workflow.status,
                workflow.started_at_ms,
                workflow.updated_at_ms,
                workflow.ended_at_ms,
                workflow.reason,
                sum(row.status == "incident" for row in open_steps),
                workflow.digest,
                None if workflow.pause is None else workflow.pause.at_ms,
                encode_workflow(workflow),
            ),
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO open_steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", open_steps
        )
        self._incidents.write(workflow, open_steps)

    def _write_partition(self, fold: PartitionFold) -> None:
        self._db.execute(
            "UPDATE partitions SET meta = ? WHERE partition = ?", (encode_meta(fold.state), fold.partition)
        )

    # The other topics -----------------------------------------------------------------------------

    def _apply_events(self, records: Sequence[Record]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (row for record in records for row in _event_rows(record)),
        )

    def _apply_dead_letters(self, records: Sequence[Record]) -> None:
        # the events topic keeps it for a shorter time, and may be read later
        self._db.executemany(
            "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            chain.from_iterable(map(_event_letters, records, repeat(self._topics.events))),
        )
        take_letters(self._db, records)

    def _apply_cards(self, records: Sequence[Record]) -> None:
        for record in records:
            try:
                card = decode_card(record)
            except MalformedRecord:
                continue  # a record that is not a card says nothing about any agent
            if card.registration and card.stopped:
                self._db.execute("DELETE FROM cards WHERE name = ? AND instance = ''", (card.name,))
                continue
            # A tombstone says only that the replica stopped: the rest is in its last card.
            if card.stopped and not card.topic:
                old = select_one(
                    self._db, "SELECT card FROM cards WHERE name = ? AND instance = ?", card.name, card.instance
                )
                if old is None:
                    continue
                card = msgspec.structs.replace(msgspec.json.decode(old[0], type=type(card)), stopped=True)
            self._db.execute(
                "INSERT OR REPLACE INTO cards VALUES (?, ?, ?, ?)",
                (card.name, card.instance, record.timestamp_ms, _encode_json(card)),
            )


_WORD_CODES: Final = {
    VoteTakenBack: "taken_back",
    PayloadEdited: "edited",
    QuestionAsked: "asked",
    QuestionAnswered: "informed",
    NoteAdded: "noted",
    ApprovalClaimed: "claimed",
    ApprovalReleased: "released",
}


def _closing_reason(event: ApprovalClosed) -> str:
    return event.reason or ("its deadline passed" if event.expired else "")


_EventRow = tuple[str, int, int, int, str, str, str, str, str, int]


def _event_rows(record: Record) -> Iterable[_EventRow]:
    try:
        return [_event_row(record, from_record(record))]
    except BatchOfEvents:
        return _batch_rows(record)
    except MalformedRecord as error:
        return [_problem_row(record, str(error))]


def _batch_rows(batch: Record) -> list[_EventRow]:
    rows = []
    try:
        for number, member in enumerate(members_of(batch), 1):
            try:
                rows.append(_event_row(member, from_record(member), number))
            except MalformedRecord as error:
                rows.append(_problem_row(member, str(error), number))
    except MalformedRecord as error:
        return [_problem_row(batch, str(error))]
    return rows


def _event_row(record: Record, event: dict[str, Any], member: int = 0) -> _EventRow:
    where = (record.topic, record.partition, record.offset, record.timestamp_ms)
    return (*where, event["id"], event["source"], event["type"], event.get("subject", ""), "", member)


def _problem_row(record: Record, problem: str, member: int = 0) -> _EventRow:
    where = (record.topic, record.partition, record.offset, record.timestamp_ms)
    name = event_id(record) or (f"{place_id(record)}/{member}" if member else place_id(record))
    return (*where, name, "", "", "", problem, member)


def _event_letters(record: Record, topic: str) -> Iterable[_EventRow]:
    """The event that is a dead letter; several of a batch; none if it was no event."""
    try:
        letter = decode_dead_letter(record)
    except MalformedRecord:
        return ()
    if letter.original.topic != topic:
        return ()
    member = member_number(letter.message)
    return [(*row[:-1], member or row[-1]) for row in _event_rows(letter.original)]
