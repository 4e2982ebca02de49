"""Which one is meant by an id: whole ids win, closed ones say so, and a part is asked about."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sample_mesh import TOPICS, Writer, approved, asked, run, started, workflow, write_sample

from mesh.adapters.sqlite import SqliteBroker
from mesh.cli.app import mesh
from mesh.cli.choice import among_digests, among_ids, pick
from mesh.cli.session import Session
from mesh.codec.approvals import decode_response
from mesh.codec.commands import decode_command
from mesh.codec.dead_letters import dead_letter
from mesh.core.events import Cause
from mesh.core.json_values import digest
from mesh.errors import NotFound, OperatorError
from mesh.ports import Broker, Record, TopicPartition


def with_broker(folder: Path, work: Callable[[Broker], Awaitable[Any]]) -> Any:
    async def open_and_work() -> Any:
        broker = await SqliteBroker.open(folder / "mesh.db", client_id="test", durability="normal")
        try:
            return await work(broker)
        finally:
            await broker.close()

    return asyncio.run(open_and_work())


async def waiting(broker: Broker, *numbers: int) -> Writer:
    """Workflows that each wait for a review."""
    writer = Writer(broker)
    for number in numbers:
        await writer.decide(workflow(number), Cause(kind="event", id="x"), started(number), asked(number, 0))
    return writer


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The sample, in which 1 waits for a review, 2 is completed, 3 has an incident."""
    for name, value in {
        "MESH_BROKER": f"sqlite://{tmp_path}/mesh.db",
        "MESH_DATA_DIR": str(tmp_path / "data"),
        "MESH_BY": "ana@example.org",
        "COLUMNS": "200",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    with_broker(tmp_path, write_sample)
    return tmp_path


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "is_interactive", property(lambda _: True))


