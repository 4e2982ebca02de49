"""The ports: what the mesh needs of the outside world, as protocols.

Owns the vocabulary between services and adapters. It must not know any broker. Adapters
(`mesh.adapters.kafka`, `.sqlite`, `.memory`) implement it, and each passes the contract suite in
`mesh.testing.broker_contract`. Everything here is bytes; meaning is the codec's.

Guarantees that every `Broker` gives
------------------------------------
* Order: records of one partition are read in the order of their offsets. Records that one caller
  sends to one partition, in one call or in calls awaited one after the other, land in the order
  given. A call that is begun after another keeps that order too.
* Offsets grow. A broker may have offsets that hold no record (a transaction's marker, what was
  compacted or rolled back), also at a partition's end. `Reader.position` says whether all up to an
  end was read; the last record never does.
* Only committed records are read, and an end lies before a transaction that is still open.
* Timestamps are the broker's (`LogAppendTime`), in milliseconds since the epoch. Within a partition
  they do not fall by more than the broker's own clock does.
* Partition of a key: `mesh.core.ids.partition_of_key` (murmur2, as Kafka's Java client), on every
  broker.
* Delivery to a group is at least once.
"""

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

import msgspec

from mesh import defaults

__all__ = [
    "AboutBroker",
    "Appended",
    "Broker",
    "Checkpoint",
    "CheckpointStore",
    "Clock",
    "Committed",
    "Delivery",
    "Entropy",
    "GroupListener",
    "Header",
    "OutRecord",
    "Reader",
    "Record",
    "SendFailure",
    "Subscription",
    "TopicInfo",
    "TopicPartition",
    "TopicSpec",
    "UnreadableRecords",
]

Header = tuple[str, bytes]


class TopicPartition(NamedTuple):
    topic: str
    partition: int


class Record(msgspec.Struct, frozen=True, gc=False):
    """A record as read. `value` None is a tombstone. `timestamp_ms`: when the broker took it."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...]


class UnreadableRecords(Record, frozen=True, gc=False):
    """Takes the place of records that are there and that nobody can decode.

    The batch is damaged, or its codec is unknown. `offset` is the last of them, `first_offset` the
    first. Without key, value and headers it is something its topic never holds, so its reader finds
    it malformed, and passes on.
    """

    first_offset: int
    reason: str

    @property
    def message(self) -> str:
        """What a person needs to know of it."""
        last = f" to {self.offset}" if self.offset != self.first_offset else ""
        return (
            f"the records at {self.topic}/{self.partition}, offset {self.first_offset}{last}, can't be decoded "
            f"({self.reason}); they stay on the broker, and reading went on behind them"
        )


class OutRecord(msgspec.Struct, frozen=True, gc=False):
    """A record to send. With `partition` None the key decides (no key: any partition)."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[Header, ...] = ()
    partition: int | None = None

    def size_bytes(self) -> int:
        """An upper estimate of what the broker counts.

        Key, value, headers and 100 bytes of framing.
        """
        size = 100 + len(self.key or b"") + len(self.value or b"")
        # a plain loop: twice as fast as a sum over a chain, and every record is counted
        for name, value in self.headers:
            size += len(name) + len(value) + 10
        return size


class Delivery(StrEnum):
    """Why a record can never be sent: sending it again would fail again."""

    TOPIC_MISSING = "topic_missing"
    TOO_LARGE = "too_large"
    REFUSED = "refused"  # the broker said no: authorisation, policy, an invalid record


class SendFailure(msgspec.Struct, frozen=True):
    """One record of a `send` that can never be sent. `index` is its place in the call's records."""

    index: int
    code: Delivery
    message: str


class Appended(msgspec.Struct, frozen=True):
    """What the broker acknowledged of an append.

    `spans`: (first offset, count) in the order appended. The counts add up to the number of
    decisions. If a compare-and-append broker refused the append because the log's end was not at
    the expected offset, `spans` is empty, `refused` is true, and nothing was written.
    `effects_sent`: the effects went with the append in one atomic step; else the caller sends them
    after its check. `failures`: effects that can never be sent, if `effects_sent`. `timestamp_ms`:
    the broker's clock at the last record.
    """

    spans: tuple[tuple[int, int], ...]
    effects_sent: bool
    timestamp_ms: int
    refused: bool = False
    failures: tuple[SendFailure, ...] = ()


class TopicSpec(msgspec.Struct, frozen=True):
    """A topic to create.

    `config` uses Kafka's names (`retention.ms`, `cleanup.policy`, `message.timestamp.type`).
    """

    name: str
    partitions: int
    replicas: int = defaults.REPLICAS
    config: dict[str, str] = {}


