"""The inbox: a cache of the topic of open approvals, and what people do with it."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from one_partition import PEOPLE, Partition, route
from rich.console import Console

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.adapters.sqlite import SqliteBroker
from mesh.adapters.system import SystemClock
from mesh.cli.app import mesh
from mesh.cli.approvals.editor import keep
from mesh.cli.approvals.listing import card
from mesh.codec.approvals import Receipt, decode_response
from mesh.codec.effects import EffectEncoder
from mesh.codec.open_approvals import OPEN_PARTITIONS, encode_shown, placed
from mesh.core.effects import effects
from mesh.core.inputs import AnswerGiven, AnswerGiven2
from mesh.core.open_approvals import ShowApproval
from mesh.core.people import person_of
from mesh.core.receipts import SendReceipt
from mesh.core.route import Route
from mesh.core.topics import Topics
from mesh.errors import NotFound
from mesh.inspection.inbox import Filters, Inbox, Mine, Waiting, asked_of, find, ids_containing, of_workflow, page_of
from mesh.inspection.inbox.inbox import OLDEST_MS
from mesh.inspection.inbox.repair import Repair, Written
from mesh.inspection.read_model import ReadModel, model_path
from mesh.ports import Broker, OutRecord, TopicPartition, TopicSpec

TOPICS = Topics()
ROLES = {"ana": frozenset({"finance"}), "ben": frozenset({"finance", "legal"}), "cy": frozenset({"legal"})}
GROUPS = {"quorum": [{"role": "finance"}, {"role": "legal"}, {"people": ["eve"]}], "not": {"people": "cy"}}


def asking(name: str, **more: Any) -> Route:
    work = {"ask": "Pay ${{ event.data.amount }}?", "payload": "${{ event.data }}", **more}
    return route({"review": {"approval": work}}, route=name)


ROUTES = (
    asking("soon", role="finance", deadline="1h"),
    asking("later", role="legal", deadline="9h"),
    asking("never", role="finance"),
    asking("groups", **GROUPS, deadline="2h"),
    asking("staged", role="finance", quorum=2, deadline="3h", escalate=[{"after": "2h", "to": "legal", "quorum": 1}]),
    asking("asks", role="finance", quorum=2, ask_back={"to": [{"role": "legal"}, {"people": ["Eve"]}]}),
)


class Mesh:
    """The owner of one partition, and the topics that it writes."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.partitions = [Partition(one, directory=PEOPLE.__class__(roles=ROLES)) for one in ROUTES]
        self.sent = [0] * len(ROUTES)
        self.offset = 0

    @property
    def now_ms(self) -> int:
        return self.partitions[0].now_ms

    async def create(self) -> None:
        specs = [TopicSpec(name, 1) for name in (TOPICS.log, TOPICS.responses, TOPICS.receipts)]
        await self.broker.create_topics([*specs, TopicSpec(TOPICS.open_approvals, OPEN_PARTITIONS)])

    async def start(self, n: int, *amounts: int) -> None:
        for amount in amounts:
            p = self.partitions[n]
            p.now_ms += 1_000
            p.start(f"k{amount}", event_id=f"e{amount}", data={"amount": amount})
        await self.send()

    async def send(self) -> None:
        encoder = EffectEncoder(TOPICS, 0, 1)
        out: list[OutRecord] = []
        for n, p in enumerate(self.partitions):
            for decision in p.decisions[self.sent[n] :]:
                self.offset += 1
                for effect in effects(decision):
                    if isinstance(effect, ShowApproval):
                        out.append(placed(encoder.encode(effect), self.offset))
                    elif isinstance(effect, SendReceipt):
                        out.append(encoder.encode(effect))
            self.sent[n] = len(p.decisions)
        assert not await self.broker.send(out)

    def open_id(self, n: int, amount: int) -> str:
        return self.partitions[n].step("review", f"k{amount}").task_id


@pytest.fixture
async def broker() -> AsyncIterator[MemoryBroker]:
    connection = MemoryCluster(clock=SystemClock()).connect("test")
    yield connection
    await connection.close()


