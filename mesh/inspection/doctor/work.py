"""What is stuck in the work, how much is unread, and whether the notifier keeps up."""

from collections.abc import Iterator, Sequence
from typing import Final

from mesh.inspection.doctor.patient import Patient
from mesh.inspection.doctor.values import Finding, Result, found
from mesh.inspection.mesh_status import MeshStatus
from mesh.inspection.mesh_status.spans import span
from mesh.inspection.mesh_status.values import Stuck
from mesh.inspection.notices import count_undelivered
from mesh.inspection.read_model.queries.approval_rows import asked_between
from mesh.inspection.wording.phrases import counted
from mesh.ports import TopicPartition
from mesh.services.reading import first_at

_DAY_MS: Final = 86_400_000
_TOLD_AFTER_MS: Final = 600_000  # a notifier that starts for the first time may take a while
_WHY: Final = {
    "error": "nothing moves there until somebody acts",
    "warning": "it waits, or will fail if nothing changes",
}


async def check_work(patient: Patient) -> Result:
    status = await patient.status()
    running = status.workflows.get("running", 0)
    return found(of_work(status.stuck), f"running: {counted(running, 'workflow')}; mesh status has more")


def of_work(stuck: Sequence[Stuck]) -> Iterator[Finding]:
    """All that `mesh status` calls stuck."""
    for one in stuck:
        yield Finding(severity=one.severity, what=one.what, why=_WHY[one.severity], next_step=one.next_step)


async def check_lag(patient: Patient) -> Result:
    return Result(said=lags(await patient.status()))


def lags(status: MeshStatus) -> str:
    """What is unread, in words. Whether that is too much is said by the check of the work."""
    counts = [(one.topic, one.lag) for one in status.backlogs]
    counts.append(("the inbox", sum(row.inbox_lag for row in status.partitions)))
    counts.append(("results", sum(row.results_lag for row in status.partitions)))
    counts += [(f"tasks of {one.name}", one.lag or 0) for one in status.agents]
    unread = [f"{count:,} in {name}" for name, count in counts if count]
    return f"unread: {', '.join(unread)}" if unread else "nothing is unread"


async def check_notifier(patient: Patient) -> Result:
    """Whether a notifier that has ever told somebody something still does."""
    topic, now_ms = patient.topics.notices, patient.clock.now_ms()
    last_ms = await _last_record_ms(patient, topic)
    if last_ms is None:
        return Result(said="no notifier has told anything here")
    count, first_ms = asked_between(patient.model.db, last_ms, now_ms - _TOLD_AFTER_MS)
    undelivered = await count_undelivered(patient.broker, patient.topics, now_ms - _DAY_MS)
    said = f"the last word on {topic} was {span(now_ms - last_ms)} ago"
    return found(of_notifier(count, now_ms - first_ms, undelivered), said)


async def _last_record_ms(patient: Patient, topic: str) -> int | None:
    """When the last record of a topic came; None: it has none, or is not there."""
    info = patient.model.topics_known.get(topic)
    ends = await patient.broker.end_offsets([TopicPartition(topic, p) for p in range(info.partitions if info else 0)])
    last = [await first_at(patient.broker, where, end - 1) for where, end in ends.items() if end]
    return max((record.timestamp_ms for record in last if record is not None), default=None)


def of_notifier(untold: int, since_ms: int, undelivered: int) -> Iterator[Finding]:
    """What is untold, or did not arrive.

    `untold`: approvals that were asked after the last notice, the first of them `since_ms` ago.
    """
    if untold:
        yield Finding(
            severity="warning",
            what=f"{untold:,} open approvals were asked after the last notice, the first {span(since_ms)} ago",
            why="if their approvers have addresses, nobody has told them what waits for them",
            next_step="mesh notifier; if one runs, look at its log",
        )
    if undelivered:
        yield Finding(
            severity="warning",
            what=f"{undelivered:,} notices could not be delivered in the last day",
            why="the people whom they were for do not know what waits for them",
            next_step="mesh notices list --undelivered",
        )
