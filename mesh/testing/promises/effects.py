"""Judges effects: what leaves was decided in the log before, and what is decided leaves.

Owns this part of what `mesh.testing.promises.judge` checks.

* no effect is sent that no effective decision says
* the mark covers no effect that has not reached the broker
* a record to another workflow says what was decided, and overtakes none that was counted before it
* what is decided and not sent is owed, until a new owner has no need of it
"""

from collections import Counter
from collections.abc import Callable, Iterable

from msgspec.structs import replace

from mesh.codec.effects import effect_id
from mesh.core import ids
from mesh.core.crossings import Crossing
from mesh.core.effects import AskApproval, Effect, SendInput, SendTask
from mesh.core.topics import Topics
from mesh.ports import Record
from mesh.testing.promises.ledger import Ledgers, PartitionLedger, Sent, Step, topic_of


class EffectLedger:
    """What is decided, and what the broker took of it.

    `afterwards`: records do not come in the order in which they landed. `partitions`: how many the
    inbox has, as the log's newest claim says.
    """

    def __init__(self, topics: Topics, ledgers: Ledgers, find: Callable[[str], None], *, afterwards: bool) -> None:
        self.partitions = 0
        self._topics = topics
        self._ledgers = ledgers
        self._find = find
        self._afterwards = afterwards
        self._sent: Counter[Sent] = Counter()
        self._decided: set[Sent] = set()

    def decided(self, step: Step, made: Iterable[Effect]) -> None:
        """An effective decision is in the log: its effects are owed."""
        for effect in made:
            sent = (topic_of(effect, self._topics), _name(effect, step.partition.fold.partition))
            self._decided.add(sent)
            if not (self._afterwards and sent in self._sent):
                step.partition.owed[sent] = (step.offset, effect)

    def took(self, sent: Sent) -> None:
        """The broker has taken this effect."""
        self._sent[sent] += 1
        if self._afterwards:
            return
        if sent not in self._decided:
            self._find(_phantom(sent))
            return
        for partition in self._ledgers.values():
            partition.owed.pop(sent, None)

    def crossing(self, record: Record, given: Crossing) -> None:
        """Take an input that another workflow's decision has sent to an inbox.

        It is an input there, and an effect of the sender.
        """
        sender, place = given.source_partition, given.source_offset
        for (_, name), (_, one) in self._ledgers[sender].owed.items():
            if self._afterwards or not isinstance(one, SendInput) or one.input.source_offset > place:
                continue
            if one.input.source_offset == place:
                told = replace(one.input, source_topic=given.source_topic, source_partition=sender)
                if told != given:
                    self._find(f"{record.topic}/{record.partition}/{record.offset}: {name} says another thing")
            elif self._inbox_of(one) == record.partition:
                self._find(f"{record.topic}/{record.partition}: {sender}/{place} has overtaken {name}")
        self.took((record.topic, f"{sender}/{place}"))

    def _inbox_of(self, effect: SendInput) -> int:
        return ids.partition_of_key(effect.input.workflow_id.encode(), self.partitions)

    def check_mark(self, step: Step) -> None:
        partition, decision, where = step.partition, step.decision, step.where
        mark = decision.mark
        if not partition.mark <= mark <= step.offset:
            self._find(f"{where}: the mark goes from {partition.mark} to {mark}")
        partition.mark = mark
        if decision.cause.kind == "undeliverable":  # its undeliverability is decided, so it is owed no longer
            undeliverable = decision.cause.id
            for sent in [sent for sent, (_, one) in partition.owed.items() if effect_id(one) == undeliverable]:
                del partition.owed[sent]
        for (topic, name), (at, _) in partition.owed.items():
            if at >= mark:
                break
            self._find(f"{where}: the mark {mark} covers {topic} {name} of {at}, which has not been sent")

    def excuse(self, partition: PartitionLedger) -> None:
        """No longer expect effects that a new owner does not send again.

        It sends tasks and questions again only for steps that still wait for them.
        """
        for sent, (_, effect) in list(partition.owed.items()):
            if not isinstance(effect, SendTask | AskApproval):
                continue
            workflow = partition.fold.state.workflows.get(effect.workflow_id)
            step = workflow.steps.get(effect.step) if workflow else None
            if isinstance(effect, SendTask):
                waits = ("running", effect.task_id, effect.attempt)
                is_wanted = step is not None and (step.status, step.task_id, step.attempt) == waits
            else:
                is_wanted = step is not None and (step.status, step.task_id) == ("asking", effect.approval_id)
            if not is_wanted:
                del partition.owed[sent]

    def unsent(self) -> list[str]:
        """Findings on effects that the log has and the broker has not.

        Also the other way round, if that could not be told at once.
        """
        owed = [
            f"lost: {topic} {name}, decided at log {number}/{offset}, was never sent"
            for number, partition in sorted(self._ledgers.items())
            for (topic, name), (offset, _) in partition.owed.items()
        ]
        return owed + [_phantom(sent) for sent in self._sent if sent not in self._decided]


def _phantom(sent: Sent) -> str:
    topic, name = sent
    return f"phantom: {topic} {name} was sent, and no effective decision in the log says so"


def _name(effect: Effect, number: int) -> str:
    """What an effect of partition `number` is known by.

    A record to another workflow is known by its place in the sender's sequence.
    """
    return f"{number}/{effect.input.source_offset}" if isinstance(effect, SendInput) else effect_id(effect)
