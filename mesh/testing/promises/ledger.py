"""What the logs of partitions say so far, for `mesh.testing.promises.judge`.

Owns these values alone. It judges nothing.
"""

from collections import defaultdict
from typing import Final, NamedTuple, get_args

from mesh.core.effects import (
    AskApproval,
    DeleteKey,
    Effect,
    PublishEvent,
    SendDeadLetter,
    SendInput,
    SendPersonal,
    SendTask,
    TellForked,
    WithdrawTask,
)
from mesh.core.events import Decision, InputAttempted, InputParked
from mesh.core.inputs import InboxInput, Input, ResultReceived, TimerDue, TimerKind
from mesh.core.open_approvals import ShowApproval
from mesh.core.receipts import SendCommandReceipt, SendReceipt
from mesh.core.replay import PartitionFold
from mesh.core.state import Pause, Workflow
from mesh.core.topics import Topics

Source = tuple[str, int, int, int]  # topic, partition, offset, index
Sent = tuple[str, str]  # topic, effect id

_TIMERS: Final = frozenset(get_args(TimerKind))


class PartitionLedger:
    """What the log of one partition says so far, and what it owes."""

    __slots__ = ("attempted", "claimed_ms", "decided", "fold", "inputs", "mark", "owed", "paused", "positions", "signs")

    def __init__(self, number: int) -> None:
        self.fold = PartitionFold(number)
        # None: it can't be read
        self.inputs: dict[tuple[str, int], InboxInput | ResultReceived | None] = {}
        self.signs: set[tuple[str, int]] = set()  # signs of life, which need no decision
        self.claimed_ms = 0  # when the broker took the claim of the owner in force
        self.decided: set[tuple[str, int]] = set()
        self.positions: dict[str, int] = {}
        self.paused: dict[str, Pause] = {}  # agents and routes, by target
        self.mark = 0
        # decided at this offset, and not yet seen at the broker
        self.owed: dict[Sent, tuple[int, Effect]] = {}
        # announced inputs, with the epochs that announced them
        self.attempted: defaultdict[tuple[str, int], set[str]] = defaultdict(set)


class Ledgers(dict[int, PartitionLedger]):
    """The ledgers of all partitions, by number. One begins when it is first asked for."""

    def __missing__(self, number: int) -> PartitionLedger:
        ledger = self[number] = PartitionLedger(number)
        return ledger


class Step(NamedTuple):
    """One effective decision, and what the log had before it. `where`: its place, for findings."""

    partition: PartitionLedger
    before: Workflow | None  # the decision's workflow
    decision: Decision
    offset: int
    where: str


def topic_of(effect: Effect, topics: Topics) -> str:
    """Where an effect goes."""
    match effect:
        case SendTask():
            return topics.tasks(effect.agent)
        case AskApproval():
            return topics.requests
        case ShowApproval():
            return topics.open_approvals
        case SendReceipt():
            return topics.receipts
        case SendCommandReceipt():
            return topics.command_receipts
        case SendDeadLetter():
            return topics.dlq
        case SendInput():
            return topics.inbox
        case PublishEvent():
            return topics.events
        case WithdrawTask():
            return topics.withdrawals
        case SendPersonal():
            return topics.delegations
        case TellForked():
            return topics.commands
        case DeleteKey():
            return topics.keys
        case _:
            return topics.outcomes


def input_of(partition: PartitionLedger, decision: Decision) -> Input | None:
    """What was decided on; None if that can't be told."""
    if any(isinstance(event, InputParked | InputAttempted) for event in decision.events):
        return None
    cause = decision.cause
    if cause.topic:
        return partition.inputs.get((cause.topic, cause.offset))
    if cause.kind != "timer":
        return None
    workflow_id, run, step, kind, due = cause.id.rsplit("/", 4)
    if kind not in _TIMERS:
        return None
    return TimerDue(
        due_at_ms=int(due),
        workflow_id=workflow_id,
        kind=kind,  # type: ignore[arg-type] # checked above
        step="" if step == "end" else step,
        run_id=run,
    )
