"""Dead letters go back to where they belong, and once, even if several people send them back."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sample_mesh import TOPICS, Writer, event, workflow, write_sample

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.adapters.sqlite import SqliteBroker
from mesh.adapters.system import SystemClock
from mesh.cli.app import mesh
from mesh.codec.cloudevents import from_record
from mesh.codec.commands import decode_command
from mesh.codec.dead_letters import DeadLetter, dead_letter
from mesh.codec.handlings import Handling, LetterPlace, decode_handling, encode_handling, is_handling
from mesh.codec.inbox import encode_inbox
from mesh.codec.redrive import By, Stays, redriven, times_redriven, workflow_of
from mesh.core import inputs as inp
from mesh.core.schedules import Schedule
from mesh.errors import BrokerError, MalformedRecord
from mesh.inspection.letters import OPEN, Standing, after
from mesh.inspection.read_model import ReadModel, model_path, queries
from mesh.inspection.read_model.queries import LetterFilter
from mesh.inspection.redriving import Redriving
from mesh.ports import Broker, Delivery, OutRecord, Record, SendFailure, TopicPartition

PLACE = LetterPlace(2, 7)
BY = By("op-1", "ana", 1_763_900_000_000, "the route is corrected")
STRUCTURED = (("content-type", b"application/cloudevents+json"),)


def letter(
    topic: str,
    value: bytes | None = b"x",
    *,
    key: bytes | None = b"k",
    component: str = "ingress",
    code: str = "malformed",
    headers: tuple[tuple[str, bytes], ...] = (),
) -> DeadLetter:
    original = Record(topic, 1, 5, BY.at_ms, key, value, headers)
    return DeadLetter(
        original=original,
        code=code,
        message="why",
        component=component,
        group="g",
        attempt=1,
        failed_at_ms=BY.at_ms,
        first_failed_at_ms=BY.at_ms,
    )


def back(given: DeadLetter) -> OutRecord | Stays:
    return redriven(given, PLACE, BY, topics=TOPICS)


def inbox(given: inp.InboxInput) -> DeadLetter:
    record = encode_inbox(given, topic=TOPICS.inbox, partition=0)
    return letter(TOPICS.inbox, record.value, key=record.key, component="router", code="failed")


SOURCE: dict[str, Any] = {"workflow_id": workflow(1), "source_topic": "t", "source_partition": 0, "source_offset": 3}
CAME: dict[str, Any] = {**SOURCE, "source_at_ms": BY.at_ms}


# Where a record goes ------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", [TOPICS.events, TOPICS.commands])
def test_a_record_goes_back_as_it_came_with_whence_it_comes(topic: str) -> None:
    found = back(letter(topic, headers=(("a", b"1"),)))
    assert isinstance(found, OutRecord)
    assert (found.topic, found.key, found.value, found.partition) == (topic, b"k", b"x", None)
    told = dict(found.headers)
    assert told["a"] == b"1"
    assert told["__mesh.redriven.letter"] == b"2/7"
    assert told["__mesh.redriven.original"] == f"{topic}/1/5".encode()
    assert told["__mesh.redriven.by"] == b"ana"
    assert told["__mesh.redriven.times"] == b"1"
    assert told["__mesh.redriven.at"].startswith(b"2025-11-23T")


def test_a_record_that_comes_back_counts_and_keeps_one_block_of_headers() -> None:
    first = back(letter(TOPICS.events))
    assert isinstance(first, OutRecord)
    again = letter(TOPICS.events, headers=first.headers)
    assert times_redriven(again) == 1
    second = back(again)
    assert isinstance(second, OutRecord)
    names = [name for name, _ in second.headers]
    assert len(names) == len(set(names)) == len(first.headers)
    assert dict(second.headers)["__mesh.redriven.times"] == b"2"
    assert times_redriven(letter("t", headers=(("__mesh.redriven.times", b"-x"),))) == 0


def test_an_event_that_nobody_claimed_goes_back_without_the_key_of_its_workflow() -> None:
    given = letter(
        TOPICS.events,
        json.dumps(event(1)).encode(),
        key=workflow(1).encode(),
        component="router",
        code="unclaimed",
        headers=STRUCTURED,
    )
    found = back(given)
    assert isinstance(found, OutRecord)
    assert (found.topic, found.key) == (TOPICS.events, None)
    assert from_record(Record(TOPICS.events, 0, 0, 0, None, found.value, found.headers))["id"] == "delivery-1"
    assert workflow_of(given) == workflow(1)
    odd = back(letter(TOPICS.events, b"{", component="router"))
    assert isinstance(odd, OutRecord)
    assert (odd.key, odd.value) == (None, b"{")


@pytest.mark.parametrize("kind", [inp.EventMatched, inp.EventOffered])
def test_of_a_parked_event_the_event_goes_back(kind: type[inp.EventMatched] | type[inp.EventOffered]) -> None:
    found = back(inbox(kind(**CAME, route="r", digest="d", key="k", cloud_event=event(1))))
    assert isinstance(found, OutRecord)
    assert found.topic == TOPICS.events
    record = Record(TOPICS.events, 0, 0, 0, found.key, found.value, found.headers)
    assert from_record(record)["data"] == event(1)["data"]


def test_of_a_parked_command_the_command_goes_back() -> None:
    given = inp.CommandGiven(
        **CAME, command_id="c-1", command="retry", by="ops", reason="why", step="s", task_input=[1]
    )
    found = back(inbox(given))
    assert isinstance(found, OutRecord)
    assert found.topic == TOPICS.commands
    again = decode_command(Record(TOPICS.commands, 0, 0, 0, found.key, found.value, found.headers))
    same = ("workflow_id", "command_id", "command", "by", "reason", "step", "task_input")
    assert [getattr(again, name) for name in same] == [getattr(given, name) for name in same]


ANSWER = inp.AnswerGiven(**CAME, approval_id="a", answer_id="b", decision="approve", by="ana")
STAYS: dict[str, tuple[DeadLetter, str]] = {
    "an answer": (letter(TOPICS.responses), "an_answer"),
    "a parked answer": (inbox(ANSWER), "an_answer"),
    "a command that nobody can read": (
        inbox(inp.CommandUnreadable(**CAME, command_id="c", command="", code="malformed", message="m")),
        "malformed",
    ),
    "a schedule": (
        inbox(
            inp.ScheduleSet(**CAME, set_id="s", route="r", digest="d", schedule=Schedule(cron="* * * * *"), since_ms=1)
        ),
        "told_again",
    ),
    "a record between workflows": (
        inbox(inp.SlotGiven(**CAME, task_id=f"{workflow(1)}/r/s", attempt=1, limit="mesh.limit:a/b", asked_at_ms=1)),
        "of_a_step",
    ),
    "a parked record that nobody can read": (letter(TOPICS.inbox, b"?", component="router"), "malformed"),
    "a result": (letter(TOPICS.results, key=workflow(1).encode(), component="router"), "of_a_step"),
    "bytes that could not be read": (letter(TOPICS.events, None, code="unreadable"), "no_bytes"),
    "a record that was too large": (letter(TOPICS.events, None, code="too_large"), "no_bytes"),
    "a task": (letter(TOPICS.tasks("drafter"), component="agent"), "of_a_step"),
    "another topic": (letter("elsewhere"), "foreign"),
}


@pytest.mark.parametrize("name", STAYS)
def test_what_would_help_nobody_stays_and_says_what_helps(name: str) -> None:
    given, code = STAYS[name]
    found = back(given)
    assert isinstance(found, Stays)
    assert found.code == code
    if name == "a result":
        assert f"mesh workflows retry '{workflow(1)}'" in found.message


def test_the_workflow_of_a_task_is_told_by_its_key() -> None:
    key = f"{workflow(1)}/4f2a9c01/draft/2".encode()
    assert workflow_of(letter(TOPICS.tasks("drafter"), key=key, component="agent")) == workflow(1)
    assert workflow_of(letter(TOPICS.tasks("drafter"), key=b"?", component="agent")) == ""
    assert workflow_of(letter(TOPICS.events, key=workflow(1).encode())) == ""


# What counts --------------------------------------------------------------------------------------


def handling(act: Any, operation: str, previous: str = "") -> Handling:
    return Handling(partition=2, offset=7, act=act, operation=operation, by="ana", at_ms=1, after=previous)


def test_a_handling_is_read_as_it_was_written_and_is_no_letter() -> None:
    given = handling("taken", "op-1", "op-0")
    out = encode_handling(given, topic=TOPICS.dlq)
    record = Record(TOPICS.dlq, 2, 9, 0, out.key, out.value, out.headers)
    assert (out.partition, is_handling(record), decode_handling(record)) == (2, True, given)
    copied = dead_letter(record, code="c", message="m", component="ingress", group="g", topics=TOPICS, at_ms=1)
    assert not is_handling(Record(TOPICS.dlq, 2, 9, 0, copied.key, copied.value, copied.headers))
    with pytest.raises(MalformedRecord, match=r"mesh.dlq, partition 2, offset 9"):
        decode_handling(Record(TOPICS.dlq, 2, 9, 0, None, b"{}", ()))


@pytest.mark.parametrize(
    ("acts", "end"),
    [
        ([("taken", "a", ""), ("redriven", "a", "")], ("redriven", "a")),
        ([("taken", "a", ""), ("taken", "b", ""), ("redriven", "b", "")], ("taken", "a")),
        ([("taken", "a", ""), ("released", "a", "")], OPEN),
        ([("taken", "a", ""), ("released", "b", "")], ("taken", "a")),
        ([("taken", "a", ""), ("taken", "b", "a"), ("redriven", "a", "")], ("taken", "b")),
        ([("discarded", "a", ""), ("taken", "b", "")], ("discarded", "a")),
        ([("discarded", "a", ""), ("taken", "b", "a"), ("redriven", "b", "")], ("redriven", "b")),
        ([("redriven", "a", "")], OPEN),
    ],
)
def test_the_first_operation_has_a_letter_until_one_names_it(acts: list[tuple[str, str, str]], end: Any) -> None:
    standing = OPEN
    for act in acts:
        standing = after(standing, handling(*act))
    assert standing == Standing(*end)


@given(st.permutations([(act, name) for name in "abc" for act in ("taken", "redriven")]))
def test_of_several_operations_that_take_an_open_letter_one_has_it(order: Sequence[tuple[str, str]]) -> None:
    """Whatever the order of their records, the first that takes it is the only one to have it."""
    standing, holders = OPEN, set[str]()
    for act, operation in order:
        standing = after(standing, handling(act, operation))
        holders |= {standing.operation} - {""}
    first = next(name for act, name in order if act == "taken")
    assert holders == {first}


# The operation ------------------------------------------------------------------------------------


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster(clock=SystemClock())


@pytest.fixture
async def broker(cluster: MemoryCluster) -> AsyncIterator[MemoryBroker]:
    connection = cluster.connect("test")
    yield connection
    await connection.close()


async def write_letters(broker: Broker, count: int) -> None:
    writer = Writer(broker)
    await writer.create_topics()
    originals = [Record(TOPICS.events, 0, n, 1, None, b"%d" % n, ()) for n in range(count)]
    await writer.send(
        [
            dead_letter(one, code="malformed", message="m", component="ingress", group="g", topics=TOPICS, at_ms=1)
            for one in originals
        ]
    )


def sent(cluster: MemoryCluster) -> list[bytes | None]:
    return [record.value for record in cluster.records(TopicPartition(TOPICS.events, 0))]


async def opened(broker: Broker, folder: Path) -> ReadModel:
    model = ReadModel(broker, TOPICS, model_path(folder, "memory://", "mesh."))
    await model.catch_up()
    return model


async def test_two_operators_at_once_send_each_letter_once(
    cluster: MemoryCluster, broker: MemoryBroker, tmp_path: Path
) -> None:
    await write_letters(broker, 500)

    async def operator(name: str) -> list[str]:
        async with await opened(broker, tmp_path / name) as model:
            rows = queries.dead_letters(model.db, LetterFilter(statuses=("open",)))
            redriving = Redriving(broker, model, TOPICS, By(name, name, 1))
            return [one.verdict async for one in redriving.redrive(rows)]

    verdicts = [one for found in await asyncio.gather(*map(operator, "abc")) for one in found]
    assert sorted(sent(cluster), key=lambda value: int(value or b"")) == [b"%d" % n for n in range(500)]
    assert verdicts.count("redriven") == 500
    async with await opened(broker, tmp_path / "d") as model:
        assert queries.count_dead_letters(model.db) == 0


async def test_a_letter_whose_command_died_half_way_is_sent_again_only_by_name(
    cluster: MemoryCluster, broker: MemoryBroker, tmp_path: Path
) -> None:
    await write_letters(broker, 2)
    taken = Handling(partition=0, offset=0, act="taken", operation="dead", by="ben", at_ms=1)
    await broker.send([encode_handling(taken, topic=TOPICS.dlq)])
    async with await opened(broker, tmp_path) as model:
        assert queries.count_dead_letters(model.db) == 2
        rows = queries.dead_letters(model.db)
        plain, again = (
            Redriving(broker, model, TOPICS, By(n, "ana", 1), again=n == "again") for n in ("plain", "again")
        )
        found = {one.id: one async for one in plain.redrive(rows)}
        assert (found["0/0"].code, found["0/1"].verdict, sent(cluster)) == ("taken", "redriven", [b"1"])
        assert "did not say that it was sent" in found["0/0"].message
        rows = queries.dead_letters(model.db, LetterFilter(places=(LetterPlace(0, 0),)))
        assert [one.verdict async for one in again.redrive(rows)] == ["redriven"]
        assert sent(cluster) == [b"1", b"0"]


class Refusing:
    """A broker that takes no event."""

    def __init__(self, broker: Broker, *, topic: str) -> None:
        self._broker = broker
        self._topic = topic

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    async def send(self, records: Sequence[OutRecord]) -> Sequence[SendFailure]:
        refused = [
            SendFailure(n, Delivery.TOO_LARGE, "too large") for n, one in enumerate(records) if one.topic == self._topic
        ]
        await self._broker.send([one for one in records if one.topic != self._topic])
        return refused


async def test_a_letter_that_the_broker_refuses_stays_open(broker: MemoryBroker, tmp_path: Path) -> None:
    await write_letters(broker, 1)
    async with await opened(broker, tmp_path) as model:
        refusing: Any = Refusing(broker, topic=TOPICS.events)
        redriving = Redriving(refusing, model, TOPICS, BY)
        [one] = [one async for one in redriving.redrive(queries.dead_letters(model.db))]
        assert (one.verdict, one.code) == ("stays", "too_large")
        await model.catch_up()
        assert [row.status for row in queries.dead_letters(model.db)] == ["open"]
        deaf: Any = Refusing(broker, topic=TOPICS.dlq)
        with pytest.raises(BrokerError, match="does not take a record"):
            [one async for one in Redriving(deaf, model, TOPICS, BY).redrive(queries.dead_letters(model.db))]


async def test_a_handling_of_what_is_not_there_changes_nothing(broker: MemoryBroker, tmp_path: Path) -> None:
    await write_letters(broker, 1)
    strange = encode_handling(handling("taken", "x"), topic=TOPICS.dlq)
    other = Handling(partition=0, offset=99, act="discarded", operation="x", by="ben", at_ms=1)
    await broker.send(
        [
            OutRecord(TOPICS.dlq, None, strange.value, strange.headers, 0),
            OutRecord(TOPICS.dlq, None, b"{}", strange.headers, 0),
            encode_handling(other, topic=TOPICS.dlq),
        ]
    )
    async with await opened(broker, tmp_path) as model:
        [row] = queries.dead_letters(model.db)
        assert (row.status, row.operation) == ("open", "")
        [one] = [one async for one in Redriving(broker, model, TOPICS, BY).discard([row])]
        assert one.verdict == "discarded"
        await broker.send([OutRecord(TOPICS.dlq, None, b"foreign", (), 0)])
        await model.catch_up()
        [foreign] = queries.dead_letters(model.db, LetterFilter(statuses=("open",)))
        [stays] = [one async for one in Redriving(broker, model, TOPICS, BY).planned([foreign])]
        assert (stays.code, foreign.code) == ("foreign", "foreign")
        gone = replace(foreign, offset=50)
        [stays] = [one async for one in Redriving(broker, model, TOPICS, BY).planned([gone])]
        assert stays.code == "gone"


# The commands -------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {
        "MESH_BROKER": f"sqlite://{tmp_path}/mesh.db",
        "MESH_DATA_DIR": str(tmp_path / "data"),
        "MESH_BY": "ana",
        "COLUMNS": "160",
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def with_broker(folder: Path, work: Callable[[Broker], Awaitable[Any]]) -> Any:
    async def open_and_work() -> Any:
        broker = await SqliteBroker.open(folder / "mesh.db", client_id="test", durability="normal")
        try:
            return await work(broker)
        finally:
            await broker.close()

    return asyncio.run(open_and_work())


@pytest.fixture
def letters(folder: Path) -> Path:
    """The sample's malformed event (0/0), an event without a key (0/1), and an answer (0/2)."""

    async def write(broker: Broker) -> None:
        writer = await write_sample(broker)
        more = [
            (TOPICS.events, "no_key", "route orders can't make its key: no such thing"),
            (TOPICS.responses, "malformed", "m"),
        ]
        for topic, code, message in more:
            record = Record(topic, 0, 9, 1, None, b"{}", ())
            given: dict[str, Any] = {"component": "ingress", "group": "g", "topics": TOPICS, "at_ms": 1}
            await writer.send([dead_letter(record, code=code, message=message, **given)])

    with_broker(folder, write)
    return folder


