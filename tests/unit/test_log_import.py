"""An exported log, imported into an empty mesh, folds to the same states, and nothing is lost."""

import gzip
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imported_mesh import PARTITIONS, TOPICS, Drawn, cluster, exported, folded, imported

from mesh.codec.cards import encode_card, withdraw_card, withdraw_registration
from mesh.codec.exports import ExportInvalid
from mesh.codec.inbox import decode_inbox
from mesh.codec.log import decode_log_record, encode_owner_changed
from mesh.codec.operations import Ordered, encode_operation
from mesh.codec.state import canonical_workflow
from mesh.codec.tasks import decode_task
from mesh.core.crossings import crossing_id
from mesh.core.events import Decision, LogImported, OwnerChanged
from mesh.core.inputs import SignReceived
from mesh.core.state import AgentCard
from mesh.errors import LogError, OperatorError
from mesh.inspection.history import importing
from mesh.inspection.history.folding import SpilledWorkflows
from mesh.inspection.history.importing import Checked
from mesh.ports import Broker, OutRecord, Record, TopicPartition
from mesh.services.agent_runtime.cards import registration_of
from mesh.services.topic_plan import topic_specs
from mesh.testing.virtual_time.loop import run

seeds = st.integers(0, 2**32)


async def read(broker: Broker, topic: str, partitions: int) -> list[Record]:
    reader = await broker.reader()
    places = [TopicPartition(topic, number) for number in range(partitions)]
    ends = await broker.end_offsets(places)
    reader.assign(dict.fromkeys(places, 0))
    found: list[Record] = []
    while len(found) < sum(ends.values()):
        found += await reader.poll(max_records=100, timeout_s=1)
    await reader.close()
    return found


async def move(seed: int, folder: Path, *, dies_after: int | None = None) -> None:
    drawn, old, new = Drawn(seed), cluster("old"), cluster("new")
    await drawn.write(old)
    head = await exported(old.connect("export"), folder / "log.gz")
    assert sum(part.workflows for part in head.log) == len(drawn.states())
    broker = new.connect("import")
    if dies_after is not None:
        await die(broker, folder / "log.gz", dies_after)
    await imported(broker, folder / "log.gz")

    states, watermarks = await folded(broker)
    wanted = drawn.states()
    assert {name: canonical_workflow(one) for name, one in states.items()} == {
        name: canonical_workflow(one) for name, one in wanted.items()
    }
    of_events = [name for marks in watermarks.values() for name in marks if not name.startswith(TOPICS.log)]
    assert not of_events, "new input topics begin at 0, and an old watermark would pass over what is in them"
    assert {number: dict(part.state.watermarks) for number, part in enumerate(drawn.mesh.parts)} == {
        number: marks | {n: at for n, at in drawn.mesh.parts[number].state.watermarks.items() if "events" in n}
        for number, marks in watermarks.items()
    }
    if dies_after is None:
        await check_sent_again(drawn, broker)


async def check_sent_again(drawn: Drawn, broker: Broker) -> None:
    inbox = [decode_inbox(one) for one in await read(broker, TOPICS.inbox, PARTITIONS)]
    assert sorted(crossing_id(one) for one in inbox) == sorted(map(crossing_id, drawn.on_their_way))  # type: ignore[arg-type]
    running = {
        (step.task_id, step.attempt)
        for state in drawn.states().values()
        for step in state.steps.values()
        if step.status == "running"
    }
    tasks = [decode_task(one) for name in ("x", "y") for one in await tasks_of(broker, name)]
    assert sorted((task.task_id, task.attempt) for task in tasks) == sorted(running)


async def tasks_of(broker: Broker, agent: str) -> list[Record]:
    topic = TOPICS.tasks(agent)
    return await read(broker, topic, 1) if topic in await broker.topics() else []


class Died(Exception):
    pass


async def die(broker: Broker, file: Path, after: int) -> None:
    """Import, and die after so many calls that write."""
    left = after

    class Dying:
        def __getattr__(self, name: str) -> object:
            nonlocal left
            if name in {"append", "send"}:
                left -= 1
                if left < 0:
                    raise Died
            return getattr(broker, name)

    dying = Dying()
    with pytest.raises(Died):
        await forever(dying, file)


async def forever(broker: object, file: Path) -> None:
    while True:
        await imported(broker, file)  # type: ignore[arg-type]


