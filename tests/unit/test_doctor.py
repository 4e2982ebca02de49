"""`mesh doctor`: each check of a good and of a bad mesh, and an examination that nothing stops."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from sample_mesh import write_sample

from mesh.adapters.memory import MemoryCluster
from mesh.adapters.sqlite import SqliteBroker
from mesh.adapters.system import SystemClock
from mesh.cli.app import mesh
from mesh.cli.doctor import exit_code
from mesh.codec.route_file import load_route_text
from mesh.codec.router_cards import RouterCard
from mesh.codec.state import encode_meta
from mesh.codec.times import rfc3339
from mesh.core.activation import Timeline
from mesh.core.state import PartitionState
from mesh.errors import RouteInvalid
from mesh.inspection.doctor import (
    Diagnosis,
    Examined,
    Finding,
    brokers,
    definitions,
    examine,
    files,
    processes,
    topics,
    work,
)
from mesh.inspection.doctor.patient import Patient, in_thread
from mesh.inspection.doctor.table import CHECKS, OPEN_BROKER, Check, Needs
from mesh.inspection.doctor.values import Result, Severity
from mesh.inspection.mesh_status import AgentStatus
from mesh.inspection.mesh_status.values import Stuck
from mesh.inspection.read_model import ReadModel
from mesh.inspection.read_model.queries import PartitionRow
from mesh.inspection.read_model.routers import RouterRow
from mesh.inspection.route_versions import Stored, Use
from mesh.ports import AboutBroker, Broker
from mesh.services.definitions import Version
from mesh.services.topic_plan import Difference
from mesh.settings import load_settings

NOW_MS: Final = 1_800_000_000_000
MINUTE_MS: Final = 60_000
META: Final = encode_meta(PartitionState())
KAFKA: Final = AboutBroker(product="Kafka", nodes=3, settings={"offsets.retention.minutes": "10080"})
ROUTE: Final = load_route_text(
    """\
route: seen
on: {type: test.seen}
key: ${{ event.subject }}
steps:
  draft: {agent: drafter, input: "${{ event.data }}"}