def call(*arguments: str, code: int = 0) -> Result:
    result = CliRunner().invoke(mesh, list(arguments))
    assert result.exit_code == code, result.output
    return result


def call_json(*arguments: str, code: int = 0) -> Any:
    return json.loads(call(*arguments, "--json", code=code).stdout)


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ([], ["0/2", "0/1", "0/0"]),
        (["--code", "no_key"], ["0/1"]),
        (["--route", "orders"], ["0/1"]),
        (["--topic", "mesh.events"], ["0/1", "0/0"]),
        (["--since", "1h", "--topic", "mesh.events", "--code", "malformed"], ["0/0"]),
        (["--status", "redriven"], []),
        (["--status", "all"], ["0/2", "0/1", "0/0"]),
    ],
)
def test_letters_are_listed_by_filter(letters: Path, options: list[str], ids: list[str]) -> None:
    assert [one["id"] for one in call_json("dlq", "list", *options)["dead_letters"]] == ids


def test_a_dry_run_shows_what_would_become_of_each_and_does_nothing(letters: Path) -> None:
    found = call_json("dlq", "redrive", "--all", "--dry-run")
    assert (found["dry_run"], found["operation"]) == (True, None)
    assert found["counts"] == {"redriven": 2, "discarded": 0, "stays": 1}
    assert [(one["id"], one["verdict"], one["to"]) for one in found["dead_letters"]] == [
        ("0/0", "redriven", "mesh.events"),
        ("0/1", "redriven", "mesh.events"),
        ("0/2", "stays", ""),
    ]
    assert call_json("dlq", "list")["total"] == 3
    assert "this was a dry run, nothing is done" in call("dlq", "discard", "--all", "--dry-run").stderr


