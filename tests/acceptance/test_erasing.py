"""A private workflow is erased: nothing that is kept says a word of it, and all else stays."""

import gzip
import json
from base64 import b64encode
from pathlib import Path

import pytest
from mesh_processes import MeshProcesses, Process, mesh_processes

from infra.kafka.kafka import KafkaProcess
from mesh.ports import Record, TopicPartition

WORD = "Marmelade-Ü77"
AGENTS_OWN = "00-telling_agents.log"
OTHER = "Gurke-Ü88"  # of the workflow that is not private
ROUTE = """\
route: refund
private: true
on: {type: test.refund}
key: ${{ event.subject }}
steps:
  work: {agent: teller, input: "${{ event.data }}", retry: {attempts: 2, backoff: 100ms}}
  review: {needs: work, approval: {edit: true, ask: "Pay ${{ event.data.name }}?", role: lead, payload: "${{ steps.work }}", deadline: 1h, quorum: 1}}
  pay: {needs: review, agent: teller, input: "${{ steps.review.payload }}", retry: {attempts: 2, backoff: 100ms}}
output: ${{ event.data }}
"""
OPEN_ROUTE = ROUTE.replace("route: refund", "route: order").replace("private: true\n", "").replace("refund", "order")


def spellings(word: str) -> list[bytes]:
    """How a word may lie in a file: as it is, escaped in JSON, and in base64 at any place."""
    plain = word.encode()
    found = [plain, json.dumps(word)[1:-1].encode()]
    for text in (plain, found[1]):
        for skip in range(3):
            # its first characters depend on what is before, and the last on what is behind
            whole = b64encode(b"\0" * skip + text)
            found.append(whole[-(-skip * 8 // 6) : len(whole) // 4 * 4 - 4])
    return found


def speaks(data: bytes, word: str = WORD) -> bool:
    return any(one in data for one in spellings(word))


def files(folder: Path, pattern: str) -> bytes:
    """What the files hold, with what SQLite keeps beside them."""
    return b"".join(one.read_bytes() for one in folder.rglob(pattern) if one.is_file())


async def records(mesh: MeshProcesses, name: str) -> list[Record]:
    async with mesh.broker() as broker:
        topic = mesh.topics.prefix + name
        places = [TopicPartition(topic, p) for p in range((await broker.topics())[topic].partitions)]
        ends, reader = await broker.end_offsets(places), await broker.reader()
        reader.assign(await broker.begin_offsets(places))
        found: list[Record] = []
        while any(reader.position(place) < end for place, end in ends.items()):
            found += await reader.poll(max_records=1_000, timeout_s=0.5)
        await reader.close()
        return found


def speaking(folder: Path) -> set[str]:
    """The files that say the word, without what an agent itself has written to its output."""
    return {one.name for one in folder.rglob("*") if one.is_file() and speaks(one.read_bytes())} - {AGENTS_OWN}


def whole(record: Record) -> bytes:
    headers = b"".join(name.encode() + value for name, value in record.headers)
    return (record.key or b"") + (record.value or b"") + headers


async def run_workflows(mesh: MeshProcesses) -> None:
    """One private workflow and one that is not, with the word wherever a word can be."""
    async with await mesh.client() as client:
        events = [
            {"type": f"test.{kind}", "source": "/shop", "subject": "7", "data": {"name": word, "n": 1}}
            for kind, word in (("refund", WORD), ("order", OTHER))
        ]
        await client.publish_all(events)

    async def asked() -> list[dict[str, str]] | None:
        found: list[dict[str, str]] = (await mesh.json("approvals", "list"))["approvals"]
        return found if len(found) == 2 else None

    for one in await mesh.wait_until("both are asked", asked):
        name = one["approval_id"]
        word = WORD if name.startswith("refund") else OTHER
        await mesh.cli("approvals", "comment", name, f"a word of {word}", "--by", "ana")
        edited = json.dumps({"name": f"edited {word}", "n": 2})
        await mesh.cli("approvals", "approve", name, "--payload", edited, "--by", "ana")
    await mesh.wait_outcomes(2)
    await mesh.wait_settled()


def prepare(mesh: MeshProcesses) -> None:
    mesh.approvers.write_text("lead: [ana, ben]\n")
    (mesh.routes / "refund.yaml").write_text(ROUTE)
    (mesh.routes / "order.yaml").write_text(OPEN_ROUTE)


def begin(mesh: MeshProcesses) -> Process:
    prepare(mesh)
    mesh.agent("telling_agents")
    router = mesh.router()
    router.wait_started()
    return router


async def erase_and_look(mesh: MeshProcesses, folder: Path) -> None:
    await mesh.make_topics("teller")
    router = begin(mesh)
    await run_workflows(mesh)
    assert WORD in (await mesh.cli("workflows", "show", "refund:7", "--full")).out.decode()
    before = (await mesh.json("log", "verify"))["workflows"]
    log = [whole(one) for one in await records(mesh, "log")]
    assert any(speaks(one, OTHER) for one in log)
    assert not any(map(speaks, log))
    assert speaks(files(mesh.folder, "read-model*")), "before it is erased"
    # a router that takes over opens what it has sealed, from the checkpoint and from the log
    router.stop()
    await mesh.cli("log", "export", folder / "before.gz")
    router = mesh.router()
    router.wait_started()
    await mesh.wait_settled()
    assert (await mesh.json("log", "verify"))["workflows"] == before
    assert before["refund:7"] in (await mesh.cli("log", "verify", "--file", folder / "before.gz")).out.decode()

    refused = await mesh.cli("workflows", "erase", "order:7", "--why", "asked", "--by", "ops", code=1)
    assert "not_private" in refused.out.decode() or "no_keys" in refused.out.decode()
    said = await mesh.json("workflows", "erase", "refund:7", "--why", "asked by the customer", "--by", "ops")
    assert (said["accepted"], said["keys_left"]) == (True, 0)
    assert said["kept_ms"][mesh.topics.events] == 604_800_000

    shown = (await mesh.cli("workflows", "show", "refund:7", "--full")).out.decode()
    assert "erased by ops" in shown
    assert "asked by the customer" in shown
    for command in (("workflows", "show", "refund:7", "--full"), ("log", "export", "--workflow", "refund:7")):
        assert not speaks((await mesh.cli(*command)).out)
    after = (await mesh.json("log", "verify"))["workflows"]
    assert {name for name in before if before[name] != after[name]} == {"refund:7"}
    # an approver's machine hears of what is closed when it next looks
    await mesh.cli("approvals", "list")
    assert speaking(mesh.folder) == set()
    assert speaks(files(mesh.folder, "read-model*"), OTHER)
    # with its whole log, and no cache, all comes to the same
    router.stop()
    for one in [*mesh.folder.rglob("*.sqlite*"), *mesh.folder.rglob("*.db*")]:
        one.unlink()
    router = mesh.router()
    router.wait_started()
    await mesh.wait_settled()
    assert (await mesh.json("log", "verify"))["workflows"] == after
    assert "erased by ops" in (await mesh.cli("workflows", "show", "refund:7")).out.decode()
    router.stop()
    assert speaking(mesh.folder) == set()
    for name in ("log", "keys"):
        assert not any(speaks(whole(one)) for one in await records(mesh, name))
    await export_and_import(mesh, folder, before, after)


async def export_and_import(mesh: MeshProcesses, folder: Path, before: dict[str, str], after: dict[str, str]) -> None:
    """A file from before has the workflow with its keys alone; one from after has it erased."""
    await mesh.cli("log", "export", folder / "after.gz")
    assert not speaks(gzip.decompress((folder / "after.gz").read_bytes()))
    assert (await mesh.json("log", "verify", "--file", folder / "after.gz"))["workflows"] == after
    keys = (folder / "before.gz.keys").rename(folder / "elsewhere.keys")
    assert not speaks(gzip.decompress((folder / "before.gz").read_bytes()))
    copies: list[tuple[str, list[str], dict[str, str]]] = [
        ("after.gz", [], after),
        ("before.gz", ["--keys", str(keys)], before),
        ("before.gz", ["--erase-unreadable"], {"order:7": before["order:7"]}),
    ]
    for number, (file, options, wanted) in enumerate(copies):
        with mesh_processes(f"sqlite://{folder}/copy-{number}.db", folder / f"{number}", prefix=mesh.prefix) as copy:
            prepare(copy)
            if number:
                assert "keys" in (await copy.cli("log", "import", folder / file, code=2)).err
            await copy.cli("log", "import", folder / file, *options)
            assert (await copy.json("log", "verify"))["workflows"] == wanted
            router = copy.router()
            router.wait_started()
            await copy.wait_settled()
            assert (await copy.json("log", "verify"))["workflows"] == wanted


async def test_an_erased_workflow_is_gone_from_all_that_is_kept_on_sqlite(tmp_path: Path) -> None:
    with mesh_processes(f"sqlite://{tmp_path}/mesh.db", tmp_path / "mesh") as mesh:
        await erase_and_look(mesh, tmp_path)


@pytest.mark.kafka
async def test_an_erased_workflow_is_gone_from_all_that_is_kept_on_kafka(
    kafka: KafkaProcess, kafka_prefix: str, tmp_path: Path
) -> None:
    with mesh_processes(f"kafka://{kafka.bootstrap}", tmp_path / "mesh", prefix=kafka_prefix) as mesh:
        await erase_and_look(mesh, tmp_path)