@pytest.fixture
async def made(broker: MemoryBroker) -> Mesh:
    made = Mesh(broker)
    await made.create()
    return made


def amounts_of(inbox: Inbox, filters: Filters, **more: Any) -> list[int]:
    found = [find(inbox.db, row.approval_id) for row in page_of(inbox.db, filters, **more)]
    return [one.request.payload["amount"] for one in found if one is not None]


def opened(made: Mesh, path: Path, *, after_ms: int = 0, told: list[str] | None = None) -> Inbox:
    on_unkept = (told if told is not None else []).append
    return Inbox(made.broker, TOPICS, path, now_ms=lambda: made.now_ms + after_ms, on_unkept=on_unkept)


async def test_the_nearest_deadline_is_first_and_filters_come_before_the_limit(made: Mesh, tmp_path: Path) -> None:
    for n, amounts in enumerate([(1, 2, 3), (11, 12), (21,), (31, 32)]):
        await made.start(n, *amounts)
    async with opened(made, tmp_path / "data" / "i.sqlite") as inbox:
        await inbox.catch_up()
        assert amounts_of(inbox, Filters()) == [1, 2, 3, 31, 32, 11, 12, 21]
        assert amounts_of(inbox, Filters(role="legal")) == [31, 32, 11, 12]
        assert amounts_of(inbox, Filters(role="finance", route="soon")) == [1, 2, 3]
        near = made.now_ms + 90 * 60_000
        assert amounts_of(inbox, Filters(due_before_ms=near)) == [1, 2, 3]
        first = made.partitions[0].workflow("k2").steps["review"].since_ms
        assert amounts_of(inbox, Filters(asked_before_ms=first, route="soon")) == [1]
        small = Filters(payload=lambda payload: payload["amount"] % 2 == 1)
        assert amounts_of(inbox, small) == [1, 3, 31, 11, 21]
        for filters, total in ((small, 5), (Filters(role="legal"), 4)):
            page = page_of(inbox.db, filters, limit=2)
            rest = page_of(inbox.db, filters, after=page.after)
            assert (page.total, rest.total, rest.after) == (total, total, None)
            assert [*page, *rest] == [*page_of(inbox.db, filters)]
        assert (tmp_path / "data" / "i.sqlite").stat().st_mode & 0o777 == 0o600


async def test_mine_is_what_i_may_answer_and_have_not_answered(made: Mesh, tmp_path: Path) -> None:
    await made.start(0, 1)
    await made.start(3, 31, 32)
    made.partitions[3].vote("ben", key="k31")
    await made.send()
    async with opened(made, tmp_path / "i.sqlite") as inbox:
        await inbox.catch_up()
        for person, roles, expected in (
            ("ana", ROLES["ana"], [1, 31, 32]),
            ("BEN", ROLES["ben"], [1, 32]),
            ("cy", ROLES["cy"], []),
            ("Eve", frozenset[str](), [31, 32]),
            ("dan", frozenset[str](), []),
        ):
            assert amounts_of(inbox, Filters(mine=Mine({person_of(person)}, roles))) == expected
        # under any of the person's names
        assert amounts_of(inbox, Filters(mine=Mine({"ben", "slack:u1"}, ROLES["ben"]))) == [1, 32]
        assert amounts_of(inbox, Filters(mine=Mine({"slack:u2", "eve"}, frozenset()))) == [31, 32]
        # an edit asks everybody again
        made.partitions[3].vote("ana", "edit", key="k31", payload={"amount": 33})
        await made.send()
        await inbox.catch_up()
        assert amounts_of(inbox, Filters(mine=Mine({"ben"}, ROLES["ben"]))) == [1, 33, 32]
        found = find(inbox.db, made.open_id(3, 31))
        assert found is not None
        assert found.request.digest == made.partitions[3].step("review", "k31").digest


