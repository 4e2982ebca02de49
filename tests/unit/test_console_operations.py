"""What an operator orders in the console: of one workflow, of many, and of dead letters."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import httpx
import orjson
import pytest
from console_pages import OPERATOR_NAME, Browser, Mesh, small_mesh, until
from sample_mesh import TOPICS, dispatched, event_cause, started, workflow

from mesh.codec.commands import decode_command
from mesh.codec.operations import Progress, encode_operation
from mesh.core import events as ev
from mesh.core.inputs import CommandGiven
from mesh.errors import BrokerUnavailable
from mesh.inspection.read_model import queries
from mesh.ports import Record, TopicPartition

ANA, VIEWER_NAME = "ana@example.org", "vera@example.org"
STUCK = quote(workflow(3), safe="")
PEOPLE = "maintainer: [ana@example.org]\nmesh.viewer: [vera@example.org]\n"


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with small_mesh(tmp_path) as found:
        yield found


async def records(mesh: Mesh, topic: str) -> list[Record]:
    reader = await mesh.broker.reader()
    try:
        reader.assign({TopicPartition(topic, 0): 0})
        return [one for one in await reader.poll(max_records=100, timeout_s=0.2) if isinstance(one, Record)]
    finally:
        await reader.close()


async def cause_of(browser: Browser) -> str:
    found = re.search(r'name="cause" value="([^"]+)"', await browser.shows("/incidents"))
    assert found is not None
    return found[1]


async def previewed(browser: Browser, **fields: str) -> str:
    """The path of a preview."""
    found = await browser.send("/bulk/preview", {"command": "retry", "cause": await cause_of(browser)} | fields)
    assert found.status_code == 303, found.text
    return str(found.headers["location"])


def id_in(path: str) -> str:
    return path.partition("id=")[2]


# Many ---------------------------------------------------------------------------------------------


async def test_a_group_is_previewed_ordered_and_followed(mesh: Mesh) -> None:
    browser = mesh.browser(OPERATOR_NAME)
    preview = await previewed(browser)
    page = await browser.shows(preview)
    assert "Retry 1 workflow? Nothing is sent yet" in page
    assert "classify" in page
    assert await records(mesh, TOPICS.operations) == []

    found = await browser.send("/bulk", {"id": id_in(preview), "reason": "the disk is larger"})
    assert found.status_code == 303, found.text
    operation = found.headers["location"]
    page = await browser.shows(operation)
    for said in ("Retry 1 workflow", "the disk is larger", "0 of 1 decided", OPERATOR_NAME, "Stop: send no further"):
        assert said in page
    again = await browser.send("/bulk", {"id": id_in(preview), "reason": "the disk is larger"})
    assert again.headers["location"] == operation
    assert (await browser.get(preview)).headers["location"] == operation
    assert [orjson.loads(one.value or b"")["record"] for one in await records(mesh, TOPICS.operations)] == [
        "ids",
        "ordered",
    ]

    # as a router does
    await mesh.broker.send([encode_operation(Progress(operation=id_in(operation), sent=1), topics=TOPICS)])
    accepted = ev.CommandAccepted(command_id=f"{id_in(operation)}/{workflow(3)}", command="retry", by=OPERATOR_NAME)
    await mesh.writer.decide(workflow(3), event_cause(3, 60), accepted)
    await mesh.settle()
    await mesh.console.desk.projector.read_operations()
    page = await browser.shows(operation)
    for said in ("Finished: 1 of 1 decided", "1 done, 0 refused, 0 waiting"):
        assert said in page
    assert "Stop: send no further" not in page
    assert id_in(operation) in await browser.shows("/operations")
    assert "1 of 1 done" in await browser.shows("/operations")
    assert workflow(3) in await browser.shows(f"{operation}&result=done")
    assert "No workflow has this result" in await browser.shows(f"{operation}&result=refused")


async def test_an_order_needs_a_reason_and_above_a_hundred_the_number(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = mesh.browser(OPERATOR_NAME)
    preview = await previewed(browser)
    for reason, said in ((" ", "Give a reason"), ("x" * 2_001, "2,000 are possible")):
        found = await browser.send("/bulk", {"id": id_in(preview), "reason": reason})
        assert found.status_code == 422
        assert said in found.text
    monkeypatch.setattr("mesh.console.pages.operations.TYPED_FROM", 0)
    assert 'name="count"' in await browser.shows(preview)
    found = await browser.send("/bulk", {"id": id_in(preview), "reason": "kept", "count": "7"})
    assert found.status_code == 422
    assert "Type the number" in found.text
    assert ">kept</textarea>" in found.text
    assert await records(mesh, TOPICS.operations) == []
    assert (await browser.send("/bulk", {"id": id_in(preview), "reason": "r", "count": "1"})).status_code == 303


async def test_one_of_many_can_be_tried_first(mesh: Mesh) -> None:
    for number in range(20, 25):
        raised = ev.IncidentRaised(
            step="classify", kind="exhausted", message="2 of 2 attempts failed; the last: OSError: disk full"
        )
        await mesh.writer.decide(
            workflow(number),
            event_cause(number, number),
            started(number),
            dispatched(number, "classify", "classifier", 1),
            raised,
        )
    await mesh.settle()
    browser = mesh.browser(OPERATOR_NAME)
    found = await browser.send("/bulk/preview", {"command": "retry", "step": "classify"})
    page = await browser.shows(found.headers["location"])
    assert "Retry 6 workflows?" in page
    assert "Try with one first" in page
    found = await browser.send("/bulk/preview", {"command": "retry", "step": "classify", "one": "1"})
    page = await browser.shows(found.headers["location"])
    assert "Retry 1 workflow?" in page
    assert "6 fit in all" in page


async def test_an_operation_is_stopped_on_the_way(mesh: Mesh) -> None:
    browser = mesh.browser(OPERATOR_NAME)
    preview = await previewed(browser, command="cancel")
    operation = (await browser.send("/bulk", {"id": id_in(preview), "reason": "r"})).headers["location"]
    found = await browser.send("/operation", {"id": id_in(operation), "reason": ""})
    assert found.headers["location"] == operation
    page = await browser.shows(operation)
    assert "Stopped: 1 of 1 decided" in page
    assert "1 not sent" in page
    assert "Stopped by <strong>olga@example.org</strong>" in page


async def test_an_order_that_the_broker_does_not_take_can_be_sent_again(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise BrokerUnavailable("the broker is away")

    browser = mesh.browser(OPERATOR_NAME)
    preview = await previewed(browser)
    monkeypatch.setattr(mesh.console.desk, "order", away)
    found = await browser.send("/bulk", {"id": id_in(preview), "reason": "my reason"})
    assert found.status_code == 503
    assert "nothing was sent" in found.text
    assert ">my reason</textarea>" in found.text
    monkeypatch.undo()
    assert (await browser.send("/bulk", {"id": id_in(preview), "reason": "my reason"})).status_code == 303


async def test_what_is_no_preview_is_refused_with_what_to_do(mesh: Mesh) -> None:
    browser = mesh.browser(OPERATOR_NAME)
    assert "Make it again" in await browser.shows("/bulk?id=preview-none", status=404)
    assert "Make it again" in await browser.shows("/letters?id=preview-none", status=404)
    assert (await browser.send("/bulk", {"id": "preview-none", "reason": "r"})).status_code == 404
    for fields in ({"command": "explode", "cause": "x"}, {"command": "retry"}):
        assert (await browser.send("/bulk/preview", fields)).status_code == 400
    found = await browser.send("/bulk/preview", {"command": "retry", "cause": "none"})
    assert found.status_code == 404
    assert "Nothing was sent" in found.text
    await browser.shows("/operation?id=op-none", status=404)
    assert (await browser.send("/operation", {"id": "op-none"})).status_code == 404
    assert "No operations yet" in await browser.shows("/operations")


# One ----------------------------------------------------------------------------------------------


async def obeyed(mesh: Mesh, browser: Browser, *, accepts: bool, **fields: str) -> httpx.Response:
    """What comes back once the owner has decided on the command."""

    async def play_owner() -> None:
        while not (found := await records(mesh, TOPICS.commands)):
            pass
        record = found[-1]
        given = decode_command(record)
        assert isinstance(given, CommandGiven)
        event: ev.Event = (
            ev.CommandAccepted(command_id=given.command_id, command=given.command, by=given.by, reason=given.reason)
            if accepts
            else ev.CommandRefused(
                command_id=given.command_id, command=given.command, code="ended", message="it has ended", by=given.by
            )
        )
        await mesh.writer.obey(given, event)

    owner = asyncio.create_task(play_owner())
    try:
        return await browser.send("/workflow", {"id": workflow(3)} | fields)
    finally:
        await asyncio.wait_for(owner, 30)


@pytest.mark.parametrize(
    ("accepts", "said"), [(True, "It is tried again."), (False, "It was refused (ended): it has ended")]
)
async def test_one_workflow_is_retried_from_its_page(mesh: Mesh, *, accepts: bool, said: str) -> None:
    browser = mesh.browser(OPERATOR_NAME)
    page = await browser.shows(f"/workflow?id={STUCK}")
    for title in ("Retry", "Skip", "Fail", "Cancel"):
        assert f"{title} this workflow" in page
    found = await obeyed(mesh, browser, accepts=accepts, command="retry", reason="the disk is larger")
    assert found.status_code == 303, found.text
    assert said in await browser.shows(found.headers["location"])


async def test_a_command_needs_a_reason_and_a_workflow(mesh: Mesh) -> None:
    browser = mesh.browser(OPERATOR_NAME)
    for fields in (
        {"id": workflow(3), "command": "retry", "reason": " "},
        {"id": workflow(3), "command": "explode", "reason": "r"},
        {"id": "none", "command": "retry", "reason": "r"},
    ):
        assert (await browser.send("/workflow", fields)).status_code == 400
    assert await records(mesh, TOPICS.commands) == []


async def test_a_command_that_nobody_decides_on_is_said_to_be_under_way(tmp_path: Path) -> None:
    async with small_mesh(tmp_path, receipt_s=0.05) as mesh:
        browser = mesh.browser(OPERATOR_NAME)
        found = await browser.send("/workflow", {"id": workflow(3), "command": "cancel", "reason": "r"})
        assert found.status_code == 303
        assert "not decided yet" in await browser.shows(found.headers["location"])


# Dead letters -------------------------------------------------------------------------------------


async def test_a_dead_letter_is_discarded_after_a_preview(mesh: Mesh) -> None:
    browser = mesh.browser(OPERATOR_NAME)
    assert "Preview discarding all" in await browser.shows("/dead-letters")
    found = await browser.send("/letters/preview", {"verb": "discard"})
    preview = found.headers["location"]
    assert "Discard 1 dead letter? Nothing is done yet" in await browser.shows(preview)
    assert (await browser.send("/letters", {"id": id_in(preview), "reason": ""})).status_code == 422
    for _ in range(2):
        found = await browser.send("/letters", {"id": id_in(preview), "reason": "seen to"})
        assert (found.status_code, found.headers["location"]) == (303, preview)
    assert "1 dead letter discarded" in await browser.shows(preview)
    await mesh.settle()
    assert "No dead letters" in await browser.shows("/dead-letters")
    assert "seen to" in await browser.shows(f"/dead-letters?id={quote(await letter(mesh), safe='')}")
    assert (await browser.send("/letters/preview", {"verb": "discard"})).status_code == 404


async def letter(mesh: Mesh) -> str:
    """The one dead letter's id."""
    [row] = await mesh.console.desk.log(queries.dead_letters)
    return str(row.id)


