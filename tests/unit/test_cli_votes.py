"""What people see and send where several of them vote."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace
from sample_mesh import TOPICS, Writer, asked, partition, run, started, workflow

from mesh.adapters.sqlite import SqliteBroker
from mesh.cli.app import mesh
from mesh.cli.approvals.answer import KEYS, offered
from mesh.cli.approvals.commands import verdict
from mesh.codec.approvals import Receipt, decode_response
from mesh.codec.commands import decode_command
from mesh.codec.delegations import encode_personal
from mesh.core.approvals import Group, Terms, Vote
from mesh.core.decide.open_approvals import completed
from mesh.core.delegations import Delegation
from mesh.core.events import (
    AnswerRefused,
    ApprovalClosed2,
    ApprovalRequested2,
    Cause,
    Event,
    NoteAdded,
    PayloadEdited,
    QuestionAnswered,
    QuestionAsked,
    VoteCast,
    VoteTakenBack,
)
from mesh.core.evolve import evolve
from mesh.core.ids import task_id
from mesh.core.inputs import AnswerGiven2, ApprovalOrder, CommandGiven
from mesh.core.json_values import digest
from mesh.core.questions import Addressee, AskingBack, Reply
from mesh.core.state import Workflow
from mesh.inspection.read_model import ReadModel, queries
from mesh.ports import Broker, TopicPartition, TopicSpec

TERMS = Terms(
    groups=(Group(need=2, role="maintainer"),),
    choices=("refund", "voucher", "reject"),
    excluded={"cy": "they are the requester"},
    expiry_choice="voucher",
    asking_back=AskingBack(to=(Addressee(name="requester", people=("cy",)), Addressee(name="researcher", agent="x"))),
)
RESEARCHER = Addressee(name="researcher", agent="researcher")
ID = task_id(workflow(1), run(1), "review")
EDITED = {"text": "Thank you."}


def vote(by: str, choice: str, **more: Any) -> Vote:
    return Vote(
        by=by, choice=choice, digest=digest(EDITED), at_ms=2, roles=("maintainer",), answer_id=f"by-{by}", **more
    )


async def write(broker: Broker) -> None:
    """A workflow whose question was edited, and has two votes that differ."""
    writer = Writer(broker)
    await writer.create_topics()
    await writer.take_over(partition(workflow(1)))
    first = asked(1, writer.now_ms)
    fields = {name: getattr(first, name) for name in first.__struct_fields__}
    about: dict[str, Any] = {"step": "review", "approval_id": ID}
    at: dict[str, Any] = {"at_ms": 1, "answer_id": "a"}
    cause = Cause(kind="answer", id="a")
    state: Workflow | None = None

    async def decide(cause: Cause, *events: Event) -> None:
        nonlocal state
        told = list[Event]()
        for event in events:
            told.append(completed(event, state))
            state = evolve(state, told[-1], workflow_id=workflow(1), at_ms=writer.now_ms)
        await writer.decide(workflow(1), cause, *told)

    await decide(Cause(kind="event", id="x"), started(1), ApprovalRequested2(**fields, terms=TERMS))
    edit = PayloadEdited(**about, **at, by="eve", payload=EDITED, digest=digest(EDITED), edition=2, need=2)
    await decide(cause, edit)
    cast = VoteCast(**about, vote=vote("ana", "refund", reason="fair"), edition=2, have=1, need=2)
    await decide(cause, cast)
    await decide(cause, replace(cast, vote=vote("ben", "voucher")))
    await decide(cause, NoteAdded(**about, **at, by="ben", number=1, text="hm"))
    due: dict[str, Any] = {"before_ms": first.deadline_at_ms, "deadline_at_ms": first.deadline_at_ms}
    for number, to in enumerate((Addressee(name="requester", people=("cy",)), RESEARCHER, RESEARCHER), start=1):
        await decide(
            cause, QuestionAsked(**about, **at, by="ana", question=number, note=1 + number, text="why?", to=to, **due)
        )
    unsent: dict[str, Any] = {**about, "at_ms": 1, "by": "", "answer_id": "", "agent": "researcher"}
    reply = Reply(text="it fits", proposal={"text": "Thanks."})
    await decide(cause, QuestionAnswered(**unsent, question=2, note=5, reply=reply))
    await decide(cause, QuestionAnswered(**unsent, question=3, note=6, reply=Reply(text="timeout"), failed=True))


def with_broker(folder: Path, work: Callable[[Broker], Awaitable[Any]]) -> Any:
    async def open_and_work() -> Any:
        broker = await SqliteBroker.open(folder / "mesh.db", client_id="test", durability="normal")
        try:
            return await work(broker)
        finally:
            await broker.close()

    return asyncio.run(open_and_work())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {
        "MESH_BROKER": f"sqlite://{tmp_path}/mesh.db",
        "MESH_DATA_DIR": str(tmp_path / "data"),
        "MESH_BY": "dan",
        "COLUMNS": "120",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    with_broker(tmp_path, write)
    return tmp_path


def call(*arguments: str) -> Result:
    return CliRunner().invoke(mesh, arguments)


def sent(folder: Path) -> AnswerGiven2:
    async def read(broker: Broker) -> Any:
        reader = await broker.reader()
        reader.assign({TopicPartition(TOPICS.responses, 0): 0})
        records = await reader.poll(max_records=10, timeout_s=1)
        await reader.close()
        return decode_response(records[-1])

    found = with_broker(folder, read)
    assert isinstance(found, AnswerGiven2)
    return found


def ordered(folder: Path) -> CommandGiven:
    async def read(broker: Broker) -> Any:
        reader = await broker.reader()
        reader.assign({TopicPartition(TOPICS.commands, 0): 0})
        records = await reader.poll(max_records=10, timeout_s=1)
        await reader.close()
        return decode_command(records[-1])

    found = with_broker(folder, read)
    assert isinstance(found, CommandGiven)
    return found


@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        (("extend", ID, "--plus", "90m"), {"by_ms": 5_400_000}),
        (("extend", ID, "--until", "2026-11-24T09:00:00Z"), {"until_ms": 1_795_510_800_000}),
        (("reassign", ID, "--role", "lead", "--person", "eve"), {"roles": ("lead",), "people": ("eve",)}),
        (("reassign", ID, "--replace", "--person", "eve"), {"people": ("eve",), "replace": True}),
        (("void", ID, "--voter", "ben"), {"voter": "ben"}),
    ],
)
def test_an_operator_orders_what_becomes_of_an_approval(
    folder: Path, arguments: tuple[str, ...], order: dict[str, Any]
) -> None:
    result = call("approvals", *arguments, "--by", "op", "--reason", "so", "--timeout", "0")
    assert result.exit_code == 5, result.output  # no router answers
    found = ordered(folder)
    assert (found.command, found.by, found.reason) == (arguments[0], "op", "so")
    assert found.order == ApprovalOrder(approval_id=ID, **order)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("extend", ID), "say how far with --plus"),
        (("extend", ID, "--plus", "1h", "--until", "2026-11-24T09:00:00Z"), "say how far with --plus"),
        (("extend", ID, "--plus", "soon"), "--plus takes a duration"),
        (("extend", ID, "--until", "soon"), "--until"),
        (("reassign", ID), "say who may answer"),
        (("void", ID), "--voter"),
    ],
)
def test_an_order_that_says_too_little_is_not_sent(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    result = call("approvals", *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output


@pytest.mark.parametrize(("command", "decision"), [("claim", "claim"), ("unclaim", "release")])
def test_an_approver_says_that_they_are_looking(folder: Path, command: str, decision: str) -> None:
    call(command, ID, "--timeout", "0")
    found = sent(folder)
    assert (found.decision, found.by, found.approval_id) == (decision, "dan", ID)


def test_an_approval_shows_its_votes_and_the_payload_as_it_is_now(folder: Path) -> None:
    shown = call("approvals", "show", ID).stdout
    for line in (
        "wanted    2 of maintainer",
        "choices   refund, voucher, reject",
        "excluded  cy (they are the requester)",
        "votes     1 of 2, split over choices",
        "refund by ana: fair",
        "voucher by ben",
        "edition   2, edited by eve",
        "ask back  requester, researcher: mesh approvals ask-back ID TEXT --to NAME",
        "open      question 1",
        "note 1    ben: hm",
        "note 2    ana asks requester (question 1): why?",
        "note 5    agent researcher answers question 2: it fits; proposes",
        "note 6    agent researcher has no answer to question 3: timeout",
        "then the choice is voucher",
        "Thank you.",
    ):
        assert line in shown, shown
    found = json.loads(call("approvals", "show", ID, "--json").stdout)
    assert (found["payload"], found["digest"], found["edition"]) == (EDITED, digest(EDITED), 2)
    assert (found["questions"], found["notes"][4]["proposal"]) == ([1], {"text": "Thanks."})
    assert [one["by"] for one in found["votes"]] == ["ana", "ben"]
    assert (found["have"], found["need"], found["terms"]["choices"]) == (1, 2, ["refund", "voucher", "reject"])


def test_where_there_is_a_console_an_approval_has_a_link(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert folder
    assert "url" not in json.loads(call("approvals", "show", ID, "--json").stdout)
    monkeypatch.setenv("MESH_CONSOLE_URL", "https://mesh.example.org/console/")
    found = json.loads(call("approvals", "show", ID, "--json").stdout)
    assert found["url"] == f"https://mesh.example.org/console/approval?id={quote(ID, safe='')}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("choose", ID, "voucher", "--reason", "fair", "--form", '{"n": 1}'), {"choice": "voucher", "form": {"n": 1}}),
        (("approvals", "choose", ID, "refund"), {"choice": "refund", "decision": "choose"}),
        (("withdraw", ID), {"decision": "withdraw"}),
        (("comment", ID, "which invoice?"), {"decision": "comment", "text": "which invoice?"}),
        (("ask-back", ID, "why?", "--to", "dan"), {"decision": "ask", "text": "why?", "to": "dan"}),
        (("approvals", "ask-back", ID, "why?"), {"decision": "ask", "text": "why?", "to": ""}),
        (("inform", ID, "so", "--question", "2"), {"decision": "inform", "text": "so", "question": 2}),
        (("approvals", "inform", ID, "so"), {"decision": "inform", "text": "so", "question": 0}),
        (("approve", ID, "--form", "[1]"), {"decision": "approve", "form": [1]}),
        (("reject", ID, "--reason", "no", "--form", "2"), {"decision": "reject", "reason": "no", "form": 2}),
    ],
)
def test_what_is_sent_names_what_was_shown(folder: Path, arguments: tuple[str, ...], said: dict[str, Any]) -> None:
    # no router is there, so no receipt comes
    assert call(*arguments, "--timeout", "0.05").exit_code == 5
    given = sent(folder)
    assert (given.by, given.digest, given.approval_id) == ("dan", digest(EDITED), ID)
    assert {name: getattr(given, name) for name in said} == said


@pytest.mark.parametrize(
    ("code", "closed", "line"),
    [
        ("counted", False, "counted (1 of 2)"),
        ("taken_back", False, "taken back (1 of 2)"),
        ("accepted", True, "approved"),
    ],
)
def test_a_receipt_on_one_line(code: str, closed: bool, line: str) -> None:
    verdict_word = "approved" if closed else ""
    receipt = Receipt(
        approval_id=ID, answer_id="a", status="accepted", code=code, verdict=verdict_word, closed=closed, have=1, need=2
    )
    assert str(verdict(receipt)).startswith(line)
    assert str(verdict(replace(receipt, code="noted", closed=False, have=2))).startswith("noted (2 of 2)")


@pytest.mark.parametrize(
    ("choices", "rejects", "keys"),
    [
        (("approve", "reject"), ("reject",), KEYS),
        (("pay", "reject"), ("reject",), f"c choose   {KEYS}"),
        (("cash", "card", "reject"), ("reject",), "c choose   r reject   e edit   s skip   q quit"),
        (("cash", "card"), (), "c choose   e edit   s skip   q quit"),
        (("pay", "wait", "never"), ("wait", "never"), "c choose   a approve   e edit and approve   s skip   q quit"),
    ],
)
def test_only_keys_that_can_count_are_offered(choices: tuple[str, ...], rejects: tuple[str, ...], keys: str) -> None:
    assert offered(KEYS, Terms(groups=(), choices=choices, rejects=rejects))[0] == keys
    assert offered(KEYS, None) == (KEYS, ())


def test_the_read_model_knows_each_answer_and_the_end(folder: Path) -> None:
    about: dict[str, Any] = {"step": "review", "approval_id": ID}
    closed = ApprovalClosed2(
        **about, verdict="approved", payload=EDITED, by="dan", answer_id="last", choice="voucher", edition=2,
        rule="2 of maintainer", have=2, need=2, votes=(vote("ben", "voucher"), vote("dan", "voucher")), editors=("eve",),
    )  # fmt: skip
    back = VoteTakenBack(**about, by="ana", at_ms=3, answer_id="back", why="person", edition=2, have=1, need=2)

    async def look(broker: Broker) -> None:
        writer = Writer(broker)
        writer.now_ms += 1_000
        await writer.decide(workflow(1), Cause(kind="answer", id="back"), back)
        await writer.decide(workflow(1), Cause(kind="answer", id="last"), closed)
        async with ReadModel(broker, TOPICS, folder / "model.sqlite") as model:
            await model.catch_up()
            codes = {name: queries.answer(model.db, name) for name in ("by-ana", "back", "last")}
            assert {name: row and row.code for name, row in codes.items()} == {
                "by-ana": "counted", "back": "taken_back", "last": "accepted",
            }  # fmt: skip

    with_broker(folder, look)
    shown = call("approvals", "show", ID).stdout
    assert "closed: approved by dan" in shown
    # what only matters while it is open would mislead
    assert not any(word in shown for word in ("deadline", "votes", "ask back")), shown


def test_a_refusal_under_the_id_of_an_answer_that_counted_does_not_hide_it(folder: Path) -> None:
    async def refuse_and_look(broker: Broker) -> Any:
        writer = Writer(broker)
        refused = AnswerRefused(approval_id=ID, answer_id="by-ana", code="signature", message="forged", by="ana")
        await writer.decide(workflow(1), Cause(kind="answer", id="by-ana"), refused)
        async with ReadModel(broker, TOPICS, folder / "model.db") as model:
            await model.catch_up()
            return queries.answer(model.db, "by-ana")

    found = with_broker(folder, refuse_and_look)
    assert (found.status, found.code) == ("accepted", "counted")


def test_mine_is_also_what_one_may_answer_for_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`gus` has the role, has not voted, and has delegated to `fay`, who has none."""
    (folder / "approvers.yaml").write_text("maintainer: [gus, hal, cy]\npeople: {fay: {}}\n")
    monkeypatch.setenv("MESH_APPROVERS", str(folder / "approvers.yaml"))

    def mine(by: str) -> list[Any]:
        page = json.loads(call("approvals", "--mine", "--by", by, "--json").stdout)
        return [one.get("for") for one in page["approvals"]]

    async def delegate(broker: Broker) -> None:
        now_ms = int(time.time() * 1000)
        about: dict[str, Any] = {"to": "fay", "start_ms": now_ms - 60_000, "until_ms": now_ms + 3_600_000}
        records = [
            Delegation(id="o-1", giver="gus", roles=("maintainer",), routes=(workflow(1).partition(":")[0],), **about),
            Delegation(id="o-2", giver="hal", routes=("other",), **about),
            Delegation(id="o-3", giver="cy", **about),  # cy is excluded
        ]
        await broker.create_topics([TopicSpec(name, 1) for name in (TOPICS.people, TOPICS.delegations)])
        assert not await broker.send([encode_personal(one, topics=TOPICS, at_ms=now_ms) for one in records])

    # cy may not vote, and was asked a question
    assert (mine("gus"), mine("fay"), mine("cy")) == ([None], [], [None])
    with_broker(folder, delegate)
    wait_for(lambda: mine("fay") == [["gus"]])
    assert mine("gus") == [None], "of those for whom nobody else answers, nothing is said"
    shown = call("approvals", "--mine", "--by", "fay").stdout
    assert "FOR" in shown
    assert "gus" in shown
    refused = call("approve", "--mine", "--for", "hal", "--by", "fay", "--yes", "--expect", "1")
    assert (refused.exit_code, "0 approvals" in refused.stderr) == (2, True)
    assert (
        "delegated nothing" in call("approve", "--mine", "--for", "ana", "--by", "fay", "--yes", "--expect", "1").stderr
    )
    monkeypatch.setattr("mesh.cli.session.Session.is_interactive", True)
    # e is no key there, since who answers for somebody edits nothing, nor is a, with these choices
    one_by_one = CliRunner().invoke(
        mesh, ["approvals", "answer", "--for", "gus", "--by", "fay", "--timeout", "0.01"], input="eacvoucher\n\n"
    )
    assert (one_by_one.exit_code, "as fay, for gus" in one_by_one.stdout) == (5, True), one_by_one.output
    assert (sent(folder).by, sent(folder).choice, sent(folder).on_behalf) == ("fay", "voucher", "gus")


def wait_for(condition: Callable[[], bool]) -> None:
    """Until a record is in effect, two seconds after it."""
    end_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end_s