async def test_mine_is_also_where_i_was_only_asked_a_question(made: Mesh, tmp_path: Path) -> None:
    await made.start(5, 51)
    p = made.partitions[5]
    p.vote("ana", "ask", key="k51", text="why?", to="legal")
    p.vote("ana", "ask", key="k51", text="since when?", to="Eve")
    await made.send()
    cy, eve = Mine({"cy"}, ROLES["cy"], is_asked=True), Mine({"eve"}, [], is_asked=True)
    dan = Mine({"dan"}, [], is_asked=True)
    async with opened(made, tmp_path / "i.sqlite") as inbox:
        await inbox.catch_up()
        assert [amounts_of(inbox, Filters(mine=mine)) for mine in (cy, eve, dan)] == [[51], [51], []]
        assert asked_of(inbox.db, cy) == [made.open_id(5, 51)]
        # who answers many at once means those that they may answer
        assert amounts_of(inbox, Filters(mine=Mine({"cy"}, ROLES["cy"]))) == []
        p.vote("cy", "inform", key="k51", text="because", question=1)
        await made.send()
        await inbox.catch_up()
        assert [amounts_of(inbox, Filters(mine=mine)) for mine in (cy, eve)] == [[], [51]]
        p.vote("ana", key="k51")
        p.vote("ben", key="k51")
        await made.send()
        await inbox.catch_up()
        assert (amounts_of(inbox, Filters(mine=eve)), asked_of(inbox.db, eve)) == ([], [])


async def test_who_may_answer_now_and_who_is_looking_is_known(made: Mesh, tmp_path: Path) -> None:
    await made.start(4, 41)
    p = made.partitions[4]
    due = p.step("review", "k41").due_at_ms
    assert due is not None
    p.order("reassign", key="k41", people=("Eve",), replace=True)
    p.vote("eve", "claim", key="k41")
    p.vote("eve", "comment", key="k41", at_ms=due + 1, text="late")
    await made.send()
    async with opened(made, tmp_path / "i.sqlite") as inbox:
        await inbox.catch_up()
        assert amounts_of(inbox, Filters(role="finance")) == []
        assert amounts_of(inbox, Filters(mine=Mine({"eve"}, []))) == [41]
        one = find(inbox.db, made.open_id(4, 41))
        assert one is not None
        shown = as_text(one, p.now_ms)
        for line in (
            "besides   Eve, and nobody else",
            "later     legal, in 2 h; 1 of them suffice",
            "claimed   by eve, in 30 min",
            "late      1 answer came after the deadline",
        ):
            assert line in shown, shown
        assert "claimed " not in as_text(one, p.now_ms + 3_600_000)
        # a stage comes about by the first answer after it, and the deadline is moved
        p.vote("ben", "comment", key="k41", at_ms=p.now_ms + 2 * 3_600_000 + 1, text="hm")
        p.order("extend", key="k41", by_ms=3_600_000)
        await made.send()
        await inbox.catch_up()
        assert amounts_of(inbox, Filters(role="legal")) == [41]
        one = find(inbox.db, made.open_id(4, 41))
        assert one is not None
        assert one.standing is not None
        assert (one.standing.held, one.standing.stage, one.row.deadline_at_ms) == (0, 1, due + 3_600_000)
        assert [note.text for note in one.notes] == ["hm", "late"]


def as_text(one: Waiting, now_ms: int) -> str:
    console = Console(width=120)
    with console.capture() as shown:
        console.print(card(one, now_ms))
    return shown.get()


async def test_what_ends_is_gone_and_a_second_command_reads_only_what_is_new(made: Mesh, tmp_path: Path) -> None:
    await made.start(0, 1, 2)
    closed = made.open_id(0, 1)
    async with opened(made, tmp_path / "i.sqlite") as inbox:
        await inbox.catch_up()
    made.partitions[0].answer(key="k1")
    await made.send()
    async with opened(made, tmp_path / "i.sqlite") as inbox:
        assert find(inbox.db, closed) is not None
        await inbox.catch_up()
        assert amounts_of(inbox, Filters()) == [2]
        assert find(inbox.db, closed) is None
        assert of_workflow(inbox.db, "soon:k2") == [made.open_id(0, 2)]
        assert ids_containing(inbox.db, "k", limit=5).total == 1