""",
    name="seen.yaml",
)[0].route
VERSION: Final = Version(name="seen", digest=ROUTE.digest, stored_at_ms=1, route=ROUTE)
STORED: Final = Stored([VERSION], Timeline())
AGENT: Final = AgentStatus(
    name="drafter", alive=1, versions=("1",), lag=0, overdue=0, running=0, oldest_running_ms=None, heard_at_ms=NOW_MS
)


def router(name: str, **more: Any) -> RouterRow:
    now = rfc3339(NOW_MS)
    card = RouterCard(instance=name, started_at=now, renewed_at=now, expires_after_s=30.0, **more)
    return RouterRow(card=card, renewed_at_ms=NOW_MS)


def stamped(said_ms: int) -> processes.Stamped:
    return processes.Stamped(who="router a", said_ms=said_ms, stamped_ms=NOW_MS)


def difference(kind: Any) -> Difference:
    return Difference(kind=kind, topic="mesh.log", wanted="16", found="4 partitions", fix="mesh topics apply")


def settings(**of_broker: str) -> AboutBroker:
    return replace(KAFKA, settings={name.replace("_", "."): value for name, value in of_broker.items()})


def checkpoints(saved_ms: int | None, decided_ms: int) -> Iterable[Finding]:
    owned = {3: PartitionRow(3, "a", NOW_MS - 90 * MINUTE_MS, decided_ms, META)}
    saved = {} if saved_ms is None else {3: saved_ms}
    return files.of_checkpoints([router("a")], owned, saved, MINUTE_MS, NOW_MS)


class Case(NamedTuple):
    check: str
    good: Callable[[], Iterable[Finding]]
    bad: Callable[[], Iterable[Finding]]
    severity: Severity
    says: str


def disk(free: int) -> list[files.Disk]:
    return [files.Disk(folder=Path("/data"), free_bytes=free, total_bytes=100 * 2**30)]


CASES: Final = (
    Case("broker speed", lambda: brokers.slow(20), lambda: brokers.slow(4_000), "warning", "took 4.0 s"),
    Case(
        "broker settings",
        lambda: brokers.of_settings(KAFKA, 3),
        lambda: brokers.of_settings(settings(offsets_retention_minutes="1440"), 3),
        "warning",
        "offsets.retention.minutes is 1440",
    ),
    Case(
        "broker settings",
        lambda: brokers.of_settings(settings(unclean_leader_election_enable="false"), 3),
        lambda: brokers.of_settings(settings(unclean_leader_election_enable="true"), 3),
        "warning",
        "unclean",
    ),
    Case(
        "broker settings",
        lambda: brokers.of_settings(settings(auto_create_topics_enable="false"), 3),
        lambda: brokers.of_settings(settings(auto_create_topics_enable="true"), 3),
        "note",
        "auto.create",
    ),
    Case(
        "broker settings",
        lambda: brokers.of_settings(KAFKA, 3),
        lambda: brokers.of_settings(KAFKA, 5),
        "warning",
        "3 nodes",
    ),
    Case(
        "broker settings",
        lambda: brokers.of_settings(KAFKA, 3),
        lambda: brokers.of_settings(replace(KAFKA, unknown="not authorised"), 3),
        "note",
        "not authorised",
    ),
    Case(
        "topics", lambda: topics.of_topics([]), lambda: topics.of_topics([difference("missing")]), "error", "mesh.log"
    ),
    Case(
        "topics",
        lambda: topics.of_topics([]),
        lambda: topics.of_topics([difference("partitions_fixed")]),
        "error",
        "wanted 16",
    ),
    Case("topics", lambda: topics.of_topics([]), lambda: topics.of_topics([difference("codec")]), "error", "mesh.log"),
    Case(
        "topics",
        lambda: topics.of_topics([]),
        lambda: topics.of_topics([difference("missing")], has_rights=True),
        "error",
        "or hidden from us",
    ),
    Case(
        "topics", lambda: topics.of_topics([]), lambda: topics.of_topics([difference("config")]), "warning", "mesh.log"
    ),
    Case(
        "topics", lambda: topics.of_topics([]), lambda: topics.of_topics([difference("partitions")]), "note", "mesh.log"
    ),
    Case(
        "rights", lambda: topics.of_rights([]), lambda: topics.of_rights(["mesh.log"]), "error", "may not read mesh.log"
    ),
    Case(
        "work",
        lambda: work.of_work([]),
        lambda: work.of_work([Stuck(severity="error", what="no router is alive", next_step="mesh router")]),
        "error",
        "no router is alive",
    ),
    Case(
        "notifier",
        lambda: work.of_notifier(0, 0, 0),
        lambda: work.of_notifier(7, 3_600_000, 0),
        "warning",
        "7 open approvals were asked after the last notice, the first 60 min ago",
    ),
    Case("notifier", lambda: work.of_notifier(0, 0, 0), lambda: work.of_notifier(0, 0, 2), "warning", "2 notices"),
    Case(
        "clocks",
        lambda: processes.of_clocks([stamped(NOW_MS - 1_000)], NOW_MS),
        lambda: processes.of_clocks([stamped(NOW_MS - 5_000)], NOW_MS),
        "warning",
        "router a is 5.0 s behind the broker's",
    ),
    Case(
        "clocks",
        lambda: processes.of_clocks([stamped(NOW_MS)], NOW_MS),
        lambda: processes.of_clocks([stamped(NOW_MS)], NOW_MS - 60_000),
        "warning",
        "this machine's clock is 60.0 s behind",
    ),
    Case(
        "versions",
        lambda: processes.of_routers([router("a", software="1"), router("b", software="1")]),
        lambda: processes.of_routers([router("a", software="1"), router("b")]),
        "warning",
        "1 (a); a version that does not say (b)",
    ),
    Case(
        "versions",
        lambda: processes.of_routers([router("a", answers="signed"), router("b", answers="signed")]),
        lambda: processes.of_routers([router("a", answers="signed"), router("b", answers="unsigned")]),
        "error",
        "signed (a); unsigned (b)",
    ),
    Case(
        "versions",
        lambda: processes.of_replicas([AGENT]),
        lambda: processes.of_replicas([replace(AGENT, versions=("1", "2"))]),
        "note",
        "drafter run different versions: 1, 2",
    ),
    Case(
        "agents",
        lambda: processes.of_agents([AGENT], [ROUTE], NOW_MS),
        lambda: processes.of_agents([replace(AGENT, alive=0)], [ROUTE], NOW_MS + MINUTE_MS),
        "warning",
        "route seen calls the agent drafter, which was last heard of 1 min ago",
    ),
    Case(
        "agents",
        lambda: processes.of_agents([replace(AGENT, alive=0, heard_at_ms=None, has_consumed=True)], [ROUTE], NOW_MS),
        lambda: processes.of_agents([], [ROUTE], NOW_MS),
        "warning",
        "has never run",
    ),
    Case(
        "agents",
        lambda: processes.of_agents([], [], NOW_MS),
        lambda: processes.of_agents([AGENT], [], NOW_MS),
        "note",
        "drafter is alive (1), and no route that is in use calls it",
    ),
    Case(
        "agents",
        lambda: processes.of_agents([replace(AGENT, alive=0)], [], NOW_MS),
        lambda: processes.of_agents([replace(AGENT, alive=0, lag=4)], [], NOW_MS),
        "note",
        "4 records are on the topic of drafter",
    ),
    Case(
        "definitions",
        lambda: definitions.of_versions(STORED, {ROUTE.digest: Use(running=1)}),
        lambda: definitions.of_versions(STORED, {"sha256:lost": Use(running=2)}),
        "error",
        "2 workflows run on the version lost, which is not stored",
    ),
    Case(
        "definitions",
        lambda: definitions.of_versions(STORED, {"sha256:lost": Use(ended=2)}),
        lambda: definitions.of_versions(Stored([replace(VERSION, route=None, problem="too new")], Timeline()), {}),
        "error",
        "can't be read here: too new",
    ),
    Case(
        "route files",
        lambda: definitions.of_files({"seen": "a"}, {"seen": "a"}),
        lambda: definitions.of_files({"seen": "sha256:b"}, {"seen": "sha256:a"}),
        "warning",
        "seen is on disk as b, and a is active",
    ),
    Case(
        "route files",
        lambda: definitions.of_files({}, {}),
        lambda: definitions.of_files({"seen": "a"}, {}),
        "warning",
        "on disk, and not active",
    ),
    Case(
        "route files",
        lambda: definitions.of_files({}, {}),
        lambda: definitions.of_files({}, {"seen": "a"}),
        "note",
        "active, and not on disk",
    ),
    Case(
        "route files",
        lambda: definitions.of_files({}, {}),
        lambda: definitions.of_invalid(RouteInvalid("no key\nmore"), [Path("routes")]),
        "error",
        "not valid: no key",
    ),
    Case(
        "checkpoints",
        lambda: checkpoints(NOW_MS - MINUTE_MS, NOW_MS),
        lambda: checkpoints(NOW_MS - 60 * MINUTE_MS, NOW_MS),
        "warning",
        "partitions 3 have no new checkpoint here: the oldest is 60 min old",
    ),
    Case(
        "checkpoints",
        lambda: checkpoints(NOW_MS - 60 * MINUTE_MS, NOW_MS - 60 * MINUTE_MS),  # nothing was decided since
        lambda: checkpoints(None, NOW_MS),
        "warning",
        "some have none",
    ),
    Case(
        "disk", lambda: files.of_disks(disk(50 * 2**30)), lambda: files.of_disks(disk(2**20)), "warning", "1 MiB left"
    ),
    Case(
        "file rights",
        lambda: files.of_modes({Path("/data/1.db"): 0o100600}),
        lambda: files.of_modes({Path("/data/1.db"): 0o100644}),
        "warning",
        "rights to /data/1.db",
    ),
    Case("metrics", lambda: files.of_metrics("otlp"), lambda: files.of_metrics("off"), "note", "metrics are off"),
)


@pytest.mark.parametrize(
    ("wanted", "severity", "why"),
    [
        ("cleanup.policy=delete", "error", "drops records"),
        ("retention.ms=-1", "error", "drops records"),
        ("retention.ms=604800000", "warning", "another time"),
        ("message.timestamp.type=LogAppendTime", "warning", "senders'"),
        ("max.message.bytes=4194304", "warning", "incidents"),
        ("segment.ms=1", "warning", "contract"),
    ],
)
def test_each_setting_of_a_topic_says_what_it_does(wanted: str, severity: Severity, why: str) -> None:
    [finding] = topics.of_topics([replace(difference("config"), wanted=wanted)])
    assert finding.severity == severity
    assert why in finding.why


def test_all_topics_that_are_missing_are_one_finding() -> None:
    lost = [replace(difference("missing"), topic=f"mesh.{n}", wanted="1 partition") for n in range(30)]
    [finding] = topics.of_topics(lost)
    assert finding.what.startswith("not there: mesh.0 (1 partition), mesh.1 ")
    assert finding.what.endswith(" and 10 more")


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.check}: {case.says}")
def test_a_check_finds_nothing_in_a_good_mesh_and_something_in_a_bad_one(case: Case) -> None:
    assert list(case.good()) == []
    [finding] = case.bad()
    assert finding.severity == case.severity
    assert case.says in finding.what
    assert finding.why
    assert finding.next_step


def test_every_check_is_tested() -> None:
    # what is unread is not judged: the work is
    assert {check.name for check in CHECKS} - {case.check for case in CASES} == {"lag"}


# An examination -----------------------------------------------------------------------------------


def patient(folder: Path) -> Patient:
    return Patient(load_settings(broker=f"sqlite://{folder}/mesh.db", data_dir=folder / "data"), SystemClock())


def model_at(folder: Path) -> Callable[[Broker], ReadModel]:
    return lambda broker: ReadModel(broker, patient(folder).topics, folder / "model.sqlite")


@asynccontextmanager
async def sample_at(folder: Path) -> AsyncIterator[Broker]:
    broker = await SqliteBroker.open(folder / "mesh.db", client_id="test", durability="normal")
    try:
        yield broker
    finally:
        await broker.close()


async def examined(folder: Path, *checks: Check, limit_s: float = 60.0) -> dict[str, Examined]:
    async with sample_at(folder) as broker:
        await write_sample(broker)
    found = await examine(
        patient(folder), lambda: sample_at(folder), model_at(folder), checks=checks or CHECKS, limit_s=limit_s
    )
    return {one.check: one for one in found.checks}


async def test_no_check_fails_or_hangs_on_a_whole_mesh(tmp_path: Path) -> None:
    found = await examined(tmp_path)
    assert {name: one.outcome for name, one in found.items() if one.outcome not in {"good", "found"}} == {}
    assert [one.what for one in found["topics"].findings if one.severity == "error"]  # the sample lacks some
    assert "unread" in found["lag"].said


async def test_a_check_that_fails_or_hangs_is_a_finding_and_the_others_go_on(tmp_path: Path) -> None:
    async def fail(_: Patient) -> Result:
        raise ValueError("seventeen")

    async def hang(_: Patient) -> Result:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def look(one: Patient) -> Result:
        return Result(said=f"{len(await one.broker.topics()) > 1}")

    both: list[Needs] = ["broker", "log"]
    checks = [
        Check(f"{name} {needs}", needs, do)
        for name, do in (("fails", fail), ("looks", look))
        for needs in ("broker", "log")
    ]
    found = await examined(tmp_path, *checks)
    for needs in both:
        assert found[f"fails {needs}"].outcome == "failed"
    # an error that is the same is said once
    assert [one.what for one in found["fails broker"].findings] == ["seventeen"]
    assert (found["fails log"].findings, found["fails log"].said) == ((), "as fails broker")
    for needs in both:
        assert (found[f"looks {needs}"].outcome, found[f"looks {needs}"].said) == ("good", "True")
    nothing = [Check("hangs", "nothing", hang), Check("fails", "nothing", fail)]
    late = await examine(
        patient(tmp_path), lambda: sample_at(tmp_path), model_at(tmp_path), checks=nothing, limit_s=0.2
    )
    outcomes = {one.check: one.outcome for one in late.checks}
    assert (outcomes["hangs"], outcomes["fails"]) == ("late", "failed")
    assert late.worst == "error"


async def test_a_broker_that_hangs_is_a_finding_and_what_needs_no_broker_is_looked_at(tmp_path: Path) -> None:
    @asynccontextmanager
    async def hanging() -> AsyncIterator[Broker]:
        await asyncio.get_running_loop().create_future()
        yield MemoryCluster(SystemClock()).connect("never")

    found = await examine(patient(tmp_path), hanging, model_at(tmp_path), limit_s=0.2, slack_s=0.0)
    outcomes = {one.check: one.outcome for one in found.checks}
    assert outcomes[OPEN_BROKER] == "late"
    assert outcomes["metrics"] == "good"
    assert {outcomes[check.name] for check in CHECKS if check.needs != "nothing"} == {"skipped"}
    assert exit_code(found) == 4


async def test_what_a_thread_raises_is_raised_where_it_is_awaited() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)
    assert await in_thread(lambda: 3) == 3


@pytest.mark.parametrize(
    ("severities", "strict", "code"),
    [
        ([], True, 0),
        (["note"], True, 0),
        (["warning"], False, 0),
        (["note", "warning"], True, 1),
        (["error"], False, 1),
    ],
)
def test_the_exit_code_is_that_of_the_worst_finding(severities: list[Severity], strict: bool, code: int) -> None:
    findings = tuple(Finding(severity=one, what="w", why="y", next_step="n") for one in severities)
    made = Examined(check="topics", outcome="found", took_ms=1, findings=findings)
    assert exit_code(Diagnosis(broker="b", at_ms=1, checks=(made,)), strict=strict) == code


def test_the_command_shows_each_check_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def write() -> None:
        async with sample_at(tmp_path) as broker:
            await write_sample(broker)

    asyncio.run(write())
    monkeypatch.setenv("MESH_BROKER", f"sqlite://{tmp_path}/mesh.db")
    monkeypatch.setenv("MESH_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)

    async def ends() -> Any:
        async with sample_at(tmp_path) as broker:
            return {name: info.partitions for name, info in (await broker.topics()).items()}

    before = asyncio.run(ends())
    said = CliRunner().invoke(mesh, ["doctor", "--timeout", "60"])
    assert said.exit_code == 1, said.output
    assert all(check.name in said.stdout for check in CHECKS)
    assert "do:  `mesh topics apply` creates what is missing" in said.stdout
    told = json.loads(CliRunner().invoke(mesh, ["doctor", "--timeout", "60", "--json"]).stdout)
    assert [one["check"] for one in told["checks"]] == ["broker", "log", *(check.name for check in CHECKS)]
    assert told["worst"] == "error"
    assert asyncio.run(ends()) == before