@given(seed=seeds)
@settings(max_examples=20)
def test_a_drawn_log_folds_equally_after_an_import(seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run(lambda _: move(seed, Path(folder)))


@given(seed=seeds, dies_after=st.integers(0, 12), batch=st.integers(1, 5))
@settings(max_examples=20)
def test_an_import_that_died_goes_on(seed: int, dies_after: int, batch: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(importing, "_BATCH", batch)
        run(lambda _: move(seed, Path(folder), dies_after=dies_after))


@given(seed=seeds, place=st.floats(0, 1, exclude_max=True), how=st.sampled_from(["cut", "change", "lose", "double"]))
@settings(max_examples=30)
def test_a_line_that_is_not_as_it_was_is_noticed_at_its_number(seed: int, place: float, how: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "log.gz"

        async def write() -> None:
            old = cluster("old")
            await Drawn(seed % 100).write(old)
            await exported(old.connect("export"), file)

        run(lambda _: write())
        lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
        at = int(place * len(lines))
        if how == "cut":
            lines[at:] = []
        elif how == "lose":
            lines[at : at + 1] = []
        elif how == "double":
            lines[at:at] = [lines[at]]
        else:
            lines[at] = lines[at].replace(b":", b";", 1)
        file.write_bytes(gzip.compress(b"".join(lines)))
        number = {"cut": at, "double": at + 2}.get(how, at + 1)
        if how == "lose" and at == len(lines):  # the last one
            number = at
        # without a line before it the one behind the last that is left is missing
        words = rf"line {number:,}\b" if at else "line [12] "
        with pytest.raises(ExportInvalid, match=words):
            Checked(file)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    async def write() -> None:
        old = cluster("old")
        await Drawn(1).write(old)
        await exported(old.connect("export"), tmp_path / "log.gz")

    run(lambda _: write())
    return tmp_path / "log.gz"


def test_bytes_that_are_cut_off_are_noticed(file: Path) -> None:
    whole = file.read_bytes()
    for length in range(0, len(whole), 97):
        file.write_bytes(whole[:length])
        with pytest.raises(ExportInvalid, match="line"):
            Checked(file)


async def test_a_mesh_that_has_a_log_is_left_alone(file: Path) -> None:
    other = cluster("other")
    await Drawn(2).write(other)
    before = await folded(other.connect("x"))
    with pytest.raises(OperatorError, match=r"has a log of its own: mesh\.log/0 has another record at"):
        await imported(other.connect("import"), file)
    assert await folded(other.connect("x")) == before


async def test_a_mesh_is_not_imported_into_itself(file: Path) -> None:
    with pytest.raises(OperatorError, match="this very mesh"):
        await imported(cluster("old").connect("import"), file)


async def test_another_number_of_partitions_is_refused(file: Path) -> None:
    new = cluster("new")
    new.create_topics(topic_specs(TOPICS, PARTITIONS + 1, []))
    with pytest.raises(OperatorError, match="has 4 partitions here and 3 in the file"):
        await imported(new.connect("import"), file)


async def test_a_router_that_starts_meanwhile_is_noticed(file: Path) -> None:
    new = cluster("new")
    broker = new.connect("import")

    class Meanwhile:
        def __getattr__(self, name: str) -> object:
            return self._append if name == "append" else getattr(broker, name)

        async def _append(self, place: TopicPartition, at: int, lines: list[OutRecord], effects: object) -> object:
            change = OwnerChanged(token="router", owner="r", partitions=PARTITIONS, format_level=1, at_ms=0)
            await new.connect("router").append(
                place, None, [encode_owner_changed(change, topic=place.topic, partition=place.partition)], []
            )
            return await broker.append(place, at, lines, [])

    with pytest.raises(OperatorError, match=r"somebody else writes to mesh\.log/0: stop the routers"):
        await imported(Meanwhile(), file)  # type: ignore[arg-type]


async def test_the_log_says_where_it_came_from(file: Path) -> None:
    broker = cluster("new").connect("import")
    await imported(broker, file)
    last = [
        decode_log_record(one)
        for one in await read(broker, TOPICS.log, PARTITIONS)
        if one.value is not None and b"LogImported" in one.value
    ]
    assert len(last) == PARTITIONS
    for one in last:
        assert isinstance(one, Decision)
        [event] = one.events
        assert isinstance(event, LogImported)
        assert (event.mesh, one.positions) == ("mesh.@old", {})


async def test_a_log_that_was_read_at_two_moments_is_refused(tmp_path: Path) -> None:
    drawn, old = next(filter(heard_by_others, (Drawn(seed, with_gaps=False) for seed in range(100)))), cluster("old")
    [sender, *_] = heard_by_others(drawn)
    # of the sender only the begin was read
    drawn.lines[sender] = drawn.lines[sender][:1]
    await drawn.write(old)
    with pytest.raises(LogError, match=f"was read later than partition {sender}"):
        await exported(old.connect("export"), tmp_path / "log.gz")
    assert not left_in(tmp_path), "half a file is left"


def left_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def heard_by_others(drawn: Drawn) -> list[int]:
    """The partitions of which another one has heard something."""
    return [
        sender
        for number, part in enumerate(drawn.mesh.parts)
        for sender in range(PARTITIONS)
        if sender != number and f"{TOPICS.log}/{sender}" in part.state.watermarks
    ]


async def test_what_nobody_has_read_is_counted(tmp_path: Path) -> None:
    old = cluster("old")
    await Drawn(1).write(old)
    await old.connect("upstream").send([OutRecord(TOPICS.events, None, b"{}"), OutRecord(TOPICS.commands, None, b"{}")])
    head = await exported(old.connect("export"), tmp_path / "log.gz")
    assert head.unread == {"events": 1, "commands": 1}


async def test_signs_of_life_are_missed_by_nobody(tmp_path: Path) -> None:
    old = cluster("old")
    await Drawn(1).write(old)
    said = SignReceived(task_id="r:1/run/a", attempt=1, workflow_id="r:1", status="started", duration_ms=0.0, agent="x")
    sign = OutRecord(TOPICS.results, b"r:1", msgspec.json.encode(said), (), 1)
    broken = OutRecord(TOPICS.results, b"r:1", b"no reply", (), 1)
    await old.connect("x").send([sign, broken, sign])
    head = await exported(old.connect("export"), tmp_path / "log.gz")
    assert head.unread == {"results": 1}


async def test_each_agent_has_its_topic_before_it_is_started(file: Path) -> None:
    new = cluster("new")
    broker = new.connect("import")
    await imported(broker, file)
    # or the first task for one that starts later than the router is undeliverable, an incident
    assert {TOPICS.tasks("x"), TOPICS.tasks("y")} <= set(await broker.topics())


async def test_what_a_mesh_knows_beside_its_log_goes_with_it(tmp_path: Path) -> None:
    old = cluster("old")
    await Drawn(1).write(old)
    card = AgentCard(name="x", version="1", topic=TOPICS.tasks("x"), instance="x-1", capabilities=("words.count",))
    registration = registration_of(card)
    wanted = Ordered(operation="op-1", command="cancel", total=1, chunks=1, rate=20, by="ana", reason="over", at_ms=0)
    kept = [encode_card(registration, topics=TOPICS), withdraw_registration("y", topics=TOPICS)]
    kept.append(encode_operation(wanted, topics=TOPICS))
    await old.connect("x").send([*kept, encode_card(card, topics=TOPICS), withdraw_card(card, topics=TOPICS)])
    await exported(old.connect("export"), tmp_path / "log.gz")
    broker = cluster("new").connect("import")
    await imported(broker, tmp_path / "log.gz")
    found = await read(broker, TOPICS.agents, 1) + await read(broker, TOPICS.operations, 1)
    assert [(one.key, one.value) for one in found] == [(one.key, one.value) for one in kept]


async def test_the_begin_of_the_log_must_be_there(tmp_path: Path) -> None:
    old = cluster("old")
    await Drawn(1).write(old)
    old._partitions[TopicPartition(TOPICS.log, 1)].begin = 3
    with pytest.raises(LogError, match=r"mesh\.log/1 begins at 3"):
        await exported(old.connect("export"), tmp_path / "log.gz")


@given(steps=st.lists(st.tuples(st.sampled_from(["set", "get", "pop", "all"]), st.integers(0, 5)), max_size=40))
def test_states_on_disk_are_those_of_a_dictionary(steps: list[tuple[str, int]]) -> None:
    [state, *_] = Drawn(3).states().values()
    spilled, plain = SpilledWorkflows(in_memory=2), dict[str, object]()
    for what, number in steps:
        name = str(number)
        if what == "set":
            spilled[name] = plain[name] = state
        elif what == "get":
            assert spilled.get(name) == plain.get(name)
        elif what == "pop":
            assert spilled.pop(name, None) == plain.pop(name, None)
        else:
            assert (list(spilled), len(spilled)) == (sorted(plain), len(plain))
            assert dict(spilled.states()) == plain
    spilled.close()
