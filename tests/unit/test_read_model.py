"""The read model holds what the broker holds, whatever the order of its commands.

It never counts what is not effective.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from errno import ENOSPC
from pathlib import Path

import apsw
import pytest
from one_partition import START_MS, Partition, Quick, agent, route
from sample_mesh import (
    DRAFT,
    PARTITIONS,
    TOPICS,
    Writer,
    approved,
    asked,
    command_events,
    event,
    event_cause,
    partition,
    run,
    started,
    workflow,
    write_sample,
)

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.adapters.system import SystemClock
from mesh.codec.dead_letters import dead_letter
from mesh.codec.log import decode_log_record
from mesh.codec.state import canonical_workflow, encode_workflow
from mesh.core.events import Cause, WorkflowForgotten
from mesh.core.replay import replay
from mesh.core.state import Workflow
from mesh.errors import BrokerUnavailable, NotFound, OperatorError, UnknownFormat
from mesh.inspection.read_model import ReadModel, model_path, queries, schema
from mesh.inspection.read_model.projection import Folder
from mesh.ports import OutRecord, Record, TopicPartition, TopicSpec


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster(clock=SystemClock())


@pytest.fixture
async def broker(cluster: MemoryCluster) -> AsyncIterator[MemoryBroker]:
    connection = cluster.connect("test")
    yield connection
    await connection.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return model_path(tmp_path, "memory://", "mesh.")


def damage_file(path: Path, content: bytes | None) -> None:
    """Replace the whole file, or with None all pages but its first."""
    for extra in path.parent.glob(path.name + "-*"):
        extra.unlink()
    old = path.read_bytes()
    path.write_bytes(old[:4096] + b"\xff" * (len(old) - 4096) if content is None else content)


def log_records(cluster: MemoryCluster, number: int) -> Sequence[Record]:
    return cluster.records(TopicPartition(TOPICS.log, number))


def assert_agrees_with_replay(model: ReadModel, cluster: MemoryCluster) -> None:
    for number in range(PARTITIONS):
        records = log_records(cluster, number)
        state = replay(((record.offset, decode_log_record(record)) for record in records), number)
        for workflow_id, expected in state.workflows.items():
            found = queries.workflow_state(model.db, workflow_id)
            assert found is not None
            assert canonical_workflow(found) == canonical_workflow(expected)


async def test_its_states_are_those_of_replay_to_the_byte(
    cluster: MemoryCluster, broker: MemoryBroker, path: Path
) -> None:
    await write_sample(broker)
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
        assert queries.count_workflows(model.db) == {"running": 2, "completed": 1}
        assert_agrees_with_replay(model, cluster)


async def test_a_zombies_decision_is_not_shown(broker: MemoryBroker, path: Path) -> None:
    await write_sample(broker)
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
        assert queries.workflow_state(model.db, workflow(4)) is None
        assert queries.decisions_of(model.db, workflow(4)) == []


async def test_a_new_owner_counts_also_across_two_commands(
    cluster: MemoryCluster, broker: MemoryBroker, path: Path
) -> None:
    writer = await write_sample(broker)
    number = partition(workflow(1))
    old = writer.tokens[number]
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
    await writer.take_over(number, owner="router-2", token="e" * 32)
    await writer.decide(workflow(1), Cause(kind="answer", id="zombie"), approved(1, "zombie"), token=old)
    # a late second landing: it deposes nobody
    await writer.take_over(number, owner="router-1", token=old)
    writer.tokens[number] = "e" * 32
    await writer.decide(workflow(1), Cause(kind="answer", id="a1"), approved(1, "a1"))
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
        assert queries.answer(model.db, "zombie") is None
        found = queries.answer(model.db, "a1")
        assert found is not None
        assert found.status == "accepted"
        assert queries.partitions(model.db)[number].owner == "router-2"
        assert_agrees_with_replay(model, cluster)


async def test_a_second_command_reads_only_what_is_new(broker: MemoryBroker, path: Path) -> None:
    writer = await write_sample(broker)
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
    await writer.decide(workflow(1), Cause(kind="answer", id="a1"), approved(1, "a1"))
    counts: list[int] = []
    async with ReadModel(broker, TOPICS, path, on_progress=counts.append) as model:
        await model.catch_up()
    assert max(counts) == 1


async def test_approvals_open_and_close_and_keep_what_was_asked(broker: MemoryBroker, path: Path) -> None:
    writer = await write_sample(broker)
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
        [waiting] = queries.approvals(model.db)
        assert (waiting.workflow_id, waiting.role, waiting.question) == (workflow(1), "maintainer", "Post this reply?")
        request = queries.approval_request(model.db, waiting.approval_id)
        assert request is not None
        assert request.payload == DRAFT
        await writer.decide(workflow(1), Cause(kind="answer", id="a1"), approved(1, "a1"))
        await model.catch_up()
        assert not queries.approvals(model.db)
        [closed] = queries.approvals(model.db, open_only=False)
        assert (closed.verdict, closed.closed_by) == ("approved", "ana@example.org")


async def test_an_approval_that_is_asked_anew_is_open_again(broker: MemoryBroker, path: Path) -> None:
    writer = await write_sample(broker)
    await writer.decide(workflow(1), Cause(kind="answer", id="a1"), approved(1, "a1"))
    await writer.decide(workflow(1), Cause(kind="command", id="c1"), asked(1, writer.now_ms))
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
        assert len(queries.approvals(model.db)) == 1


async def test_events_are_found_by_id_with_the_decisions_they_caused(broker: MemoryBroker, path: Path) -> None:
    await write_sample(broker)
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
        first, second = queries.events_by_id(model.db, "delivery-1")
        kinds = [
            type(queries.decisions_citing(model.db, e.topic, e.partition, e.offset)[0].decision.events[0]).__name__
            for e in (first, second)
        ]
        assert kinds == ["WorkflowStarted", "StartRepeated"]
        [unwanted] = queries.events_by_id(model.db, "delivery-9")
        assert queries.decisions_citing(model.db, unwanted.topic, unwanted.partition, unwanted.offset) == []
        [malformed] = queries.events_by_id(model.db, "mesh.events/0/5")
        assert "not a CloudEvent" in malformed.problem
        assert queries.count_events(model.db, TOPICS.events) == {"seen": 6, "matched": 4, "dead_lettered": 1}


async def test_each_event_is_found_by_its_place_and_by_its_id_if_it_can_be_read(
    broker: MemoryBroker, path: Path
) -> None:
    writer = await write_sample(broker)
    headers = (("ce_specversion", b"1.0"), ("ce_id", b"bad-1"), ("ce_source", b"/s"))
    await writer.send(
        [
            OutRecord(TOPICS.events, None, b"1", headers),
            OutRecord(TOPICS.events, None, b'{"id": "bad-2", "type": 7}'),
            OutRecord(TOPICS.events, None, b"nothing"),
        ]
    )
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
        for asked, offset in (("bad-1", 6), ("bad-2", 7), ("mesh.events/0/6", 6), ("mesh.events/0/8", 8)):
            [found] = queries.events_by_id(model.db, asked)
            assert found.offset == offset
            assert found.problem
        [good] = queries.events_by_id(model.db, "mesh.events/0/0")
        assert (good.event_id, good.problem) == ("delivery-1", "")
        for unknown in ("mesh.events/0/99", "mesh.log/0/0", f"mesh.events/0/{'9' * 40}", "mesh.events/0/"):
            assert list(queries.events_by_id(model.db, unknown)) == []


async def test_an_event_whose_record_is_gone_is_found_by_its_dead_letter(broker: MemoryBroker, path: Path) -> None:
    writer = await write_sample(broker)
    headers = (("ce_id", b"old-1"), ("ce_source", b"/s"))
    gone = Record(TOPICS.events, 0, 900, writer.now_ms - 1, b"k", b"x", headers)
    foreign = Record(TOPICS.results, 0, 901, writer.now_ms - 1, b"k", b"x", headers)
    await writer.send(
        [
            dead_letter(
                one, code="malformed", message="why", component="ingress", group="g", topics=TOPICS, at_ms=writer.now_ms
            )
            for one in (gone, foreign)
        ]
        + [OutRecord(TOPICS.dlq, None, b"no dead letter")]
    )
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
        [found] = queries.events_by_id(model.db, "old-1")
        assert (found.offset, found.at_ms) == (900, writer.now_ms - 1)
        assert list(queries.events_by_id(model.db, "mesh.events/0/900")) == [found]
        [letter] = queries.dead_letters(
            model.db, queries.LetterFilter(source=(found.topic, found.partition, found.offset))
        )
        assert letter.code == "malformed"


async def test_incidents_dead_letters_and_cards_are_listed(broker: MemoryBroker, path: Path) -> None:
    writer = await write_sample(broker)
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
        [incident] = queries.open_steps(model.db, "incident")
        assert (incident.workflow_id, incident.step, incident.incident_kind) == (workflow(3), "classify", "exhausted")
        [letter] = queries.dead_letters(model.db)
        assert (letter.topic, letter.source_offset, letter.code) == (TOPICS.events, 5, "malformed")
        [card] = queries.cards(model.db)
        assert card.is_alive(card.renewed_at_ms)
        assert not card.is_alive(card.renewed_at_ms + 30_000)
    await writer.send([OutRecord(TOPICS.agents, b"classifier/host-1", None)])
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
        [card] = queries.cards(model.db)
        assert card.card.stopped
        assert card.card.version == "1.2.0"


async def test_the_timeline_is_every_decision_in_order(broker: MemoryBroker, path: Path) -> None:
    await write_sample(broker)
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
        entries = queries.decisions_of(model.db, workflow(3))
    kinds = [type(event).__name__ for entry in entries for event in entry.decision.events]
    assert kinds == [
        "WorkflowStarted",
        "TaskDispatched",
        "TaskFailed",
        "RetryScheduled",
        "TaskDispatched",
        "TaskFailed",
        "IncidentRaised",
    ]
    assert {entry.run_id for entry in entries} == {run(3)}


async def test_the_items_of_a_for_each_share_one_row(cluster: MemoryCluster, broker: MemoryBroker, path: Path) -> None:
    each = {"items": "${{ event.data }}", "concurrency": 200}
    made = Partition(route({"check": agent("checker", "${{ item }}", for_each=each, retry={"attempts": 1})}))
    made.start(data=list(range(300)))
    made.wait("check")
    for index in range(40):
        made.now_ms += 1
        made.succeed(f"check[{index}]")
    made.fail("check[40]")
    made.fail("check[41]")
    await broker.create_topics([TopicSpec(TOPICS.log, 1)])
    await broker.append(TopicPartition(TOPICS.log, 0), None, made.log, [])
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
        [each_row] = queries.open_steps(model.db, "iterating")
        assert (each_row.step, each_row.settled, each_row.total) == ("check", 40, 300)
        [running] = queries.open_steps(model.db, "running")
        assert (running.step, running.alike, running.agent, running.since_ms) == ("check", 198, "checker", START_MS)
        assert [row.step for row in queries.open_steps(model.db, "incident")] == ["check[40]", "check[41]"]
        assert queries.count_open_steps(model.db) == {"incident": 2, "iterating": 1, "running": 198}
        assert queries.running_by_agent(model.db) == {"checker": (198, START_MS)}


async def test_a_forgotten_workflow_keeps_its_last_state_and_may_start_again(
    cluster: MemoryCluster, broker: MemoryBroker, path: Path
) -> None:
    writer = await write_sample(broker)
    await writer.decide(workflow(2), Cause(kind="timer", id="forget"), WorkflowForgotten())
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
        kept = queries.workflow_state(model.db, workflow(2))
        assert kept is not None
        assert kept.status == "completed"
    await writer.decide(workflow(2), event_cause(2, 8), started(2))
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
        assert_agrees_with_replay(model, cluster)
        again = queries.workflow_state(model.db, workflow(2))
        assert again is not None
        assert again.status == "running"


async def test_waiting_ends_when_the_decision_arrives_and_not_before(broker: MemoryBroker, path: Path) -> None:
    writer = await write_sample(broker)
    async with ReadModel(broker, TOPICS, path) as model, asyncio.timeout(60):
        assert await model.wait_until(lambda: queries.command(model.db, "c1"), timeout_s=0.05) is None
        waiting = asyncio.create_task(model.wait_until(lambda: queries.command(model.db, "c1"), timeout_s=60))
        await writer.decide(workflow(3), Cause(kind="command", id="c1"), command_events("c1", accepted=False))
        refused = await waiting
        assert refused is not None
        assert (refused.accepted, refused.code) == (0, "no_incident")


async def test_many_commands_at_once_on_one_file_agree(
    cluster: MemoryCluster, broker: MemoryBroker, path: Path
) -> None:
    writer = await write_sample(broker)
    for _ in range(30):
        await writer.decide(workflow(1), Cause(kind="command", id="c"), command_events("c", accepted=False))

    async def one() -> int:
        async with ReadModel(cluster.connect("other"), TOPICS, path) as model:
            await model.catch_up()
            return len(queries.decisions_of(model.db, workflow(1)))

    async with asyncio.timeout(60):
        assert await asyncio.gather(*(one() for _ in range(5))) == [34] * 5


@pytest.mark.parametrize("damage", [b"rubbish" * 2_000, b"", None])
async def test_a_damaged_file_is_made_anew(broker: MemoryBroker, path: Path, damage: bytes | None) -> None:
    await write_sample(broker)
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
    damage_file(path, damage)
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
        assert len(queries.workflows(model.db)) == 3


async def test_a_file_of_another_version_is_made_anew(broker: MemoryBroker, path: Path) -> None:
    await write_sample(broker)
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
        model.db.pragma("user_version", 99)
    async with ReadModel(broker, TOPICS, path) as model:
        assert not queries.workflows(model.db)
        await model.catch_up()
        assert len(queries.workflows(model.db)) == 3


async def test_another_broker_behind_the_same_address_starts_the_file_over(broker: MemoryBroker, path: Path) -> None:
    await write_sample(broker)
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
    shorter = MemoryCluster(clock=SystemClock()).connect("other")
    writer = Writer(shorter)
    await writer.create_topics()
    async with ReadModel(shorter, TOPICS, path) as model:
        await model.catch_up()
        assert not queries.workflows(model.db)


async def test_another_broker_that_is_longer_is_noticed_as_well(broker: MemoryBroker, path: Path) -> None:
    writer = Writer(broker)
    await writer.create_topics()
    await writer.take_over(0)
    await writer.take_over(1)
    await writer.decide(workflow(7), event_cause(7, 0), started(7))
    async with ReadModel(broker, TOPICS, path) as model:
        await model.catch_up()
        assert len(queries.workflows(model.db)) == 1
    other_cluster = MemoryCluster(clock=SystemClock())
    other = other_cluster.connect("other")
    sample = Writer(other)
    sample.now_ms += 5  # otherwise the very same bytes
    sample.tokens = ["1" * 32, "2" * 32]
    await sample.create_topics()
    await sample.take_over(0)
    await sample.take_over(1)
    for number in (1, 2, 3, 5):
        await sample.decide(workflow(number), event_cause(number, number), started(number))
    async with ReadModel(other, TOPICS, path) as model:
        await model.catch_up()
        assert {row.workflow_id for row in queries.workflows(model.db)} == {workflow(n) for n in (1, 2, 3, 5)}
        assert_agrees_with_replay(model, other_cluster)


async def test_what_the_broker_dropped_is_not_waited_for(
    cluster: MemoryCluster, broker: MemoryBroker, path: Path
) -> None:
    await write_sample(broker)
    cluster.trim(TopicPartition(TOPICS.events, 0), 6)
    async with ReadModel(broker, TOPICS, path) as model, asyncio.timeout(60):
        await model.catch_up()
        assert not queries.events_by_id(model.db, "delivery-1")
        assert len(queries.workflows(model.db)) == 3


async def test_a_partition_that_the_broker_does_not_send_is_named_whatever_else_comes(
    broker: MemoryBroker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await write_sample(broker)
    monkeypatch.setattr("mesh.inspection.read_model.model.SILENCE_S", 0.05)
    async with ReadModel(broker, TOPICS, path) as model, asyncio.timeout(60):
        reader = await broker.reader()
        poll = reader.poll

        async def all_but_one(*, max_records: int, timeout_s: float) -> Sequence[Record]:
            await writer.publish(event(7))
            found = await poll(max_records=max_records, timeout_s=timeout_s)
            return [one for one in found if (one.topic, one.partition) != (TOPICS.log, 1)]

        position = reader.position
        monkeypatch.setattr(reader, "poll", all_but_one)
        monkeypatch.setattr(reader, "position", lambda at: 0 if at == (TOPICS.log, 1) else position(at))
        model._reader = reader
        with pytest.raises(BrokerUnavailable, match=r"sent nothing for 0.05 s of mesh.log/1 \("):
            await model.catch_up()


async def test_a_broker_without_a_mesh_is_named_as_such(broker: MemoryBroker, path: Path) -> None:
    async with ReadModel(broker, TOPICS, path) as model:
        with pytest.raises(NotFound, match="mesh topics apply"):
            await model.catch_up()


async def test_a_newer_log_stops_it_loudly(broker: MemoryBroker, path: Path) -> None:
    writer = await write_sample(broker)
    await writer.send([OutRecord(TOPICS.log, None, b'{"record": "Decision.9"}', partition=0)])
    async with ReadModel(broker, TOPICS, path) as model:
        with pytest.raises(UnknownFormat):
            await model.catch_up()


def test_each_mesh_has_a_file_of_its_own(tmp_path: Path) -> None:
    urls = [("kafka://a:1", "mesh."), ("kafka://b:1", "mesh."), ("kafka://a:1", "other.")]
    assert len({model_path(tmp_path, *url) for url in urls}) == 3


async def test_a_full_disk_is_made_up_for_in_memory(cluster: MemoryCluster, broker: MemoryBroker, path: Path) -> None:
    told: list[str] = []
    await write_sample(broker)
    async with ReadModel(broker, TOPICS, path, on_full=told.append) as model:
        model.db.pragma("max_page_count", model.db.pragma("page_count"))
        await model.catch_up()
        assert_agrees_with_replay(model, cluster)
    assert told == ["database or disk is full"]


async def test_a_full_disk_while_waiting_is_made_up_for_as_well(broker: MemoryBroker, path: Path) -> None:
    writer = await write_sample(broker)
    told: list[str] = []
    async with ReadModel(broker, TOPICS, path, on_full=told.append) as model, asyncio.timeout(60):
        await model.catch_up()
        model.db.pragma("max_page_count", model.db.pragma("page_count"))
        waiting = asyncio.create_task(model.wait_until(lambda: queries.command(model.db, "last"), timeout_s=60))
        for n in range(200):
            await writer.decide(workflow(3), Cause(kind="command", id=f"c{n}"), command_events(f"c{n}", accepted=False))
        await writer.decide(workflow(3), Cause(kind="command", id="last"), command_events("last", accepted=False))
        assert await waiting is not None
    assert told == ["database or disk is full"]


@pytest.mark.parametrize(
    "error", [OSError(ENOSPC, "No space left on device"), apsw.FullError("full"), apsw.IOError("disk I/O error")]
)
async def test_no_room_for_the_file_at_all_is_made_up_for(
    cluster: MemoryCluster, broker: MemoryBroker, path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def no_room(_: Path) -> None:
        raise error

    monkeypatch.setattr(schema, "make_private", no_room)
    await write_sample(broker)
    told: list[str] = []
    async with ReadModel(broker, TOPICS, path, on_full=told.append) as model:
        await model.catch_up()
        assert_agrees_with_replay(model, cluster)
    assert len(told) == 1


async def test_a_folder_that_cannot_be_used_is_named(broker: MemoryBroker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OperatorError, match=r"file/data.*MESH_DATA_DIR"):
        ReadModel(broker, TOPICS, tmp_path / "file" / "data" / "model.sqlite")


async def test_the_file_is_its_owners_alone(broker: MemoryBroker, path: Path) -> None:
    async with ReadModel(broker, TOPICS, path):
        mode = path.stat().st_mode  # noqa: ASYNC240 - a test
        assert mode & 0o777 == 0o600


async def test_four_times_the_items_are_about_four_times_the_steps_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def count(one: Workflow) -> bytes:
        written.append(len(one.steps))
        return encode_workflow(one)

    monkeypatch.setattr("mesh.inspection.read_model.projection.encode_workflow", count)
    monkeypatch.setattr("mesh.inspection.read_model.model.BATCH", 50)
    sums = []
    for items in (250, 1_000):
        written.clear()
        made = Quick(route({"a": agent("x", "${{ item }}", for_each="${{ event.data }}")}))
        made.start(data=[1] * items)
        for index in range(items):
            made.succeed(f"a[{index}]", index)
        broker = MemoryCluster(clock=SystemClock()).connect("test")
        await broker.create_topics([TopicSpec(TOPICS.log, 1)])
        await broker.append(TopicPartition(TOPICS.log, 0), None, made.log, [])
        async with ReadModel(broker, TOPICS, tmp_path / f"{items}.sqlite") as model:
            await model.catch_up()
            assert queries.count_workflows(model.db) == {"completed": 1}
            found = queries.workflow_state(model.db, made.id_of())
            assert found is not None
            assert canonical_workflow(found) == canonical_workflow(made.workflow())
        await broker.close()
        sums.append(sum(written))
    assert sums[1] < 6 * sums[0]  # sixteen times as much, if each batch wrote all of it


async def test_a_batch_for_a_large_workflow_is_bounded_in_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    original = Folder.apply

    def count(self: Folder, topic: str, number: int, records: Sequence[Record]) -> None:
        batches.append(len(records))
        original(self, topic, number, records)

    monkeypatch.setattr(Folder, "apply", count)
    monkeypatch.setattr("mesh.inspection.read_model.model.BATCH", 20)
    monkeypatch.setattr("mesh.inspection.read_model.model._MOST_BYTES", 1)
    made = Quick(route({"a": agent("x", "${{ item }}", for_each="${{ event.data }}")}))
    made.start(data=[1] * 90)
    for index in range(90):
        made.succeed(f"a[{index}]", index)
    broker = MemoryCluster(clock=SystemClock()).connect("test")
    await broker.create_topics([TopicSpec(TOPICS.log, 1)])
    await broker.append(TopicPartition(TOPICS.log, 0), None, made.log, [])
    async with ReadModel(broker, TOPICS, tmp_path / "model.sqlite") as model:
        await model.catch_up()
        assert queries.count_workflows(model.db) == {"completed": 1}
    await broker.close()
    assert max(batches) == 20
