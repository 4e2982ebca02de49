"""Taking partitions over, all new ones of a router at once.

    1  append `OwnerChanged` with a fresh token to each log partition
    2  read each from its checkpoint (or from the mark, if that is lower) up to that record: the
       fold
    3  send again the effects from the mark on, before anything new: tasks and questions only for
       steps that still wait
    4  own

Any trouble on the way leaves the owner lost, and the router begins again with a new one.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from mesh.codec.effects import EffectEncoder
from mesh.codec.log import decode_log_record, encode_owner_changed
from mesh.codec.open_approvals import placed
from mesh.codec.sealing import Key
from mesh.core.clock import Sighting
from mesh.core.effects import Effect, WithdrawTask, effects
from mesh.core.events import Decision, LogRecord, OwnerChanged
from mesh.core.open_approvals import ShowApproval
from mesh.core.replay import PartitionFold
from mesh.core.topics import Topics
from mesh.core.wanted import is_wanted
from mesh.errors import BrokerError, BrokerRefused, BrokerUnavailable, LogError, PartitionsDiffer
from mesh.ports import Broker, CheckpointStore, Clock, OutRecord, Reader, Record, TopicPartition
from mesh.services.router.checkpoint import load_fold
from mesh.services.router.clock import Sight, blind
from mesh.services.router.config import RouterConfig
from mesh.services.router.confirmed_state import Confirmed
from mesh.services.router.flight import must_not_be_passed_over, undeliverable
from mesh.services.router.owner import Owner
from mesh.services.vault import Vault

_log = structlog.get_logger()
_READ_TIMEOUT_S: Final = 30.0
_BREATHE_EVERY: Final = 500
"""Records folded between two turns of the event loop: heartbeats run in it."""


class _Candidate:
    """An owner during its take-over.

    It has its fold, and the decisions whose effects may be sent again.
    """

    __slots__ = (
        "changed",
        "effective",
        "fold",
        "keys",
        "origin",
        "owner",
        "seen",
        "seen_at_claim",
        "seen_before",
        "spans",
        "store",
        "until",
    )

    def __init__(
        self, owner: Owner, store: CheckpointStore | None, seen: Sighting | None, keys: Mapping[str, Key]
    ) -> None:
        self.owner = owner
        self.keys = keys  # of private workflows, as far as they are read
        self.store = store
        self.fold, self.spans, self.origin = load_fold(owner.partition, store, keys)
        self.until = -1
        self.seen = seen  # of this machine
        self.seen_before: Sighting | None = None  # of the owner before us
        self.seen_at_claim: Sighting | None = None  # of this machine, when the broker had taken our claim
        # from the mark on, as far as it is known
        self.effective: deque[tuple[int, Decision]] = deque()
        self.changed: set[str] = set()  # workflows that the checkpoint does not have as they are

    def verify(self, first: LogRecord) -> None:
        """Compare the log's first record with the one that the checkpoint's log began with."""
        origin = first.token if isinstance(first, OwnerChanged) else first.epoch
        # A checkpoint that is further on than our claim is of a longer
        # log: an older copy was restored.
        if self.origin != origin or self.fold.next_offset > self.until:
            if self.origin:
                _log.warning("checkpoint_of_another_log", partition=self.owner.partition)
            if self.store is not None:
                self.store.delete()  # or its workflows would stay among ours
            self.fold, self.spans, self.origin = PartitionFold(self.owner.partition), [], origin

    def check_clock(self, clock: Clock, sight: Sight) -> None:
        """Look whether the clock has jumped since the last owner, or since our claim."""
        owner = self.owner
        if not owner.is_lost():
            seen = sight()
            owner.clock.check_since_claim(self.seen_at_claim, seen)
            owner.clock.check_since_last_owner(
                clock.now_ms(), owner.state.at_ms, self.seen_before, seen, claimed=self.seen
            )

    @property
    def start(self) -> int:
        # below the checkpoint, the log is read for effects that may not have been sent
        return min(self.fold.state.mark, self.fold.next_offset)

    def feed(self, offset: int, decision: LogRecord, partitions: int) -> None:
        """Fold one record. Records below the checkpoint are read only for their effects."""
        if isinstance(decision, OwnerChanged) and decision.partitions != partitions:
            raise PartitionsDiffer(
                f"the log was written with {decision.partitions} partitions, and this router is set to {partitions}: "
                f"set MESH_PARTITIONS={decision.partitions}"
            )
        # our own claim, which is folded next, takes its place
        if offset == self.until:
            self.seen_before = self.fold.state.seen
        if offset < self.fold.next_offset:
            # Which epoch was in force down here is not folded again; the
            # checkpoint's spans say what counted.
            if isinstance(decision, Decision) and any(start <= offset < stop for start, stop in self.spans):
                self.effective.append((offset, decision))
        elif self.fold.apply(offset, decision) and isinstance(decision, Decision):
            self.effective.append((offset, decision))
            self.changed.add(decision.workflow_id)
            # the mark has passed these, so their effects are known to be sent
            while self.effective[0][0] < self.fold.state.mark:
                self.effective.popleft()

    def owed(self) -> list[tuple[int, Effect]]:
        """Effects from the mark on that are still wanted.

        Each comes with the log offset of its decision.
        """
        state = self.fold.state
        return [
            (offset, effect)
            for offset, decision in self.effective
            if offset >= state.mark
            for effect in effects(decision)
            if is_wanted(effect, state.workflows.get(effect.workflow_id))
        ]


async def take_over(
    owners: Sequence[Owner],
    *,
    broker: Broker,
    topics: Topics,
    config: RouterConfig,
    clock: Clock,
    stores: Mapping[int, CheckpointStore],
    sight: Sight = blind,
) -> None:
    """Make every owner ready, or lost.

    Raises `PartitionsDiffer`, `UnknownFormat` and `BrokerRefused`: then the router must stop.
    """
    candidates: dict[int, _Candidate] = {}
    vault = Vault(broker, topics)
    try:
        for owner in owners:
            candidate = _Candidate(owner, stores.get(owner.partition), sight(), vault.keys)
            # its checkpoint has states that are sealed
            if candidate.fold.unreadable:
                await vault.refresh()
                candidate = _Candidate(owner, candidate.store, candidate.seen, vault.keys)
            candidates[owner.partition] = candidate
            await asyncio.sleep(0)  # a checkpoint may be large, and heartbeats run in this loop
        await asyncio.gather(*(_claim(c, broker, topics, config, clock, sight=sight) for c in candidates.values()))
        await _read_logs(candidates, broker, topics, config, vault)
        # Before the owner may decide: a record for another workflow that is sent again must not
        # come behind a newer one, or its receiver takes it for a repeat (docs/adr/0006).
        await _send_owed(list(candidates.values()), broker, topics, config)
        await _skip_what_is_gone(owners, broker, topics)
        # Nothing is awaited from here on, so the watch of the clock has these owners at once, and a
        # jump is noted here or there.
        for candidate in candidates.values():
            candidate.check_clock(clock, sight)
        for owner in owners:
            # Last of all: each period begins again now, and reading the log may have taken a while.
            owner.deadlines.signs.rebuild(owner.state.workflows.values(), clock.now_ms() + owner.clock.offset_ms)
    # a `BrokerError`, too, but a new owner would be refused like this one
    except BrokerRefused:
        raise
    except BrokerError as error:
        for owner in owners:
            owner.lose(f"taking over failed: {error}")
    finally:
        await vault.close()


async def _claim(
    candidate: _Candidate,
    broker: Broker,
    topics: Topics,
    config: RouterConfig,
    clock: Clock,
    *,
    sight: Sight = blind,
) -> None:
    owner, seen = candidate.owner, candidate.seen
    record = OwnerChanged(
        token=owner.ownership.token,
        owner=config.instance,
        partitions=config.partitions,
        format_level=config.format_level,
        at_ms=clock.now_ms() if seen is None else seen.at_ms,
        boot="" if seen is None else seen.boot,
        uptime_ms=0 if seen is None else seen.uptime_ms,
    )
    encoded = encode_owner_changed(record, topic=topics.log, partition=owner.partition)
    # a claim expects no offset: it lands wherever the log ends
    appended = await broker.append(owner.log, None, [encoded], ())
    candidate.seen_at_claim = sight()
    owner.clock.correct(appended.timestamp_ms, clock.now_ms())
    candidate.until = appended.spans[0][0]
    owner.ownership.claimed(candidate.until)


async def _read_logs(
    candidates: Mapping[int, _Candidate], broker: Broker, topics: Topics, config: RouterConfig, vault: Vault
) -> None:
    reader = await broker.reader()
    try:
        for record in await _read_first(reader, candidates, broker, topics):
            candidates[record.partition].verify(decode_log_record(record))
            if record.offset > candidates[record.partition].start:
                raise LogError(
                    f"{topics.log}/{record.partition} begins at {record.offset}, and this router needs it from "
                    f"{candidates[record.partition].start} on: the log is kept forever; restore it, and set its retention.ms to -1"
                )
        reader.assign({TopicPartition(topics.log, p): c.start for p, c in candidates.items()})
        pending = {p for p, c in candidates.items() if c.fold.next_offset <= c.until}
        while pending:
            partitions = [TopicPartition(topics.log, p) for p in sorted(pending)]
            records = await reader.poll(max_records=_BREATHE_EVERY, timeout_s=_READ_TIMEOUT_S, partitions=partitions)
            if not records:
                raise BrokerUnavailable(f"{topics.log} can't be read to the end of partitions {sorted(pending)}")
            for record in await vault.open(records):
                candidate = candidates[record.partition]
                # What lies behind our claim is not folded: the first
                # acknowledgement shows it as a gap.
                if record.offset <= candidate.until:
                    candidate.feed(record.offset, decode_log_record(record), config.partitions)
            pending = {p for p in pending if candidates[p].fold.next_offset <= candidates[p].until}
            await asyncio.sleep(0)
    finally:
        await reader.close()
    for candidate in candidates.values():
        _move_in(candidate)


async def _read_first(
    reader: Reader, candidates: Mapping[int, _Candidate], broker: Broker, topics: Topics
) -> list[Record]:
    """The first record of each log partition. There is one, because each has at least our own."""
    reader.assign(await broker.begin_offsets([TopicPartition(topics.log, p) for p in candidates]))
    first: dict[int, Record] = {}
    while len(first) < len(candidates):
        missing = [TopicPartition(topics.log, p) for p in candidates if p not in first]
        records = await reader.poll(max_records=len(missing), timeout_s=_READ_TIMEOUT_S, partitions=missing)
        if not records:
            raise BrokerUnavailable(f"{topics.log} can't be read at its begin; is the broker well?")
        for record in records:
            # a poll may bring several records of one partition
            first.setdefault(record.partition, record)
    return list(first.values())


def _move_in(candidate: _Candidate) -> None:
    """Make the fold the owner's state."""
    owner, fold = candidate.owner, candidate.fold
    if fold.unreadable:
        raise LogError(
            f"{len(fold.unreadable)} private workflows of partition {owner.partition} can't be read, as {min(fold.unreadable)}, "
            "and nobody has erased them: their keys are missing. Restore the topic of keys, or see docs/retention.md"
        )
    lost = owner.ownership.caught_up(fold.epochs)
    if lost is not None:
        owner.lose(lost.reason)
        return
    confirmed = Confirmed.of_fold(
        fold,
        changed=candidate.changed,
        effective=[offset for offset, _ in candidate.effective],
        origin=candidate.origin,
    )
    owner.move_in(fold.state, confirmed)
    # of those that are remembered
    live = (key for key in candidate.keys.values() if key.workflow_id in fold.state.workflows)
    owner.keys.update((key.workflow_id, key) for key in live)