def call(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(mesh, list(arguments), input=stdin)


def sent(folder: Path) -> list[str]:
    """The ids that answers and commands on the broker are for."""

    async def read(broker: Broker) -> list[str]:
        found = []
        for topic in (TOPICS.responses, TOPICS.commands):
            where = TopicPartition(topic, 0)
            end = (await broker.end_offsets([where]))[where]
            reader = await broker.reader()
            reader.assign({where: 0})
            records: list[Record] = []
            async with asyncio.timeout(30):
                while len(records) < end:
                    records += await reader.poll(max_records=100, timeout_s=1)
            await reader.close()
            is_answer = topic == TOPICS.responses
            found += [decode_response(r).approval_id if is_answer else decode_command(r).workflow_id for r in records]
        return found

    return cast(list[str], with_broker(folder, read))


CHANGING = [
    ("approve", 1),
    ("approvals approve", 1),
    ("reject --reason no", 1),
    ("approvals reject --reason no", 1),
    ("workflows cancel --reason no", 1),
    ("workflow cancel --reason no", 1),
    ("workflows retry", 3),
    ("workflows skip", 3),
    ("workflows fail", 3),
]


@pytest.mark.parametrize(("command", "number"), CHANGING)
def test_no_command_that_changes_something_takes_a_part_without_a_question(
    folder: Path, command: str, number: int
) -> None:
    for options in ((), ("--json",)):
        result = call(*command.split(), f"repo#{number}", "--timeout", "0.01", *options)
        assert result.exit_code == 3, result.output
        assert workflow(number) in result.stderr
    assert sent(folder) == []


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize(("command", "number"), CHANGING)
def test_at_a_terminal_a_part_is_taken_after_a_question_alone(folder: Path, command: str, number: int) -> None:
    arguments = [*command.split(), f"repo#{number}", "--timeout", "0.01"]
    for refusal in ("n\n", "\n", ""):
        assert call(*arguments, stdin=refusal).exit_code in {3, 130}
    assert sent(folder) == []
    confirmed = call(*arguments, stdin="y\n")
    assert confirmed.exit_code == 5, confirmed.output
    assert f"a part of {workflow(number)}" in confirmed.stderr
    assert [one.startswith(workflow(number)) for one in sent(folder)] == [True]


def test_a_whole_id_wins_over_those_that_it_is_a_part_of(folder: Path) -> None:
    with_broker(folder, lambda broker: waiting(broker, 10, 11, 100))
    whole = f"{workflow(10)}/{run(10)}/review"
    for name in (workflow(1), workflow(10), whole):
        assert call("approve", name, "--timeout", "0.01").exit_code == 5
    assert call("workflows", "cancel", workflow(10), "--reason", "no", "--timeout", "0.01").exit_code == 5
    assert sent(folder) == [f"{workflow(1)}/{run(1)}/review", whole, whole, workflow(10)]
    assert json.loads(call("approvals", "show", workflow(1), "--json").stdout)["workflow_id"] == workflow(1)
    assert json.loads(call("workflow", workflow(1), "--json").stdout)["workflow"]["workflow_id"] == workflow(1)


def test_a_closed_approval_says_how_it_ended_and_no_other_is_answered(folder: Path) -> None:
    async def close(broker: Broker) -> None:
        writer = await waiting(broker, 10)
        await writer.decide(workflow(1), Cause(kind="answer", id="a1"), approved(1, "a1"))

    with_broker(folder, close)
    for name in (workflow(1), f"{workflow(1)}/{run(1)}/review", f"repo#1/{run(1)}"):
        result = call("approve", name, "--timeout", "0.01")
        assert result.exit_code == 1, result.output
        assert "is closed: approved by ana@example.org" in result.stderr
        assert "ago" in result.stderr
    assert sent(folder) == []
    shown = json.loads(call("approvals", "show", workflow(1), "--json").stdout)
    assert (shown["verdict"], shown["closed_by"]) == ("approved", "ana@example.org")
    assert "closed: approved by ana@example.org" in call("approvals", "show", workflow(1)).stdout


def test_a_closed_approval_is_shown_with_the_text_that_was_approved(folder: Path) -> None:
    edited = replace(approved(1, "a1"), payload={"text": "My own"}, edited=True)

    async def close(broker: Broker) -> None:
        writer = await waiting(broker, 10)
        await writer.decide(workflow(1), Cause(kind="answer", id="a1"), edited)

    with_broker(folder, close)
    shown = json.loads(call("approvals", "show", workflow(1), "--json").stdout)
    assert (shown["payload"], shown["digest"]) == (edited.payload, digest(edited.payload))


def test_a_workflow_that_asks_nobody_or_twice_says_so(folder: Path) -> None:
    async def ask_twice(broker: Broker) -> None:
        writer = await waiting(broker, 10)
        second = asked(10, 0)
        second = type(second)(
            **{name: getattr(second, name) for name in second.__struct_fields__}
            | {"step": "again", "approval_id": second.approval_id.replace("review", "again")}
        )
        await writer.decide(workflow(10), Cause(kind="event", id="y"), second)

    with_broker(folder, ask_twice)
    several = call("approve", workflow(10))
    assert (several.exit_code, "has 2 open approvals" in several.stderr) == (2, True)
    assert "/again" in several.stderr
    for command in ("approve", "approvals show"):
        nobody = call(*command.split(), workflow(3))
        assert (nobody.exit_code, "`mesh approvals list` lists" in nobody.stderr) == (3, True)
    unknown = call("approve", "issue-triage:nobody")
    assert (unknown.exit_code, "`mesh approvals list` lists them" in unknown.stderr) == (3, True)
    assert sent(folder) == []


@pytest.mark.usefixtures("terminal")
def test_answering_one_by_one_comes_to_each_that_is_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.cli.approvals.answer.PAGE", 2)
    with_broker(folder, lambda broker: waiting(broker, 10, 11, 12, 13))
    listed = json.loads(call("approvals", "--json").stdout)["approvals"]
    assert len(listed) == 5
    result = call("approvals", "answer", stdin="sxssss")
    assert (result.exit_code, "0 answers given." in result.stdout) == (0, True), result.output
    assert [one for one in result.stdout.split() if one.startswith("issue-triage:")] == [
        one["workflow_id"] for one in listed
    ]
    assert " 5 of 5 " in result.stdout
    assert call("approvals", "answer", stdin="q").stdout.count("issue-triage:") == 1
    assert "Nothing waits" in call("approvals", "answer", "--role", "nobody").stdout
    assert sent(folder) == []
    assert call("approvals", "answer", "--timeout", "0.01", stdin="sa").exit_code == 5
    assert sent(folder) == [listed[1]["approval_id"]]


@pytest.mark.parametrize("command", ["cancel --reason no", "retry", "skip", "fail"])
def test_a_workflow_that_has_ended_says_so_at_once(folder: Path, command: str) -> None:
    result = call("workflows", *command.split(), workflow(2), "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["accepted"], found["code"], found["command_id"]) == (1, False, "ended", None)
    assert "completed" in found["message"]
    assert "every step is done" in found["message"]
    assert sent(folder) == []


def test_a_part_that_fits_many_counts_them_all(folder: Path) -> None:
    with_broker(folder, lambda broker: waiting(broker, *range(100, 135)))
    read = call("workflow", "repo#1")
    assert (read.exit_code, "fits 36 workflows" in read.stderr, "and 26 more" in read.stderr) == (2, True, True)
    change = call("approve", "repo#1", "--timeout", "0.01")
    assert (change.exit_code, "fits 36 open approvals" in change.stderr) == (2, True)


async def letters(broker: Broker, count: int) -> None:
    for number in range(count):
        original = Record(TOPICS.events, 0, number, number, None, b"%d" % number, ())
        letter = dead_letter(
            original, code="malformed", message="m", component="c", group="g", topics=TOPICS, at_ms=number
        )
        assert not await broker.send([letter])


def test_a_dead_letter_is_found_by_its_place_or_its_originals(folder: Path) -> None:
    with_broker(folder, lambda broker: letters(broker, 60))
    for name, raw in (("0/1", b"0"), ("0/11", b"10"), ("mesh.events/0/1", b"1"), ("mesh.events/0/59", b"59")):
        assert call("dlq", "show", name, "--raw").stdout_bytes == raw
    assert call("dlq", "show", "0/5").exit_code == 0
    assert "fits 61 dead letters" in call("dlq", "show", "0/").stderr
    for name in ("0/61", "x", "0/x", "events/0/60", f"0/{10**30}", "0/²"):
        assert call("dlq", "show", name).exit_code == 3, name


IDS = st.lists(st.text("ab/", min_size=1, max_size=4), min_size=1, max_size=8, unique=True)


@given(IDS, st.text("ab/", max_size=4), st.booleans())
def test_a_whole_id_is_never_anything_else_and_a_part_never_changes_anything(
    ids: list[str], text: str, changes: bool
) -> None:
    session = cast(Session, SimpleNamespace(is_interactive=False))
    fits = [one for one in ids if text in one]
    expected: object = NotFound
    if text in ids:
        expected = text
    elif len(fits) > 1:
        expected = OperatorError
    elif fits and not changes:
        expected = fits[0]
    found: object
    try:
        found = pick(session, text, among_ids(ids, what="one", whats="ones", where="list"), changes=changes)
    except (NotFound, OperatorError) as error:
        found = type(error)
    assert found == expected


def test_a_digest_is_whole_from_the_digits_on_that_lists_print() -> None:
    digests = ["sha256:" + "ab" * 32, "sha256:" + "ab" * 6 + "cd" * 26, "sha256:" + "12" * 32]
    session = cast(Session, SimpleNamespace(is_interactive=False))
    among = among_digests(digests)
    for text in (digests[2], "12" * 32, "12" * 6, "sha256:" + "12" * 6):
        assert pick(session, text, among, changes=True) == digests[2]
    for text in ("12" * 5, "sha256:12"):
        with pytest.raises(NotFound, match="give that whole id"):
            pick(session, text, among, changes=True)
        assert pick(session, text, among, changes=False) == digests[2]
    with pytest.raises(OperatorError, match="fits 2 stored versions"):
        pick(session, "ab" * 6, among, changes=True)