async def test_a_file_that_is_too_old_or_of_another_broker_starts_over(made: Mesh, tmp_path: Path) -> None:
    path = tmp_path / "i.sqlite"
    await made.start(0, 1)
    async with opened(made, path) as inbox:
        await inbox.catch_up()
        inbox.db.execute("INSERT INTO approvals VALUES ('stale', '', '', '', '', '', 0, 0, '')")
        await inbox.catch_up()
        assert ids_containing(inbox.db, "stale", limit=1).total == 1
    async with opened(made, path, after_ms=OLDEST_MS + 1) as inbox:
        await inbox.catch_up()
        assert ids_containing(inbox.db, "stale", limit=1).total == 0
        assert amounts_of(inbox, Filters()) == [1]
    for amounts in ((5,), (5, 6, 7, 8)):
        other = Mesh(MemoryCluster(clock=SystemClock()).connect("other"))
        await other.create()
        await other.start(0, *amounts)
        async with opened(other, path) as inbox:
            await inbox.catch_up()
            assert amounts_of(inbox, Filters()) == [*amounts]


async def test_a_late_record_of_a_router_that_was_cut_off_is_passed_over(made: Mesh, tmp_path: Path) -> None:
    await made.start(0, 1)
    [asked] = [one for one in effects(made.partitions[0].decisions[0]) if isinstance(one, ShowApproval)]
    made.partitions[0].answer(key="k1")
    await made.send()
    stray = OutRecord(TOPICS.open_approvals, b"nonsense", b"{}", partition=0)
    broken = OutRecord(TOPICS.open_approvals, b"request/soon:x/run/review", b"{}", partition=1)
    await made.broker.send([placed(encode_shown(asked, topics=TOPICS), 1), stray, broken])
    async with opened(made, tmp_path / "i.sqlite") as inbox:
        await inbox.catch_up()
        assert amounts_of(inbox, Filters()) == []


async def test_an_inbox_without_a_folder_is_kept_in_memory(made: Mesh, tmp_path: Path) -> None:
    await made.start(0, 1)
    path, told = tmp_path / "i.sqlite", list[str]()
    async with opened(made, path) as inbox:
        await inbox.catch_up()
    (tmp_path / "file").write_text("")
    async with opened(made, tmp_path / "file" / "i.sqlite", told=told) as inbox:
        await inbox.catch_up()
        assert amounts_of(inbox, Filters()) == [1]
    assert len(told) == 1
    path.write_bytes(b"no database at all, but long enough to be looked at" * 100)
    async with opened(made, path, told=told) as inbox:
        await inbox.catch_up()
        assert amounts_of(inbox, Filters()) == [1]
    assert len(told) == 1


