"""Replay recorded workflows against changed rules.

It reads the runs off the log and rehearses each one (`mesh.inspection.what_if`).

Owns the reading. It reads with `Broker.reader` from the log's first record on, because only then is
it known which decisions count. It sends nothing. `mesh routes replay` calls it.
"""

from collections.abc import Mapping, Sequence

from mesh.codec.log import decode_log_record
from mesh.core.calendars import CalendarsAt, no_calendars
from mesh.core.events import Decision, WorkflowStarted
from mesh.core.ownership import Epochs
from mesh.core.route import Route
from mesh.core.topics import Topics
from mesh.errors import NotFound
from mesh.inspection.what_if import Rehearsal, rehearse
from mesh.inspection.what_if.recording import Run, Runs
from mesh.ports import Broker, Record, TopicPartition
from mesh.services.reading import read_up_to
from mesh.services.vault import Vault


async def read_runs(broker: Broker, topics: Topics, *, routes: Sequence[str], since_ms: int) -> list[Run]:
    """The runs of these routes' workflows that started at `since_ms` or later, the oldest first.

    Raises `NotFound` if the broker has no log, and `BrokerUnavailable` if it can't be read to its
    end.
    """
    info = (await broker.topics()).get(topics.log)
    if info is None:
        raise NotFound(
            f"this broker has no topic {topics.log}: no mesh was set up here (check --broker and the prefix)"
        )
    partitions = [TopicPartition(topics.log, p) for p in range(info.partitions)]
    begins, ends = await broker.begin_offsets(partitions), await broker.end_offsets(partitions)
    folds = {tp: _Reading(frozenset(routes), since_ms) for tp in partitions}
    reader, vault = await broker.reader(), Vault(broker, topics)
    try:
        reader.assign(begins)
        async for records in read_up_to(reader, ends):
            for record in await vault.open(records):
                folds[TopicPartition(record.topic, record.partition)].take(record)
    finally:
        await vault.close()
        await reader.close()
    runs = [run for fold in folds.values() for run in fold.runs.found]
    return sorted(runs, key=lambda run: (run.decisions[0].at_ms, run.workflow_id))


class _Reading:
    """The runs that one log partition has so far."""

    def __init__(self, routes: frozenset[str], since_ms: int) -> None:
        self.runs = Runs()
        self._routes = routes
        self._since_ms = since_ms
        self._epochs = Epochs()

    def take(self, record: Record) -> None:
        decision = decode_log_record(record)
        if not self._epochs.observe(decision) or not isinstance(decision, Decision):
            return
        routes = [event.route for event in decision.events if isinstance(event, WorkflowStarted)]
        is_wanted = any(name in self._routes for name in routes) and decision.at_ms >= self._since_ms
        self.runs.take(decision, is_wanted=is_wanted)


def replay_runs(
    runs: Sequence[Run],
    routes: Mapping[str, Route],
    *,
    roles: Mapping[str, frozenset[str]] | None = None,
    calendars_at: CalendarsAt = no_calendars,
) -> list[Rehearsal]:
    """Rehearse every run under the route of its name.

    `roles`: person to roles. None: the person who answered had the role. `calendars_at`: those in
    effect at a time.
    """
    return [rehearse(run, routes[run.started.route], roles, calendars_at) for run in runs]