async def test_a_dead_letter_is_sent_again_after_a_preview(mesh: Mesh) -> None:
    browser = mesh.browser(OPERATOR_NAME)
    before = len(await records(mesh, TOPICS.events))
    found = await browser.send("/letters/preview", {"verb": "redrive", "id": await letter(mesh)})
    preview = found.headers["location"]
    page = await browser.shows(preview)
    assert "Send 1 dead letter again? Nothing is sent yet" in page
    assert "go to mesh.events" in page
    assert len(await records(mesh, TOPICS.events)) == before
    found = await browser.send("/letters", {"id": id_in(preview), "reason": "corrected"})
    assert found.status_code == 303, found.text
    assert "1 dead letter sent again" in await browser.shows(preview)
    assert len(await records(mesh, TOPICS.events)) == before + 1


async def test_letters_that_the_broker_does_not_take_are_said_and_the_reason_stays(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object) -> None:
        raise BrokerUnavailable("the broker is away")

    browser = mesh.browser(OPERATOR_NAME)
    preview = (await browser.send("/letters/preview", {"verb": "discard"})).headers["location"]
    monkeypatch.setattr(mesh.broker, "send", away)
    found = await browser.send("/letters", {"id": id_in(preview), "reason": "my reason"})
    assert found.status_code == 503
    assert ">my reason</textarea>" in found.text
    assert (await browser.send("/letters/preview", {"verb": "explode"})).status_code == 400