class TopicInfo(msgspec.Struct, frozen=True):
    name: str
    partitions: int
    config: dict[str, str] = {}


class AboutBroker(msgspec.Struct, frozen=True, kw_only=True):
    """What a broker says of itself, as far as we may know it.

    `settings`: its own, by Kafka's names, of those that bear on a mesh. `unknown`: why they are not
    known; empty if they are, or if the broker has none.
    """

    product: str
    version: str = ""
    nodes: int = 1
    settings: dict[str, str] = {}
    unknown: str = ""


class Committed(NamedTuple):
    """A group's position.

    The offset of the next record to read, and up to 4,096 bytes of the reader's own text beside it.
    """

    offset: int
    metadata: str = ""


class Reader(Protocol):
    """Reads partitions from given offsets, outside any group."""

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read these partitions, and no others, from these offsets on.

        An offset below the partition's first reads from the first.
        """
        ...

    async def poll(
        self, *, max_records: int, timeout_s: float, partitions: Sequence[TopicPartition] | None = None
    ) -> Sequence[Record]:
        """Up to `max_records` records as soon as there are any; none after `timeout_s`.

        Of `partitions` alone, if given. Records of one partition are in order. Records that a call
        did not return come with a later one. Cancelling loses none.
        """
        ...

    def position(self, partition: TopicPartition) -> int:
        """The offset from which an assigned partition is read on.

        All records below it have been returned by `poll`, or there are none.
        """
        ...

    async def close(self) -> None: ...


class GroupListener(Protocol):
    """Hears of changes to a group member's partitions.

    An exception that it raises ends the subscription: the next `poll` raises it.
    """

    async def on_assigned(self, partitions: Mapping[TopicPartition, Committed | None]) -> None:
        """These partitions are ours from now on. `partitions` has what the group had committed.

        No record of them is handed out before this returns.
        """
        ...

    async def on_revoked(self, partitions: Sequence[TopicPartition]) -> None:
        """These partitions go to another member when this returns.

        The session's time-out bounds it. Commits are still taken in here. It is not called for
        partitions that were lost to a time-out before we knew: then another member may already have
        them.
        """
        ...


class Subscription(Protocol):
    """One member of a consumer group.

    Begins where the group committed, else at the first record.
    """

    async def poll(self, *, max_records: int, timeout_s: float) -> Sequence[Record]:
        """Take the next records, as `Reader.poll` does.

        Must be called often enough, even while everything is paused: each `poll` also serves the
        membership.
        """
        ...

    def assignment(self) -> frozenset[TopicPartition]: ...

    def position(self, partition: TopicPartition) -> int | None:
        """The next offset to read, as in `Reader`; None where it is not ours, or not known yet."""
        ...

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        """Hand out no more records of these partitions until `resume`. Nothing is lost."""
        ...

    def resume(self, partitions: Sequence[TopicPartition]) -> None: ...

    async def commit(self, offsets: Mapping[TopicPartition, Committed]) -> frozenset[TopicPartition]:
        """Record the group's positions. Returns the partitions whose position counts.

        A commit for a partition that is no longer ours is ignored, not an error.
        """
        ...

    async def confirm(self) -> frozenset[TopicPartition]:
        """Ask the broker which partitions are ours as of now.

        For a process that was stopped, or whose event loop was, and that may have lost its share
        without knowing. What is lost leaves `assignment` without a word to the listener. Raises
        `BrokerUnavailable`.
        """
        ...

    async def close(self) -> None:
        """Call `on_revoked` for what is held, and leave the group.

        The others can then take over at once.
        """
        ...


class Broker(Protocol):
    """A connection to one broker: a Kafka cluster, one SQLite file, or one memory broker.

    Opened by `mesh.wiring.open_broker`.
    """

    has_own_clock: bool  # its timestamps are of another machine's clock than this process's
    max_record_bytes: int  # what `OutRecord.size_bytes` may be at the most

    async def topics(self, *, configs_of: Collection[str] = ()) -> Mapping[str, TopicInfo]:
        """All topics by name.

        `configs_of`: the topics whose `config` is wanted. For others it may be empty, because a
        shared broker has a lot to send.
        """
        ...

    async def cluster_id(self) -> str:
        """What names this broker among all, permanently.

        A cluster has its own id, and so has each file. Answers that people sign name it.
        """
        ...

    async def about(self) -> AboutBroker:
        """What the broker says of itself. For `mesh doctor`."""
        ...

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        """Create those that do not exist. The others stay as they are."""
        ...

    async def send(self, records: Sequence[OutRecord]) -> Sequence[SendFailure]:
        """Send, and wait until the broker has acknowledged each one.

        Returns those that can never be sent (the others landed). Raises `BrokerUnavailable` if the
        outcome of any is unknown: sending all of them again is then right.
        """
        ...

    async def append(
        self,
        log: TopicPartition,
        expected_offset: int | None,
        decisions: Sequence[OutRecord],
        effects: Sequence[OutRecord],
    ) -> Appended:
        """Append decisions to a log partition at `expected_offset`, and send their effects.

        The effects are sent only if that can be one atomic step.

        With None: append wherever the log ends (only `OwnerChanged` does so). A broker that can't
        compare (Kafka) appends, and the caller checks the acknowledged offsets.

        Two calls may be under way at once for one partition. The second lands after the first, or
        not at all. After an append that was refused, or whose outcome is unknown, this connection's
        appends at an offset fail unmade until one with None begins afresh: they rest on what may
        never land, and must not be taken because the log happens to end where they expect it.
        Raises `BrokerUnavailable` if the outcome is unknown, `TopicMissing` if there is no such
        log.
        """
        ...

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The offset that the next record will get.

        It is as of a moment after the call began. If a transaction is open, it is that of its first
        record.
        """
        ...

    async def begin_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The first offset still held."""
        ...

    async def offsets_at(self, partitions: Sequence[TopicPartition], timestamp_ms: int) -> Mapping[TopicPartition, int]:
        """The first offset whose timestamp is at or after `timestamp_ms`.

        If there is none, the end offset.
        """
        ...

    async def committed(
        self, group: str, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, Committed | None]: ...

    async def reader(self) -> Reader: ...

    async def subscribe(
        self,
        group: str,
        topics: Sequence[str],
        listener: GroupListener,
        *,
        member: str,
        fetch: bool = True,
        session_timeout_s: float = defaults.SESSION_TIMEOUT_S,
    ) -> Subscription:
        """Join a group.

        With `fetch` false it only takes part in the sharing of partitions and hands out no record.
        `member` names this process in logs and to operators. A member that is not heard of for
        `session_timeout_s` loses its partitions.
        """
        ...

    async def close(self) -> None: ...


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A partition's confirmed state as it was at a log offset.

    A cache: it can be made again from the log. `offset`: the log's next offset to read. The rest is
    the codec's: `epoch_tokens` and `meta` whole, workflows by id.
    """

    offset: int
    epoch_tokens: bytes
    meta: bytes
    workflows: dict[str, bytes]