async def test_a_file_that_can_not_be_written_is_read_all_the_same(
    made: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made.start(0, 1)
    path, told = tmp_path / "i.sqlite", list[str]()
    async with opened(made, path) as inbox:
        await inbox.catch_up()

    def refuse(_: Path) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr("mesh.inspection.inbox.schema.make_private", refuse)
    async with opened(made, path, told=told) as inbox:
        assert amounts_of(inbox, Filters()) == [1]
        await made.start(0, 2)
        await inbox.catch_up()
        assert amounts_of(inbox, Filters()) == [1, 2]
    assert told == ["read-only"]


async def test_a_broker_without_the_topic_says_so(tmp_path: Path) -> None:
    made = Mesh(MemoryCluster(clock=SystemClock()).connect("test"))
    async with opened(made, tmp_path / "i.sqlite") as inbox:
        with pytest.raises(NotFound, match=r"mesh\.approvals\.open.*mesh topics apply"):
            await inbox.catch_up()


# Repair -------------------------------------------------------------------------------------------


async def repaired(made: Mesh, inbox: Inbox, model: ReadModel) -> Repair:
    repair = Repair(TOPICS, inbox, model)
    for _ in range(5):
        records = await repair.round()
        if not records:
            return repair
        assert not await made.broker.send(records)
    raise AssertionError("it does not come to an end")


async def test_a_repair_makes_the_topic_what_the_log_has(made: Mesh, tmp_path: Path) -> None:
    """Of all open approvals none was on the topic, and one is there that is closed."""
    p = made.partitions[3]
    for key in ("k31", "k32", "k33"):
        p.start(key, event_id=key, data={"amount": int(key[1:])})
    p.vote("ben", key="k31")
    p.vote("ana", "edit", key="k31", payload={"amount": 99})
    p.vote("ben", "comment", key="k31", text="hm")
    p.vote("ana", "reject", key="k33")
    await made.broker.append(TopicPartition(TOPICS.log, 0), None, p.log, [])
    shown = [one for decision in p.decisions for one in effects(decision) if isinstance(one, ShowApproval)]
    ghost = next(one for one in shown if "k33" in one.approval_id and one.value is not None)
    await made.broker.send([placed(encode_shown(ghost, topics=TOPICS), 100)])
    path = model_path(tmp_path, "memory://", "mesh.")
    async with opened(made, tmp_path / "i.sqlite") as inbox, ReadModel(made.broker, TOPICS, path) as model:
        done = await repaired(made, inbox, model)
        assert {part for _, part in done.restored} == {"request", "payload", "standing", "note/1"}
        assert done.removed == {(ghost.approval_id, "request")}
        await inbox.catch_up()
        assert amounts_of(inbox, Filters()) == [99, 32]
        one = find(inbox.db, made.open_id(3, 31))
        assert one is not None
        assert [note.text for note in one.notes] == ["hm"]
        # what is decided while a repair runs, and lands before ours, is put right by its next round
        repair = Repair(TOPICS, inbox, model)
        assert await repair.round() == []
        before = len(p.log)
        p.vote("cy", "reject", key="k32")
        p.vote("ben", "reject", key="k32")
        repair._touched = {(made.open_id(3, 31), "request"): Written(7, None)}
        await made.broker.append(TopicPartition(TOPICS.log, 0), None, p.log[before:], [])
        records = await repair.round()
        assert {(record.key or b"").partition(b"/")[0] for record in records} == {b"request"}
        assert len(records) == 2


async def test_a_repair_knows_deadlines_that_were_moved(made: Mesh, tmp_path: Path) -> None:
    p = made.partitions[4]
    for key in ("k41", "k42"):
        p.start(key, event_id=key, data={"amount": int(key[1:])})
    p.order("extend", key="k41", by_ms=3_600_000)
    p.vote("ana", "claim", key="k42")
    await made.broker.append(TopicPartition(TOPICS.log, 0), None, p.log, [])
    path = model_path(tmp_path, "memory://", "mesh.")
    async with opened(made, tmp_path / "i.sqlite") as inbox, ReadModel(made.broker, TOPICS, path) as model:
        done = await repaired(made, inbox, model)
        ids = [made.open_id(4, 41), made.open_id(4, 42)]
        assert done.restored == {(one, part) for one in ids for part in ("request", "standing")}
        await inbox.catch_up()
        found = [find(inbox.db, one) for one in ids]
        assert [one.row.deadline_at_ms for one in found if one] == [
            p.step("review", key).due_at_ms for key in ("k41", "k42")
        ]


# Commands -----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {
        "MESH_BROKER": f"sqlite://{tmp_path}/mesh.db",
        "MESH_DATA_DIR": str(tmp_path / "data"),
        "MESH_APPROVERS": str(tmp_path / "approvers.yaml"),
        "MESH_BY": "ben",
        "COLUMNS": "160",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "approvers.yaml").write_text("finance: [ana, ben]\nlegal: [ben, cy]\n")

    async def write(broker: Broker) -> None:
        made = Mesh(broker)
        await made.create()
        for n, amounts in enumerate([(1, 2, 3), (11,), (21,), (31,)]):
            await made.start(n, *amounts)

    asyncio.run(with_broker(tmp_path, write))
    return tmp_path


async def with_broker(folder: Path, work: Any) -> Any:
    broker = await SqliteBroker.open(folder / "mesh.db", client_id="test", durability="normal")
    try:
        return await work(broker)
    finally:
        await broker.close()