# Who may ------------------------------------------------------------------------------------------


FORMS: list[tuple[str, dict[str, str]]] = [
    ("/bulk/preview", {"command": "retry", "cause": "x"}),
    ("/bulk", {"id": "x", "reason": "r"}),
    ("/operation", {"id": "x"}),
    ("/workflow", {"id": workflow(3), "command": "cancel", "reason": "r"}),
    ("/letters/preview", {"verb": "discard"}),
    ("/letters", {"id": "x", "reason": "r"}),
]


async def test_only_operators_are_offered_anything_and_may_order_it(mesh: Mesh, tmp_path: Path) -> None:
    (tmp_path / "approvers.yaml").write_text(PEOPLE)
    await until(lambda: mesh.console.desk.staff.reader(VIEWER_NAME).sees_all)
    viewer = mesh.browser(VIEWER_NAME)
    for path in (
        "/incidents",
        "/dead-letters",
        f"/workflow?id={STUCK}",
        f"/dead-letters?id={quote(await letter(mesh), safe='')}",
    ):
        page = await viewer.shows(path)
        for action in ("/bulk", "/letters", "/workflow", "/operation"):
            assert f'action="{action}' not in page, (path, action)
    for name in (VIEWER_NAME, ANA):
        for path, fields in FORMS:
            found = await mesh.browser(name).send(path, fields)
            assert found.status_code == 403, (name, path)
            assert "Operators do this (role mesh.operator)" in found.text
        for path in ("/bulk?id=x", "/letters?id=x"):
            await mesh.browser(name).shows(path, status=403)
    for topic in (TOPICS.commands, TOPICS.operations):
        assert await records(mesh, topic) == []
    await mesh.browser(ANA).shows("/operations", status=403)


async def test_a_preview_is_its_makers_alone(mesh: Mesh) -> None:
    preview = await previewed(mesh.browser(OPERATOR_NAME))
    with pytest.raises(Exception, match="This preview is gone"):
        mesh.console.desk.previews.bulk(id_in(preview), "somebody@example.org")
