"""The broker's topics against their contracts, and whether we may read what an operator reads."""

from collections.abc import Iterator, Sequence
from typing import Final

from mesh.errors import BrokerRefused
from mesh.inspection.doctor.patient import Patient
from mesh.inspection.doctor.values import Finding, Result, Severity, found
from mesh.ports import Reader, TopicPartition
from mesh.services.topic_plan import Difference, contracts, plan, topic_specs

_SEVERITY: Final[dict[str, Severity]] = {
    "missing": "error",
    "partitions_fixed": "error",
    "codec": "error",
    "config": "warning",
    "partitions": "note",
}
_WHY: Final = {
    "missing": "what belongs there can't be sent, and waits or becomes an incident",
    "partitions_fixed": "a workflow's log, inbox and results must have the same partition number: routers refuse to start",
    "codec": "what is written to it becomes dead letters",
    "config": "the mesh relies on what the contract says",
    "partitions": "it works; more partitions let more readers share the work",
}
_LOSES: Final = "the broker drops records that the mesh still needs"
_WHY_CONFIG: Final = {
    "cleanup.policy": _LOSES,
    "retention.ms": "records stay for another time than the mesh relies on",
    "retention.bytes": _LOSES,
    "message.timestamp.type": "times are the senders' and not the broker's: who writes an answer chooses whether it was in time",
    "max.message.bytes": "the broker refuses records that the mesh may send, and their steps become incidents",
    "unclean.leader.election.enable": "records that were acknowledged may be lost",
    "min.insync.replicas": "a record may be acknowledged that one broker alone has",
}
_KEEPS: Final = "-1"  # retention without end
_SHOWN: Final = 20
_LOOK_S: Final = 2.0  # for the first record of a topic that has some
_GLANCE_S: Final = 0.2  # at an empty one: a refusal came with the others' records


async def check_topics(patient: Patient) -> Result:
    settings, topics = patient.settings, patient.topics
    prefix = topics.tasks("")
    agents = [name.removeprefix(prefix) for name in await patient.broker.topics() if name.startswith(prefix)]
    specs = topic_specs(
        topics, settings.partitions, agents, task_partitions=settings.task_partitions, replicas=settings.replicas
    )
    differences = await plan(patient.broker, specs, topics=topics)
    has_rights = settings.kafka_security_protocol != "PLAINTEXT"
    return found(of_topics(differences, has_rights=has_rights), f"{len(specs)} topics compared")


def of_topics(differences: Sequence[Difference], *, has_rights: bool = False) -> Iterator[Finding]:
    """`has_rights`: the cluster knows rights, so that a topic may be there and hidden from us."""
    missing = [one for one in differences if one.kind == "missing"]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        names = ", ".join(f"{one.topic} ({one.wanted})" for one in missing[:_SHOWN])
        hidden = "; if it is there: `mesh topics acls` prints the rights that an operator needs"
        yield Finding(
            severity=_SEVERITY["missing"],
            what=f"not there{', or hidden from us' if has_rights else ''}: {names}{more}",
            why=_WHY["missing"],
            next_step=f"`mesh topics apply` creates what is missing{hidden if has_rights else ''}",
        )
    for one in differences:
        if one.kind != "missing":
            yield Finding(
                severity=_severity(one),
                what=f"{one.topic}: {one.found}, wanted {one.wanted}",
                why=_why(one),
                next_step=one.fix,
            )


def _severity(one: Difference) -> Severity:
    """Compaction drops records by their key, and a retention drops them by their age."""
    name, _, wanted = one.wanted.partition("=")
    loses = name == "cleanup.policy" or (name.startswith("retention.") and wanted == _KEEPS)
    return "error" if one.kind == "config" and loses else _SEVERITY[one.kind]


def _why(one: Difference) -> str:
    if one.kind != "config":
        return _WHY[one.kind]
    if _severity(one) == "error":
        return _LOSES
    return _WHY_CONFIG.get(one.wanted.partition("=")[0], _WHY["config"])


async def check_rights(patient: Patient) -> Result:
    """Try to read each topic of an operator.

    What may be written can't be tried: nothing is written here.
    """
    there = await patient.broker.topics()
    names = [patient.topics.prefix + one.name for one in contracts() if not one.per_agent and "operator" in one.readers]
    wanted = [name for name in names if name in there]
    reader = await patient.broker.reader()
    try:
        refused = await _refused(patient, reader, wanted)
    finally:
        await reader.close()
    return found(of_rights(refused), f"{len(wanted) - len(refused)} of {len(names)} topics of an operator can be read")


async def _refused(patient: Patient, reader: Reader, names: Sequence[str]) -> list[str]:
    """Those that we may not read.

    All are asked for at once, and a refusal shows when its topic is polled: one that is asked for
    alone, and left too soon, would be blamed on the next.
    """
    places = [TopicPartition(name, 0) for name in names]
    begins, ends = await patient.broker.begin_offsets(places), await patient.broker.end_offsets(places)
    reader.assign(begins)
    refused = []
    # what has records answers at once, and all others with it
    for place in sorted(places, key=lambda one: begins[one] == ends[one]):
        is_empty = begins[place] == ends[place]
        try:
            await reader.poll(max_records=1, timeout_s=_GLANCE_S if is_empty else _LOOK_S, partitions=[place])
        except BrokerRefused:
            refused.append(place.topic)
    return sorted(refused)


def of_rights(refused: Sequence[str]) -> Iterator[Finding]:
    if refused:
        yield Finding(
            severity="error",
            what=f"we may not read {', '.join(refused)}",
            why="the tools of operators do not see what is on it",
            next_step="grant the rights that mesh topics acls prints for the operator",
        )
