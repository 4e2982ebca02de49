"""A Kafka cluster to ask (topics, offsets, groups' positions), and how every client connects.

Owns the questions that are repeated until they are answered or their time is over, and what is
known of topics. It sends and reads no records. Called by `broker`; `producers` and `consumers` use
its names and waits.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka import errors as kafka_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.errors import KafkaError

from mesh.adapters.kafka.clients import ailment, end
from mesh.adapters.kafka.connections import failures
from mesh.adapters.kafka.security import UNAUTHORISED, Security, is_login_refused, login_refused, right_refused
from mesh.errors import BrokerError, BrokerUnavailable, TopicMissing
from mesh.ports import AboutBroker, Committed, TopicInfo, TopicPartition, TopicSpec

T = TypeVar("T")

_log = structlog.get_logger(__name__)

BACKOFF_S = 0.1
_FETCH_WAIT_S = 0.1  # a seek or a new assignment waits for the fetch under way, so it must be short
_LOOK_S = 2.0
_NAMED = 3  # topics in a message
_COUNTS_MAX_AGE_S = 300.0  # as aiokafka's own metadata
_DYNAMIC_TOPIC_CONFIG = 1  # Kafka's DescribeConfigs: the value was set on the topic itself
_SHOWN_CONFIGS = frozenset(
    {
        "cleanup.policy",
        "compression.type",
        "max.message.bytes",
        "message.timestamp.type",
        "min.insync.replicas",
        "retention.ms",
    }
)
_VERSION_SETTING = "inter.broker.protocol.version"  # Kafka 4 has none
_BROKER_SETTINGS = frozenset(
    {
        _VERSION_SETTING,
        "auto.create.topics.enable",
        "message.max.bytes",
        "min.insync.replicas",
        "offsets.retention.minutes",
        "unclean.leader.election.enable",
    }
)


class Cluster:
    """Connected by `connect`; `close` it. Questions raise `BrokerUnavailable` after `timeout_s`."""

    def __init__(self, bootstrap: str, *, client_id: str, timeout_s: float, security: Security | None = None) -> None:
        self.name = f"Kafka at {bootstrap}"
        self.security = security or Security()
        self._security_options = self.security.client_options()
        self.timeout_s = timeout_s
        self.counts: Mapping[str, int] = {}
        """Partitions of each topic, as of the last look."""
        self._counts_at = 0.0
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._admin: Any = None
        self._offsets: Any = None
        self._admin_starting = asyncio.Lock()
        self._offsets_starting = asyncio.Lock()

    # Connections

    def connection(self, role: str) -> dict[str, Any]:
        """What each of aiokafka's clients is made with."""
        return {
            "bootstrap_servers": self._bootstrap,
            "client_id": f"{self._client_id}-{role}",
            "request_timeout_ms": int(self.timeout_s * 1000),
            **self._security_options,
        }

    async def connect(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._connect()
        except TimeoutError as error:
            await self.close()
            why = next((f" ({words(failed)})" for failed in self._failures()), "")
            raise BrokerUnavailable(
                f"{self.name} does not answer within {timeout_s:g} s{why}: is it running, are the address and "
                f"MESH_KAFKA_SECURITY_PROTOCOL ({self.security.protocol}) right?"
            ) from error
        except BrokerError:
            await self.close()
            raise

    async def _connect(self) -> None:
        while True:
            try:
                await self._start_admin()
                await self._look()  # over the address that the broker gives for itself
            except (KafkaError, TimeoutError):
                self._raise_refusal()
                await asyncio.sleep(BACKOFF_S)
            else:
                return

    def _failures(self) -> list[Exception]:
        """Why our clients' last tries to connect failed."""
        own = f"{self._client_id}-"
        return [error for client_id, error in failures.items() if client_id.startswith(own)]

    def _raise_refusal(self) -> None:
        """Raise `BrokerRefused` where the cluster does not let one of our clients in."""
        for error in self._failures():
            if is_login_refused(error):
                raise login_refused(self.name, self.security, error) from error

    async def _start_admin(self) -> None:
        """Connect an admin client, in place of the one before it."""
        admin = AIOKafkaAdminClient(**self.connection("admin"))
        try:
            await admin.start()
        # a cancelled start, too, leaves connections open
        except BaseException:
            await end(admin, admin.close(), self.name)
            raise
        # swapped before the old one ends, so that questions can go on meanwhile
        old, self._admin = self._admin, admin
        if old is not None:
            await end(old, old.close(), self.name)

    async def start_consumer(self, *, role: str, **options: Any) -> Any:
        """Start an aiokafka consumer that reads only what is committed.

        It commits nothing by itself and begins at the first record. Its end of a partition is the
        last stable offset: if a transaction is open, that is before it.
        """

        async def start() -> Any:
            consumer = AIOKafkaConsumer(
                **self.connection(role),
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                isolation_level="read_committed",
                fetch_max_wait_ms=int(_FETCH_WAIT_S * 1000),
                **options,
            )
            try:
                await consumer.start()
            except BaseException:
                await end(consumer, consumer.stop(), self.name)
                raise
            return consumer

        return await self._ask("connecting a reader", start)

    async def close(self) -> None:
        if self._offsets is not None:
            await end(self._offsets, self._offsets.stop(), self.name)
        if self._admin is not None:
            await end(self._admin, self._admin.close(), self.name)

    async def _ask(self, what: str, question: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer, or the request's time is over."""
        why: object = "no answer"
        try:
            async with asyncio.timeout(self.timeout_s):
                while True:
                    try:
                        await self._look_after_admin()
                        return await question()
                    except KafkaError as error:
                        if not error.retriable:
                            raise
                        why = error
                    await asyncio.sleep(BACKOFF_S)
        except UNAUTHORISED as error:
            raise right_refused(self.name, self.security, f"go on with {what}: {words(error)}") from error
        except (TimeoutError, KafkaError) as error:
            self._raise_refusal()
            why = why if isinstance(error, TimeoutError) else error
            raise BrokerUnavailable(f"{self.name}: {what} failed ({words(why)})") from error

    async def _look_after_admin(self) -> None:
        async with self._admin_starting:
            if why := ailment(self._admin):
                _log.warning("kafka_client_replaced", client=self.name, why=why)
                await self._start_admin()

    # Topics

    async def know(self, topics: Iterable[str]) -> None:
        """Make sure that the partition counts of these topics are known, if they exist."""
        if time.monotonic() - self._counts_at > _COUNTS_MAX_AGE_S or any(topic not in self.counts for topic in topics):
            await self._ask("listing topics", self._look)

    async def is_gone(self, topic: str) -> bool:
        """Whether the broker answers and says that there is no such topic."""
        try:
            async with asyncio.timeout(_LOOK_S):
                await self._look()
        except (TimeoutError, KafkaError):
            return False
        return topic not in self.counts

    async def _look(self) -> None:
        """Read all topics' partition counts."""
        counts = {}
        # asking for all is the one way that never creates a topic
        for topic in await self._admin.describe_topics():
            name, count = topic["topic"], len(topic["partitions"])
            if topic["error_code"]:  # it exists, and can't be described just now
                count = self.counts.get(name, 0)
            if count and not topic["is_internal"]:
                counts[name] = count
        self.counts = counts
        self._counts_at = time.monotonic()

    async def topics(self, configs_of: Collection[str]) -> Mapping[str, TopicInfo]:
        await self._ask("listing topics", self._look)
        counts = dict(self.counts)
        found = {name: TopicInfo(name, count) for name, count in counts.items()}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in configs_of if name in counts]
        if not resources:
            return found
        answers = await self._ask("reading topics' settings", lambda: self._admin.describe_configs(resources))
        for _error, _text, _type, name, entries, *_ in itertools.chain.from_iterable(a.resources for a in answers):
            config = {e[0]: e[1] for e in entries if e[3] == _DYNAMIC_TOPIC_CONFIG or e[0] in _SHOWN_CONFIGS}
            found[name] = TopicInfo(name, counts[name], config)
        return found

    async def cluster_id(self) -> str:
        """Kafka's own id of the cluster."""
        found = await self._ask("asking for the cluster's id", self._admin.describe_cluster)
        return str(found.get("cluster_id") or "")

    async def about(self) -> AboutBroker:
        """What the cluster says of itself, by the settings of its first node."""
        found = await self._ask("asking about the cluster", self._admin.describe_cluster)
        nodes = sorted(node["node_id"] for node in found["brokers"])
        of_node = [ConfigResource(ConfigResourceType.BROKER, str(node)) for node in nodes[:1]]
        answers = await self._ask("reading the broker's settings", lambda: self._admin.describe_configs(of_node))
        settings, unknown = dict[str, str](), ""
        for code, text, _type, _name, entries, *_ in itertools.chain.from_iterable(a.resources for a in answers):
            if code:
                unknown = text or kafka_errors.for_code(code).description
            settings |= {entry[0]: entry[1] for entry in entries if entry[0] in _BROKER_SETTINGS}
        version = settings.pop(_VERSION_SETTING, "")
        return AboutBroker(product="Kafka", version=version, nodes=len(nodes), settings=settings, unknown=unknown)

    async def create_topics(self, specs: Sequence[TopicSpec]) -> None:
        await self._ask("listing topics", self._look)
        absent = [spec for spec in specs if spec.name not in self.counts]
        if absent:
            await self._ask("creating topics", lambda: self._create(absent))
            await self._ask("waiting for new topics", lambda: self._check_created(absent))

    async def _create(self, specs: Sequence[TopicSpec]) -> None:
        new = [
            NewTopic(
                spec.name,
                spec.partitions,
                spec.replicas,
                # Deadlines and routes go by when the broker took a record, so
                # the broker has to stamp it.
                topic_configs={"message.timestamp.type": "LogAppendTime", **spec.config},
            )
            for spec in specs
        ]
        answer = await self._admin.create_topics(new, timeout_ms=int(self.timeout_s * 1000))
        for topic, code, *text in answer.topic_errors:
            error = kafka_errors.for_code(code)
            if error is kafka_errors.NoError or error is kafka_errors.TopicAlreadyExistsError:
                continue  # somebody else was quicker
            if error.retriable:
                raise error(topic)
            why = text[0] if text and text[0] else error.description
            if error in UNAUTHORISED:
                raise right_refused(self.name, self.security, f"create the topic {topic}, and shows it no such topic")
            raise BrokerError(f"{self.name} does not create the topic {topic}: {why}")

    async def _check_created(self, specs: Sequence[TopicSpec]) -> None:
        await self._look()
        absent = [spec.name for spec in specs if spec.name not in self.counts]
        if absent:
            # one that `_ask` repeats: it takes a moment until a new topic is known everywhere
            raise kafka_errors.LeaderNotAvailableError(", ".join(absent))

    async def delete_records(self, partition: TopicPartition, before_offset: int) -> None:
        await self._ask(
            "deleting records",
            lambda: self._admin.delete_records({KafkaPartition(*partition): RecordsToDelete(before_offset)}),
        )

    def missing(self, topic: str) -> str:
        """The message for a topic that is missing, or is hidden because we have no right to it."""
        if self.security.protocol == "PLAINTEXT":
            return missing(topic)
        return (
            f"there is no topic {topic} that {self.security.principal} may see: create it (`mesh topics apply`), correct its "
            "name, or give it the right (`mesh topics acls`)"
        )

    # Offsets

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return await self._look_up("end offsets", partitions, lambda c, ps: c.end_offsets(ps))

    async def begin_offsets(self, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
        return await self._look_up("first offsets", partitions, lambda c, ps: c.beginning_offsets(ps))

    async def offsets_at(self, partitions: Sequence[TopicPartition], timestamp_ms: int) -> Mapping[TopicPartition, int]:
        # The end is read first: had it been read after, a record that came in between would be
        # passed over.
        ends = await self.end_offsets(partitions)
        when = max(0, timestamp_ms)
        found = await self._look_up(
            "offsets of a time", partitions, lambda c, ps: c.offsets_for_times(dict.fromkeys(ps, when))
        )
        return {at: ends[at] if found[at] is None else found[at].offset for at in partitions}

    async def _look_up(
        self, what: str, partitions: Sequence[TopicPartition], question: Callable[[Any, list[Any]], Awaitable[Any]]
    ) -> dict[TopicPartition, Any]:
        if not partitions:
            return {}
        await self.know({at.topic for at in partitions})
        for at in partitions:
            if at.partition >= self.counts.get(at.topic, 0):
                raise TopicMissing(self.missing(f"{at.topic}/{at.partition}"))
        consumer = await self._offsets_consumer()
        topics = ", ".join(sorted({at.topic for at in partitions})[:_NAMED])
        found = await self._ask(
            f"reading {what} of {topics}", lambda: question(consumer, [KafkaPartition(*p) for p in partitions])
        )
        return {at: found[at] for at in partitions}

    async def _offsets_consumer(self) -> Any:
        """A consumer that reads nothing: on one that fetches, questions wait for its fetch."""
        async with self._offsets_starting:
            if self._offsets is not None and (why := ailment(self._offsets)):
                _log.warning("kafka_client_replaced", client=self.name, why=why)
                old, self._offsets = self._offsets, None
                await end(old, old.stop(), self.name)
            if self._offsets is None:
                self._offsets = await self.start_consumer(role="offsets")
            return self._offsets

    async def committed(
        self, group: str, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, Committed | None]:
        if not partitions:
            return {}

        async def question() -> Mapping[TopicPartition, Committed | None]:
            found = await self._admin.list_consumer_group_offsets(group, partitions=list(partitions))
            if any(
                at not in found for at in partitions
            ):  # an error of the whole group, which aiokafka does not look at
                raise kafka_errors.GroupLoadInProgressError(group)
            return {at: Committed(*found[at]) if found[at].offset >= 0 else None for at in partitions}

        return await self._ask(f"reading the positions of the group {group}", question)


def consume(future: "asyncio.Future[Any]") -> None:
    """Look at a future's exception, so that asyncio does not report it as never seen."""
    if not future.cancelled():
        future.exception()


def missing(topic: str) -> str:
    return f"there is no topic {topic}: create it (`mesh topics apply`), or correct its name"


def words(why: object) -> str:
    return str(why) or repr(why)
