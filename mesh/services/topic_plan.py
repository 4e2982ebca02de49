"""The topics that a mesh needs, compared with those that the broker has.

Owns the reading of `topics/topics.yaml`, and the comparison. It creates what is missing and changes
nothing that exists: a partition count can't be lowered, raising one would tear workflows apart, and
a topic's configuration belongs to the people who run the cluster. Called by `mesh topics plan` and
`mesh topics apply`.
"""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from ruamel.yaml import YAML

from mesh import defaults
from mesh.core.topics import Topics
from mesh.errors import OperatorError, PartitionsDiffer
from mesh.ports import Broker, TopicInfo, TopicSpec
from mesh.resources import TOPICS

CONTRACTS: Final = TOPICS

_MIN_REPLICAS_FOR_QUORUM: Final = 3
_PLAIN_CODECS: Final = frozenset({"producer", "uncompressed", "none", "gzip"})
_CRAMJAM_CODECS: Final = frozenset({"snappy", "lz4", "zstd"})

Application = Literal["upstream", "router", "agent", "notifier", "approver", "console", "people", "operator"]


class Contract(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of `topics.yaml`. `config` is complete: the file's defaults are in it."""

    name: str  # below the prefix
    description: str
    writers: tuple[Application, ...]
    readers: tuple[Application, ...]
    key: str
    partitions: Literal["mesh", "tasks"] | int
    messages: tuple[str, ...]  # names of schemas in `topics/schemas/`
    config: dict[str, str]
    group: Literal["ingress", "router", "agent", "notifier"] | None = None
    fixed: bool = False  # its partition count is the mesh's, and stays
    per_agent: bool = False


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which the broker's topics are not the contract's.

    `missing`: `apply` creates it. `partitions_fixed`: nothing runs until it is repaired.
    `partitions`, `config`: for an operator to judge; the mesh runs. `codec`: what is written to the
    topic becomes dead letters.
    """

    kind: Literal["missing", "partitions_fixed", "partitions", "config", "codec"]
    topic: str
    wanted: str
    found: str
    fix: str

    def __str__(self) -> str:
        return f"{self.topic}: {self.found or 'not there'}, wanted {self.wanted}; {self.fix}"


@cache
def contracts(folder: Path = CONTRACTS) -> tuple[Contract, ...]:
    """All topics' contracts, in the file's order.

    Raises `OperatorError` if the file is missing or invalid.
    """
    path = folder / "topics.yaml"
    try:
        document: dict[str, Any] = YAML(typ="safe", pure=True).load(path)
        defaults = document["defaults"]["config"]
        entries = [{**entry, "config": {**defaults, **entry["config"]}} for entry in document["topics"]]
        return msgspec.convert(entries, tuple[Contract, ...])
    except (OSError, KeyError, TypeError, msgspec.ValidationError) as error:
        raise OperatorError(
            f"{path}: the topics' contracts can't be read ({error}); install agent-mesh again"
        ) from error


def topic_specs(
    topics: Topics,
    partitions: int,
    agents: Sequence[str],
    *,
    task_partitions: int = defaults.TASK_PARTITIONS,
    replicas: int = defaults.REPLICAS,
) -> list[TopicSpec]:
    """What to create: every topic of the contract, and a task topic for each of `agents`."""
    counts = {"mesh": partitions, "tasks": task_partitions}
    specs = []
    for contract in contracts():
        count = contract.partitions if isinstance(contract.partitions, int) else counts[contract.partitions]
        config = dict(contract.config)
        # `acks=all` waits for the replicas that are in sync, which
        # without this may be the leader alone
        if replicas >= _MIN_REPLICAS_FOR_QUORUM:
            config["min.insync.replicas"] = "2"
        names = [topics.tasks(agent) for agent in agents] if contract.per_agent else [topics.prefix + contract.name]
        specs += [TopicSpec(name=name, partitions=count, replicas=replicas, config=config) for name in names]
    return specs


def task_topic_config(replicas: int) -> dict[str, str]:
    """What an agent gives the topic of its tasks, where it has to create it."""
    [config] = [
        spec.config for spec in topic_specs(Topics(""), 1, ["any"], replicas=replicas) if spec.name == "tasks.any"
    ]
    return dict(config)


def topics_of_router(topics: Topics) -> list[str]:
    """Those that a router reads or writes, but for the agents' own."""
    return [
        topics.prefix + contract.name
        for contract in contracts()
        if not contract.per_agent and "router" in (*contract.writers, *contract.readers)
    ]


def fixed_topics(topics: Topics) -> frozenset[str]:
    """The topics whose partition count is the mesh's, and never changes."""
    return frozenset(topics.prefix + contract.name for contract in contracts() if contract.fixed)


async def plan(broker: Broker, specs: Sequence[TopicSpec], *, topics: Topics) -> list[Difference]:
    """What differs, in the order of `specs`; empty if the broker has all of it."""
    there = await broker.topics(configs_of=[spec.name for spec in specs])
    fixed, log = fixed_topics(topics), there.get(topics.log)
    differences: list[Difference] = []
    for spec in specs:
        info = there.get(spec.name)
        # the log says what the mesh began with; without one, what is there says it
        known = log or info
        began = known.partitions if known is not None and spec.name in fixed else None
        differences += _differences(spec, info, fixed=began)
    return differences


async def apply(broker: Broker, specs: Sequence[TopicSpec], *, topics: Topics) -> list[Difference]:
    """Create what is missing, and return what differed before.

    Raises `PartitionsDiffer`, and creates nothing, if a fixed topic has another partition count.
    """
    found = await plan(broker, specs, topics=topics)
    wrong = [str(difference) for difference in found if difference.kind == "partitions_fixed"]
    if wrong:
        raise PartitionsDiffer("\n".join(wrong))
    missing = {difference.topic for difference in found if difference.kind == "missing"}
    if missing:
        await broker.create_topics([spec for spec in specs if spec.name in missing])
    return found


def _differences(spec: TopicSpec, info: TopicInfo | None, *, fixed: int | None) -> list[Difference]:
    """`fixed`: how many partitions the mesh began with, where this topic has to have as many."""
    if info is None:
        wanted = f"{spec.partitions} partition{'s' if spec.partitions > 1 else ''}"
        return [
            Difference(kind="missing", topic=spec.name, wanted=wanted, found="", fix="`mesh topics apply` creates it")
        ]
    found = [] if info.partitions == spec.partitions else [_of_partitions(spec, info, fixed=fixed)]
    found += _of_codec(spec.name, info.config.get("compression.type", "producer"))
    # A broker that does not tell an entry (SQLite keeps what it was given, no more) is not held to
    # it.
    return found + [
        _of_config(spec.name, name, value, info.config[name])
        for name, value in spec.config.items()
        if name in info.config and info.config[name] != value
    ]


def _of_partitions(spec: TopicSpec, info: TopicInfo, *, fixed: int | None) -> Difference:
    if fixed == spec.partitions and info.partitions < fixed:
        fix = (
            f"this mesh began with {fixed}: stop its routers, then "
            f"kafka-topics.sh --alter --topic {spec.name} --partitions {fixed}"
        )
    elif fixed == spec.partitions:
        fix = (
            f"this mesh began with {fixed}: stop its routers and delete the topic, with what is unread on it; then "
            "`mesh topics apply` creates it"
        )
    elif fixed is not None:
        fix = (
            f"set MESH_PARTITIONS={fixed}, which is what this mesh began with; for another count begin a new mesh "
            "under another MESH_TOPIC_PREFIX"
        )
    elif info.partitions < spec.partitions:
        fix = f"it works as it is; to raise it: kafka-topics.sh --alter --topic {spec.name} --partitions {spec.partitions}"
    else:
        fix = "it works as it is"
    return Difference(
        kind="partitions" if fixed is None else "partitions_fixed",
        topic=spec.name,
        wanted=str(spec.partitions),
        found=f"{info.partitions} partition{'s' if info.partitions > 1 else ''}",
        fix=fix,
    )


def _of_codec(topic: str, codec: str) -> list[Difference]:
    is_readable = codec in _PLAIN_CODECS or (codec in _CRAMJAM_CODECS and find_spec("cramjam") is not None)
    if is_readable:
        return []
    if codec in _CRAMJAM_CODECS:
        fix = "install agent-mesh with its dependencies (cramjam is lacking), or"
    else:
        fix = "this version of agent-mesh can't read it:"
    fix += (
        f" kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config compression.type=producer"
    )
    wanted = "a codec that the mesh can read"
    return [Difference(kind="codec", topic=topic, wanted=wanted, found=f"compression.type={codec}", fix=fix)]


def _of_config(topic: str, name: str, wanted: str, found: str) -> Difference:
    return Difference(
        kind="config",
        topic=topic,
        wanted=f"{name}={wanted}",
        found=f"{name}={found}",
        fix=f"kafka-configs.sh --alter --entity-type topics --entity-name {topic} --add-config {name}={wanted}",
    )