async def _send_owed(candidates: Sequence[_Candidate], broker: Broker, topics: Topics, config: RouterConfig) -> None:
    owed: list[tuple[_Candidate, int, Effect, OutRecord]] = []
    for candidate in candidates:
        encoder = EffectEncoder(topics, candidate.owner.partition, config.partitions)
        for at, effect in candidate.owed():
            record = encoder.encode(effect)
            owed.append((candidate, at, effect, placed(record, at) if isinstance(effect, ShowApproval) else record))
    failures = await broker.send([record for *_, record in owed]) if owed else ()
    if owed:
        _log.info("effects_sent_again", count=len(owed))
    for failure in failures:
        candidate, at, effect, record = owed[failure.index]
        if isinstance(effect, WithdrawTask):  # it saves work, and nobody waits for it
            continue
        if must_not_be_passed_over(effect, failure):
            candidate.owner.lose(f"{record.topic} does not take what is owed to other workflows: {failure.message}")
        candidate.owner.own_inputs.offer(undeliverable(effect, record, failure), at)
    with_effects = {candidate.owner.partition for candidate, *_ in owed}
    for candidate in candidates:
        owner = candidate.owner
        # all effects from before our claim are sent now, or wait as inputs that hold the mark back
        owner.acknowledge_effects(candidate.until + 1, had_effects=owner.partition in with_effects)


