"""Effects to records, whatever their kind.

The owner of a partition is its only caller, before it appends the decision.

Owns the choice; each kind's bytes are its own module's, except an emitted event's: those are
`cloudevents`', and here is what the mesh adds. An effect's id is a function of the decision, so
sending one twice shows.
"""

from typing import assert_never

from msgspec.structs import replace

from mesh.codec.approvals import encode_receipt, encode_request, receipt_id
from mesh.codec.cloudevents import to_record
from mesh.codec.commands import command_receipt_id, encode_command_receipt, encode_told_fork, told_fork_id
from mesh.codec.dead_letters import dead_letter_id, dead_letter_of_parked
from mesh.codec.delegations import encode_personal, personal_key
from mesh.codec.inbox import encode_inbox
from mesh.codec.open_approvals import encode_shown, shown_id
from mesh.codec.outcomes import encode_outcome, outcome_id
from mesh.codec.sealing import encode_key_deleted, key_name
from mesh.codec.tasks import encode_task
from mesh.codec.times import rfc3339
from mesh.codec.withdrawals import encode_withdrawal, withdrawal_id
from mesh.core.crossings import crossing_id
from mesh.core.effects import (
    AskApproval,
    DeleteKey,
    Effect,
    PublishEvent,
    PublishOutcome,
    SendDeadLetter,
    SendInput,
    SendPersonal,
    SendTask,
    TellForked,
    WithdrawTask,
)
from mesh.core.ids import attempt_id, partition_of_key
from mesh.core.open_approvals import ShowApproval
from mesh.core.receipts import SendCommandReceipt, SendReceipt
from mesh.core.topics import Topics
from mesh.ports import OutRecord


class EffectEncoder:
    """Encodes the effects of one partition. Results come back to the same partition."""

    __slots__ = ("_partition", "_partitions", "_topics")

    def __init__(self, topics: Topics, partition: int, partitions: int) -> None:
        self._topics = topics
        self._partition = partition
        self._partitions = partitions

    def encode(self, effect: Effect) -> OutRecord:
        match effect:
            case SendTask():
                return encode_task(effect, topics=self._topics, reply_partition=self._partition)
            case AskApproval():
                return encode_request(effect, topics=self._topics)
            case ShowApproval():
                return encode_shown(effect, topics=self._topics)
            case SendReceipt():
                return encode_receipt(effect, topics=self._topics)
            case SendCommandReceipt():
                return encode_command_receipt(effect, topics=self._topics)
            case PublishOutcome():
                return encode_outcome(effect, topics=self._topics)
            case PublishEvent():
                return encode_emitted(effect, topics=self._topics)
            case SendDeadLetter():
                return dead_letter_of_parked(effect, topics=self._topics)
            case SendInput():
                return self._input(effect)
            case WithdrawTask():
                return encode_withdrawal(effect, topics=self._topics)
            case SendPersonal():
                return encode_personal(effect.record, topics=self._topics, at_ms=effect.at_ms, is_said=True)
            case TellForked():
                return encode_told_fork(effect, topics=self._topics)
            case DeleteKey():
                return encode_key_deleted(
                    effect.workflow_id, effect.key, topics=self._topics, partition=self._partition
                )
            case _:
                assert_never(effect)

    def _input(self, effect: SendInput) -> OutRecord:
        # the core does not know the log's name; the receiver keeps a watermark for it (ADR 6)
        given = replace(effect.input, source_topic=self._topics.log, source_partition=self._partition)
        partition = partition_of_key(given.workflow_id.encode(), self._partitions)
        return encode_inbox(given, topic=self._topics.inbox, partition=partition)


def encode_emitted(effect: PublishEvent, *, topics: Topics) -> OutRecord:
    """An event that a workflow emits: a CloudEvent on `mesh.events`, as upstream's are.

    So it starts and moves other workflows. Key: the workflow that emits, so that its events keep
    their order. Raises `MalformedRecord` for what is not a CloudEvent.
    """
    event = {
        **effect.cloud_event,
        # of the decision, so that sending it again sends the same bytes
        "time": rfc3339(effect.at_ms),
        "correlationid": effect.workflow_id,
        "traceparent": effect.traceparent,
    }
    return to_record(event, topic=topics.events, key=effect.workflow_id.encode())


def effect_id(effect: Effect) -> str:
    """The effect's name for its receivers, and for operators if it can't be delivered."""
    match effect:
        case SendTask():
            return attempt_id(effect.task_id, effect.attempt)
        case AskApproval():
            return effect.approval_id
        case ShowApproval():
            return shown_id(effect)
        case SendReceipt():
            return receipt_id(effect)
        case SendCommandReceipt():
            return command_receipt_id(effect)
        case PublishOutcome():
            return outcome_id(effect)
        case PublishEvent():
            return str(effect.cloud_event["id"])
        case SendDeadLetter():
            return dead_letter_id(effect)
        case SendInput():
            return crossing_id(effect.input)
        case WithdrawTask():
            return withdrawal_id(effect)
        case SendPersonal():
            return personal_key(effect.record)
        case TellForked():
            return told_fork_id(effect)
        case DeleteKey():
            return key_name(effect.workflow_id, effect.key)
        case _:
            assert_never(effect)