def call(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(mesh, list(arguments), input=stdin)


def listed(*arguments: str) -> list[int]:
    result = call("approvals", *arguments, "--json")
    assert result.exit_code == 0, result.output
    return [one["payload"]["amount"] for one in json.loads(result.stdout)["approvals"]]


def answers(folder: Path) -> list[AnswerGiven | AnswerGiven2]:
    async def read(broker: Broker) -> Any:
        reader = await broker.reader()
        reader.assign({TopicPartition(TOPICS.responses, 0): 0})
        records = await reader.poll(max_records=100, timeout_s=0.1)
        await reader.close()
        return [decode_response(record) for record in records]

    found: list[AnswerGiven | AnswerGiven2] = asyncio.run(with_broker(folder, read))
    return found


@pytest.mark.usefixtures("folder")
def test_the_list_takes_filters() -> None:
    assert listed() == [1, 2, 3, 31, 11, 21]
    assert listed("--mine") == [1, 2, 3, 31, 11, 21]
    assert listed("--mine", "--by", "cy") == [11]
    assert listed("--role", "legal") == [31, 11]
    assert listed("--route", "soon", "--if", "payload.amount > 1") == [2, 3]
    assert listed("--asked-before", "1h") == [1, 2, 3, 31, 11, 21]
    assert listed("--due", "4h") == [1, 2, 3, 31, 11]  # all are long over
    assert listed("--asked-before", "2001-01-01") == []
    unfit = call("approvals", "--if", "payload.name == 'x'")
    assert "could not be evaluated for 6, which are left out" in unfit.stderr
    page = json.loads(call("approvals", "--limit", "2", "--json").stdout)
    assert (page["total"], page["shown"], page["more"]) == (6, 2, True)
    assert listed("--limit", "2", "--after", page["next"]) == [3, 31]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--due", "soon"), "not a duration"),
        (("--asked-before", "soon"), "not a time"),
        (("--if", "steps.a == 1"), "can read `payload` alone"),
        (("--if", "payload. =="), "--if"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_filter_that_makes_no_sense_is_refused(options: tuple[str, ...], problem: str) -> None:
    result = call("approvals", *options)
    assert (result.exit_code, problem in result.stderr) == (2, True), result.output


def test_mine_needs_to_know_roles(folder: Path) -> None:
    (folder / "approvers.yaml").unlink()
    result = call("approvals", "--mine")
    assert (result.exit_code, "MESH_APPROVERS" in result.stderr) == (2, True)


def test_an_answer_to_many_needs_to_know_how_many(folder: Path) -> None:
    for options, problem in (
        (("--route", "soon"), "3 approvals would be answered, and nobody can be asked: say --yes --expect 3"),
        (("--route", "soon", "--yes", "--expect", "2"), "3 approvals would be answered, not 2. Nothing was sent"),
        (("--route", "soon", "--yes"), "--yes needs --expect N"),
        ((), "say which"),
        (("soon:k1", "--route", "soon"), "not both"),
        (("soon:k1", "soon:k2", "--payload", "1", "--yes", "--expect", "2"), "an edit is for one approval"),
    ):
        result = call("approve", *options)
        assert (result.exit_code, problem in result.stderr) == (2, True), result.output
    assert answers(folder) == []


def test_an_answer_to_many_is_sent_with_the_digest_that_was_listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(self: Any, approval_id: str, decision: str, **more: Any) -> Any:
        sent.append((approval_id, decision, more["digest"], more["choice"]))
        status: Any = "refused" if "k2" in approval_id else "accepted"
        return Receipt(
            approval_id=approval_id, answer_id="a", status=status, code="digest", verdict="approved", closed=True
        )

    sent: list[tuple[str, str, str, str]] = []
    monkeypatch.setattr("mesh.services.client.Client.answer", answer)
    digests = {
        one["approval_id"]: one["digest"]
        for one in json.loads(call("approvals", "--route", "soon", "--json").stdout)["approvals"]
    }
    result = call("approve", "--route", "soon", "--yes", "--expect", "3")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 3
    assert {one[0]: one[2] for one in sent} == digests
    said = json.loads(call("reject", "soon:k1", "soon:k3", "--reason", "no", "--yes", "--expect", "2", "--json").stdout)
    assert (said["accepted"], said["refused"], len(said["answers"])) == (2, 0, 2)
    sent.clear()
    assert call("choose", "--route", "groups", "voucher", "--yes", "--expect", "1").exit_code == 0
    assert [(one[1], one[3]) for one in sent] == [("choose", "voucher")]
    monkeypatch.setattr("mesh.cli.session.Session.is_interactive", True)
    sent.clear()
    assert call("approve", "--route", "soon", stdin="n\n").exit_code == 2
    assert call("approve", "--route", "none").stdout == "Nothing fits.\n"
    assert sent == []
    asked = call("approve", "--route", "soon", stdin="y\n")
    assert "approve all 3 approvals?" in asked.stderr
    assert len(sent) == 3


# One by one ---------------------------------------------------------------------------------------


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.cli.session.Session.is_interactive", True)


def keys(monkeypatch: pytest.MonkeyPatch, *pressed: str) -> None:
    """The keys that a person presses at a card. `^C` is Ctrl-C."""
    left = iter(pressed)

    def getchar() -> str:
        key = next(left)
        if key == "^C":
            raise KeyboardInterrupt
        return key

    monkeypatch.setattr("click.getchar", getchar)


def shown(result: Result) -> list[str]:
    return [word for word in result.stdout.split() if ":k" in word and "/" not in word]


@pytest.mark.usefixtures("folder", "terminal")
@pytest.mark.parametrize("back", ["\x1b", "^C"])
def test_going_back_leads_from_the_card_to_the_list_and_out(monkeypatch: pytest.MonkeyPatch, back: str) -> None:
    keys(monkeypatch, "s", back, back, back)
    result = call("approvals", "answer", stdin="5\n\nq\n")
    # the second card, then the fifth of the list, which Enter shows again
    assert (result.exit_code, shown(result)) == (0, ["soon:k1", "soon:k2", "later:k11", "later:k11"]), result.output
    assert result.stdout.count("DEADLINE") == 3
    keys(monkeypatch, "s", back, "q")
    assert shown(call("approvals", "answer", stdin="9\nx\n\n")) == ["soon:k1", "soon:k2", "soon:k2"]
    keys(monkeypatch, back)
    assert "0 answers given." in call("approvals", "answer", stdin="\x1b\n").stdout


@pytest.mark.usefixtures("terminal")
def test_going_back_from_what_is_typed_leads_to_the_card(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys(monkeypatch, "r", "q")
    result = call("approvals", "answer", stdin="\x1b\n")
    assert (result.exit_code, "nothing is sent" in result.stdout) == (0, True), result.output

    def interrupted(*_: Any, **__: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("click.edit", interrupted)
    keys(monkeypatch, "e", "q")
    result = call("approvals", "answer")
    assert "nothing is sent" in result.stdout
    assert "the deadline is near" in result.stdout
    assert answers(folder) == []


@pytest.mark.usefixtures("terminal")
def test_an_edit_that_is_refused_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(self: Any, approval_id: str, decision: str, **more: Any) -> Receipt:
        return Receipt(
            approval_id=approval_id, answer_id="a", status="refused", code="digest", verdict="", closed=False
        )

    monkeypatch.setattr("mesh.services.client.Client.answer", refuse)
    monkeypatch.setattr("click.edit", lambda *_, **__: "amount: 5\n")
    keys(monkeypatch, "e", "q")
    one_by_one = call("approvals", "answer", "--route", "soon")
    by_id = call("approve", "soon:k1", "--edit")
    assert by_id.exit_code == 1
    for result in (one_by_one, by_id):
        [line] = [line for line in result.stderr.splitlines() if line.startswith("your edit is kept in ")]
        path = Path(line.split("your edit is kept in ")[1].partition(";")[0])
        assert path.parent == folder / "data" / "edits"
        assert (json.loads(path.read_text()), path.stat().st_mode & 0o777) == ({"amount": 5}, 0o600)
        assert f"--payload @{path}" in line
    (folder / "file").write_text("")
    kept = keep(folder / "file" / "edits", "soon:k1/r/review", [1])
    assert json.loads(kept.read_text()) == [1]
    kept.unlink()