async def _skip_what_is_gone(owners: Sequence[Owner], broker: Broker, topics: Topics) -> None:
    """If an input topic no longer has our next record, begin at the first that it still has."""
    inputs = [TopicPartition(topic, owner.partition) for owner in owners for topic in (topics.results, topics.inbox)]
    sources = {_source(name) for owner in owners for name in owner.state.watermarks}
    there = await broker.topics()
    # Logs are left out: records from them are counted by sequences, which are not offsets.
    known = sorted(tp for tp in sources if tp.topic in there and tp.topic != topics.log)
    begins, ends = await broker.begin_offsets(inputs), await broker.end_offsets([*inputs, *known])
    for owner in owners:
        for topic in (topics.results, topics.inbox):
            tp, position = TopicPartition(topic, owner.partition), owner.state.positions.get(topic, 0)
            if begins[tp] <= position <= ends[tp]:
                owner.inputs.read[topic] = position
                continue
            # A topic that ends before what was read of it has been created again. All that it holds
            # now is unread, and says nothing about what was read before.
            if position > ends[tp]:
                _log.error("topic_made_anew", topic=topic, partition=owner.partition, read=position, end=ends[tp])
            # at 0 nothing was ever read, so it is not known that anything is lost
            elif position:
                _log.error("inputs_gone", topic=topic, partition=owner.partition, count=begins[tp] - position)
            owner.state.positions = {**owner.state.positions, topic: begins[tp]}
            owner.inputs.read[topic] = begins[tp]
        for name, (offset, _) in list(owner.state.watermarks.items()):
            end = ends.get(_source(name))
            if end is not None and offset >= end:
                _log.error("topic_made_anew", topic=name, partition=owner.partition, read=offset + 1, end=end)
                # the new topic's offsets begin again, and the old watermark would pass over all of
                # them
                del owner.state.watermarks[name]


def _source(name: str) -> TopicPartition:
    """The source partition that a watermark is of: `<topic>/<partition>`."""
    topic, _, partition = name.rpartition("/")
    return TopicPartition(topic, int(partition))