class CheckpointStore(Protocol):
    """Where one partition's checkpoint is kept, on this machine.

    Written in portions, none of which counts before the last: call `put` as often as needed, then
    `save`.
    """

    def load(self) -> Checkpoint | None:
        """The last checkpoint saved; None if there is none, or none that can be read.

        What was put and not saved is dropped.
        """
        ...

    def put(self, changed: Mapping[str, bytes], removed: Collection[str]) -> None:
        """Take a portion of the next checkpoint: workflows by id that differ from the last one.

        After an error nothing of it is kept.
        """
        ...

    def save(self, *, offset: int, epoch_tokens: bytes, meta: bytes) -> None:
        """Make all that was put since the last one the checkpoint at `offset`, in one atomic step.

        After an error nothing of it is kept.
        """
        ...

    def delete(self) -> None:
        """Forget everything."""
        ...

    def close(self) -> None: ...


class FileStore(Protocol):
    """Files in a folder or below a URL, each written once and whole. As text: where that is.

    Its methods raise `OperatorError` with what to do next, and `NotFound` for what is not there.
    """

    def names(self) -> list[str]:
        """All files, sorted."""
        ...

    def read(self, name: str, begin: int = 0, length: int | None = None) -> bytes: ...

    def create(self, name: str, content: bytes) -> bool:
        """Write a file. It is durable when this returns. False: there is one of this name."""
        ...

    def tidy(self) -> None:
        """Remove what a process that died has half written. The caller alone writes here."""
        ...


class Clock(Protocol):
    """Wall time.

    Waiting is asyncio's (a simulation brings its own event loop, whose time is virtual).
    """

    def now_ms(self) -> int:
        """Milliseconds since the epoch, UTC."""
        ...


class Entropy(Protocol):
    """Fresh randomness: 128 bits in 32 hexadecimal digits."""

    def token(self) -> str: ...
