"""The broker itself: how quickly it answers, and the settings that bear on a mesh."""

from collections.abc import Iterator
from typing import Final

from mesh.inspection.doctor.patient import Patient
from mesh.inspection.doctor.values import Finding, Result, found
from mesh.ports import AboutBroker

SLOW_MS: Final = 3_000  # half of a session's time-out (MESH_SESSION_TIMEOUT_S)
_WEEK_MINUTES: Final = 7 * 24 * 60  # as long as events, results and tasks are kept


async def check_speed(patient: Patient) -> Result:
    return found(slow(patient.opening_ms), f"answered in {patient.opening_ms:,} ms")


def slow(opening_ms: int) -> Iterator[Finding]:
    if opening_ms > SLOW_MS:
        yield Finding(
            severity="warning",
            what=f"the broker took {opening_ms / 1_000:.1f} s to let us in and to list its topics",
            why="routers and agents that it answers as slowly may lose their partitions",
            next_step="look at the broker's load and at the network; until then a longer MESH_SESSION_TIMEOUT_S helps",
        )


async def check_settings(patient: Patient) -> Result:
    about = await patient.broker.about()
    named = " ".join(part for part in (about.product, about.version) if part)
    nodes = f", {about.nodes} nodes" if about.nodes > 1 else ""
    shown = "".join(f", {name}={value}" for name, value in sorted(about.settings.items()))
    return found(of_settings(about, patient.settings.replicas), f"{named}{nodes}{shown}")


def of_settings(about: AboutBroker, replicas: int) -> Iterator[Finding]:
    """What these settings do to a mesh whose topics have this number of replicas."""
    if about.unknown:
        yield Finding(
            severity="note",
            what=f"the broker does not show us its settings: {about.unknown}",
            why="what would lose records or positions can't be seen from here",
            next_step="give the operator the right DescribeConfigs on the cluster, or ask those who run it",
        )
    if about.product == "Kafka" and replicas > about.nodes:
        yield Finding(
            severity="warning",
            what=f"MESH_REPLICAS is {replicas}, and the cluster has {about.nodes} node{'s' if about.nodes > 1 else ''}",
            why="topics can't be created with more replicas than there are nodes",
            next_step=f"set MESH_REPLICAS={about.nodes}, or add nodes",
        )
    if about.settings.get("unclean.leader.election.enable") == "true":
        yield Finding(
            severity="warning",
            what="unclean.leader.election.enable is true on the broker",
            why="a topic that does not forbid it itself may lose records that were acknowledged",
            next_step="mesh topics plan (our topics forbid it); set it to false on the broker for all others",
        )
    if about.settings.get("auto.create.topics.enable") == "true":
        yield Finding(
            severity="note",
            what="auto.create.topics.enable is true on the broker",
            why="a client with a misspelt name makes a topic with settings that are not the contract's",
            next_step="set it to false on the broker; mesh topics apply creates all that a mesh needs",
        )
    minutes = about.settings.get("offsets.retention.minutes", "")
    if minutes.isdecimal() and int(minutes) < _WEEK_MINUTES:
        yield Finding(
            severity="warning",
            what=f"offsets.retention.minutes is {minutes} on the broker: {int(minutes) / 1_440:.1f} days",
            why="an agent that was off for longer reads its tasks of 7 days from the first one on",
            next_step=f"set offsets.retention.minutes to {_WEEK_MINUTES} or more on the broker",
        )
