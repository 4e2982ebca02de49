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
    "missing": "what belongs on it can't be sent, and waits or becomes an incident",
    "partitions_fixed": "a workflow's log, inbox and results must have the same partition number: routers refuse to start",
    "codec": "what is written to it becomes dead letters",
    "config": "the mesh relies on what the contract says: on how long records stay, and whose clock stamps them",
    "partitions": "it works; more partitions let more replicas of the agent share the work",
}


async def check_topics(patient: Patient) -> Result:
    settings, topics = patient.settings, patient.topics
    prefix = topics.tasks("")
    agents = [name.removeprefix(prefix) for name in await patient.broker.topics() if name.startswith(prefix)]
    specs = topic_specs(
        topics, settings.partitions, agents, task_partitions=settings.task_partitions, replicas=settings.replicas
    )
    return found(of_topics(await plan(patient.broker, specs, topics=topics)), f"{len(specs)} topics compared")


def of_topics(differences: Sequence[Difference]) -> Iterator[Finding]:
    for one in differences:
        yield Finding(
            severity=_SEVERITY[one.kind],
            what=f"{one.topic}: {one.found or 'not there'}, wanted {one.wanted}",
            why=_WHY[one.kind],
            next_step=one.fix,
        )


async def check_rights(patient: Patient) -> Result:
    """Try to read each topic of an operator.

    What may be written can't be tried: nothing is written here.
    """
    there = await patient.broker.topics()
    names = [patient.topics.prefix + one.name for one in contracts() if not one.per_agent and "operator" in one.readers]
    wanted = [name for name in names if name in there]
    reader = await patient.broker.reader()
    try:
        refused = [name for name in wanted if not await _may_read(patient, reader, name)]
    finally:
        await reader.close()
    return found(of_rights(refused), f"{len(wanted) - len(refused)} of {len(names)} topics of an operator can be read")


async def _may_read(patient: Patient, reader: Reader, topic: str) -> bool:
    where = TopicPartition(topic, 0)
    try:
        reader.assign(await patient.broker.begin_offsets([where]))
        await reader.poll(max_records=1, timeout_s=0.0)
    except BrokerRefused:
        return False
    return True


def of_rights(refused: Sequence[str]) -> Iterator[Finding]:
    for name in refused:
        yield Finding(
            severity="error",
            what=f"we may not read {name}",
            why="the tools of operators do not see what is on it",
            next_step="grant the rights that mesh topics acls prints for the operator",
        )
