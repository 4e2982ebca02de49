"""Brokers and clients from settings: the only place that chooses adapters."""

from collections.abc import Sequence
from typing import Any, assert_never

from mesh.adapters.system import SystemClock, SystemEntropy
from mesh.core.topics import Topics
from mesh.errors import BrokerRefused, SettingsInvalid
from mesh.ports import Broker
from mesh.services.client import Client
from mesh.settings import (
    KafkaAddress,
    MemoryAddress,
    Settings,
    SqliteAddress,
    load_settings,
    parse_broker_url,
    read_secret,
)


async def open_broker(url: str, *, client_id: str, settings: Settings, read_only: bool = False) -> Broker:
    """A connection to the broker at `url`.

    Raises `SettingsInvalid`, `OperatorError` or `BrokerUnavailable`, by whose fault it is.
    """
    match parse_broker_url(url):
        case SqliteAddress(path):
            from mesh.adapters.sqlite import SqliteBroker  # noqa: PLC0415 - only the chosen adapter's library is loaded

            return await SqliteBroker.open(
                path,
                client_id=client_id,
                durability=settings.durability,
                read_only=read_only,
                max_record_bytes=settings.max_record_bytes,
            )
        case KafkaAddress(bootstrap):
            from mesh.adapters.kafka import KafkaBroker  # noqa: PLC0415 - as above

            return await KafkaBroker.open(
                ",".join(bootstrap),
                client_id=client_id,
                request_timeout_s=settings.request_timeout_s,
                max_record_bytes=settings.max_record_bytes,
                security=_security(settings),
            )
        case MemoryAddress():
            raise SettingsInvalid(
                "memory:// lives inside one process and can't join several: use sqlite://PATH (or mesh.testing in tests)"
            )
        case unknown:
            assert_never(unknown)


def _security(settings: Settings) -> Any:
    """How to prove to a Kafka cluster who we are. Raises `SettingsInvalid`."""
    from mesh.adapters.kafka import security  # noqa: PLC0415 - only the chosen adapter's library is loaded

    def secret(name: str) -> security.Secret | None:
        text = read_secret(settings, name)
        return None if text is None else security.Secret(text)

    tokens: security.Tokens | None = None
    if settings.kafka_sasl_mechanism == "OAUTHBEARER":
        if settings.kafka_token_file is not None:
            tokens = security.TokenFile(settings.kafka_token_file)
        else:
            tokens = security.ClientCredentials(
                settings.kafka_token_url or "",
                settings.kafka_client_id or "",
                secret("kafka_client_secret") or security.Secret(""),
                scope=settings.kafka_token_scope or "",
                ca_file=settings.kafka_token_ca_file,
            )
    return security.Security(
        protocol=settings.kafka_security_protocol,
        mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_username or "",
        password=secret("kafka_password"),
        tokens=tokens,
        ca_file=settings.kafka_ca_file,
        cert_file=settings.kafka_cert_file,
        key_file=settings.kafka_key_file,
        key_password=secret("kafka_key_password"),
        check_hostname=settings.kafka_check_hostname,
    )


async def check_rights(broker: Broker, settings: Settings, names: Sequence[str]) -> None:
    """Raise `BrokerRefused` if the cluster does not show us a topic that we need.

    Only for a cluster with rights. It is said at the start: later it would be a result that can't
    be sent, or an answer that nobody reads.
    """
    if settings.kafka_security_protocol == "PLAINTEXT" or not isinstance(
        parse_broker_url(settings.broker), KafkaAddress
    ):
        return
    there = await broker.topics()
    hidden = [name for name in names if name not in there]
    if hidden:
        who = f"User:{settings.kafka_username}" if settings.kafka_username else "our principal"
        raise BrokerRefused(
            f"the cluster shows {who} no topic {', '.join(hidden)}: create what is missing (`mesh topics apply`), and give the "
            "rights that `mesh topics acls` prints"
        )


async def connect(broker: str | None = None, **options: Any) -> Client:
    """A client of the mesh at `broker` (else `MESH_BROKER`).

    `options`: settings by name, e.g. `topic_prefix`.
    """
    settings = load_settings(broker=broker, **options)
    opened = await open_broker(settings.broker, client_id=settings.instance, settings=settings)
    return Client(
        opened,
        Topics(settings.topic_prefix),
        clock=SystemClock(),
        entropy=SystemEntropy(),
        max_event_bytes=settings.max_event_bytes,
    )


async def make_topics(broker: Broker, settings: Settings, agents: Sequence[str]) -> None:
    """Create what is missing of the mesh's topics. Raises `PartitionsDiffer`."""
    from mesh.services import topic_plan  # noqa: PLC0415 - the contracts' YAML is read only where it is needed

    topics = Topics(settings.topic_prefix)
    specs = topic_plan.topic_specs(
        topics, settings.partitions, agents, task_partitions=settings.task_partitions, replicas=settings.replicas
    )
    await topic_plan.apply(broker, specs, topics=topics)