def test_letters_go_back_after_a_confirmation_and_are_open_no_more(letters: Path) -> None:
    asked = call("dlq", "redrive", "--all", code=2)
    assert asked.stdout.startswith("3 dead letters: 2 would be redriven\n")
    assert "1 malformed of mesh.approvals.responses stay: an answer is its author's" in asked.stdout
    assert "needs --yes" in asked.stderr
    done = call_json("dlq", "redrive", "--all", "--yes", "--reason", "corrected", code=1)
    assert done["counts"] == {"redriven": 2, "discarded": 0, "stays": 1}
    assert call_json("status")["dead_letters"] == 1
    [rest] = call_json("dlq", "list")["dead_letters"]
    assert (rest["id"], rest["status"]) == ("0/2", "open")
    [one, _] = call_json("dlq", "list", "--status", "redriven")["dead_letters"]
    assert one["handled"] == {
        "operation": done["operation"],
        "by": "ana",
        "reason": "corrected",
        "at": one["handled"]["at"],
    }
    assert "redriven by ana (corrected)" in call("dlq", "show", "0/0").stdout
    assert "redriven by ana (corrected)" in call("dlq", "list", "--status", "all").stdout
    assert call_json("dlq", "show", "0/0")["handled"]["by"] == "ana"


def test_a_letter_goes_back_a_second_time_only_if_it_is_named(letters: Path) -> None:
    call("dlq", "redrive", "--id", "0/0", "--yes")
    assert (
        "no open dead letter is meant"
        in call("dlq", "redrive", "--code", "malformed", "--topic", "mesh.events", code=3).stderr
    )
    stays = call("dlq", "redrive", "--id", "0/0", "--yes", code=1)
    assert "redriven by ana; name it with --id and --again" in stays.stdout
    discarded = call("dlq", "discard", "--id", "0/0", "--yes", code=1)
    assert "stays" in discarded.stdout
    assert "redriven" in call("dlq", "redrive", "--id", "0/0", "--again", "--yes").stdout
    call("dlq", "discard", "--id", "0/0", "--again", "--yes", "--reason", "spam")
    assert call_json("dlq", "list", "--status", "discarded")["dead_letters"][0]["handled"]["reason"] == "spam"


def test_what_is_discarded_counts_no_more(letters: Path) -> None:
    call("dlq", "discard", "--all", "--yes", "--reason", "a test")
    assert call_json("status")["dead_letters"] == 0
    assert call("dlq").stdout == "No dead letters.\n"
    assert call_json("dlq", "list", "--status", "discarded")["total"] == 3


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ([], 2, "say which letters: --id"),
        (["--all", "--again"], 2, "--again is for letters that are named"),
        (["--id", "x"], 2, "is not the id of a dead letter"),
        (["--id", "0/77"], 3, "no such dead letter: 0/77"),
        (["--code", "nothing"], 3, "no open dead letter is meant"),
        (["--since", "soon"], 2, "is not a time"),
    ],
)
def test_what_is_not_meant_is_refused(letters: Path, options: list[str], code: int, said: str) -> None:
    assert said in call("dlq", "redrive", *options, code=code).stderr
