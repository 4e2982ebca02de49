"""The console's pages: what they show to whom, and what they refuse."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from urllib.parse import quote

import apsw
import orjson
import pytest
from console_pages import CODE, OPERATOR_NAME, OWN, URL, Browser, Mesh, approval_id, small_mesh, until
from msgspec.structs import replace
from sample_mesh import TOPICS, approved, asked, event_cause, started, workflow

from mesh.codec.approver_keys import encode_key
from mesh.codec.links import approval_link, approval_ref
from mesh.console.app import ACTIONS, PAGES
from mesh.console.guard import HEADERS
from mesh.console.hub import TOPICS as LIVE
from mesh.console.hub import Hub, topic_of
from mesh.console.listening import listen_on
from mesh.console.pages import approvals, workflows
from mesh.console.parameters import BadParameter, Parameters
from mesh.console.words import fields
from mesh.core import events as ev
from mesh.core.approver_keys import SpeaksFor
from mesh.core.json_values import digest
from mesh.errors import BrokerUnavailable, OperatorError
from mesh.inspection.inbox import Inbox
from mesh.ports import TopicPartition
from mesh.web_server import url_of

ANA = "ana@example.org"
RESPONSES = TopicPartition(TOPICS.responses, 0)
ONE = quote(approval_id(), safe="")
WORKFLOW = quote(workflow(1), safe="")
LISTS = ["/", "/approvals", "/approvals?for=all", "/approvals?state=closed", "/approvals?state=closed&for=all"]
LISTS += [
    "/workflows",
    "/incidents",
    "/dead-letters",
    "/dead-letters?state=all",
    "/agents",
    "/more",
    "/routes",
    "/events",
]
ALL = [*LISTS, f"/approval?id={ONE}", f"/approval?id={ONE}&as=json", f"/workflow?id={WORKFLOW}"]
# what a browser would run, or apply, although the policy forbids it
INLINE = re.compile(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=|javascript:|\shx-", re.IGNORECASE)


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with small_mesh(tmp_path) as found:
        yield found


def refused(answer_id: str, code: str = "role") -> tuple[ev.Event, ...]:
    return (
        ev.AnswerRefused(
            answer_id=answer_id, approval_id=approval_id(), code=code, message="you lack the role", by=ANA
        ),
    )


# Every page ---------------------------------------------------------------------------------------


async def test_every_page_is_shown_to_an_operator_with_the_policy_and_nothing_inline(mesh: Mesh) -> None:
    await until(lambda: mesh.console.desk.projector.status is not None)
    browser = mesh.browser(OPERATOR_NAME)
    for path in ALL:
        found = await browser.get(path)
        assert found.status_code == 200, (path, found.text)
        assert not INLINE.search(found.text), (path, INLINE.search(found.text))
        assert found.text.count("<h1") == 1, path
        assert {name: found.headers[name] for name in HEADERS} == HEADERS
        assert found.headers["cache-control"] == "no-store"


async def test_a_parameter_that_a_page_does_not_take_is_an_error_that_names_it(mesh: Mesh) -> None:
    browser = mesh.browser(OPERATOR_NAME)
    for path in PAGES:
        text = await browser.shows(f"{path.replace('{ref}', 'x')}?statee=open", status=400)
        assert "no parameter &#39;statee&#39;" in text
    assert "did you mean state?" in await browser.shows("/workflows?statee=open", status=400)


BAD_VALUES = [
    ("/workflows?state=stuck", "state can&#39;t be &#39;stuck&#39;"),
    ("/workflows?age=soon", "write a time such as"),
    ("/workflows?attr=name", "write NAME:VALUE"),
    ("/workflows?attr=a-b:c", "write NAME:VALUE"),
    ("/workflows?after=nonsense", "not the cursor of a page"),
    ("/workflows?state=open&state=ended", "comes twice"),
    ("/workflows?q=%ff%fe", "can&#39;t be read"),
    ("/approvals?due=x", "write a time such as"),
    ("/approvals?after=!", "not the cursor of a page"),
    ("/approval", "needs the parameter &#39;id&#39;"),
    ("/workflow", "needs the parameter &#39;id&#39;"),
    (f"/payload?id={WORKFLOW}&at=1.2", "copy the link from the timeline"),
    ("/dead-letters?id=7", "PARTITION/OFFSET"),
    ("/dead-letters?state=old", "state can&#39;t be"),
    ("/agents?state=odd", "state can&#39;t be"),
    ("/incidents?since=1", "write a time such as"),
    ("/search?q=zz", "needs 3 characters"),
]


async def test_a_value_that_a_parameter_cannot_have_is_said(mesh: Mesh) -> None:
    browser = mesh.browser(OPERATOR_NAME)
    for path, said in BAD_VALUES:
        assert said in await browser.shows(path, status=400), path


async def test_what_is_not_there_is_a_page_that_says_so(mesh: Mesh) -> None:
    browser = mesh.browser(OPERATOR_NAME)
    places = ["/approval?id=no", "/workflow?id=no", "/a/aaaa", "/dead-letters?id=0/99", "/nope"]
    for path in (*places, f"/payload?id={WORKFLOW}&at=9.9.9.9"):
        text = await browser.shows(path, status=404)
        assert "Not found" in text
        assert 'href="/workflows"' in text


async def test_an_error_of_the_console_shows_an_id_and_no_trace(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    browser = mesh.browser(OPERATOR_NAME)
    monkeypatch.setattr(workflows, "_filters", broken)
    text = await browser.shows("/workflows", status=500)
    assert "under the id" in text
    assert "secret" not in text
    assert 'href="/incidents"' in text
    # where not even the navigation can be counted
    monkeypatch.setattr(mesh.console.desk, "log", broken)
    text = await browser.shows("/incidents", status=500)
    assert "under the id" in text
    assert "secret" not in text


# What pages show ----------------------------------------------------------------------------------


async def test_the_overview_says_first_what_is_stuck_and_what_to_do(mesh: Mesh) -> None:
    await until(lambda: mesh.console.desk.projector.status is not None)
    text = await mesh.browser(OPERATOR_NAME).shows("/")
    assert "1 workflow is stuck, for 1 cause" in text
    assert "mesh workflows retry" in text
    assert "0 alive" in text


async def test_filters_narrow_the_list_and_can_be_dropped(mesh: Mesh) -> None:
    browser = mesh.browser(OPERATOR_NAME)
    for query, numbers in {
        "": {1, 2, 3},
        "?state=incident": {3},
        "?state=asking": {1},
        "?state=ended": {2},
        "?state=open": {1, 3},
        "?state=completed": {2},
        "?q=repo%232": {2},
        "?route=issue-triage&state=open": {1, 3},
        "?step=review": {1},
        "?age=1d&state=incident": {3},
        "?route=other": set[int](),
        "?attr=customer:acme": set[int](),
    }.items():
        text = await browser.shows(f"/workflows{query}")
        shown = {int(found) for found in re.findall(r'title="issue-triage:octo/repo#(\d)"', text)}
        assert shown == numbers, query
    assert "Drop route: other" in await browser.shows("/workflows?route=other")


async def test_a_workflow_shows_each_decision_with_its_reason(mesh: Mesh) -> None:
    text = await mesh.browser(OPERATOR_NAME).shows(f"/workflow?id={WORKFLOW}")
    assert "asks role maintainer: Post this reply?" in text
    assert "needs draft: succeeded; if: steps.classify.severity == &#39;high&#39;" in text
    assert f'href="/approval?id={ONE}"' in text
    only = await mesh.browser(OPERATOR_NAME).shows(f"/workflow?id={WORKFLOW}&step=review")
    assert "dispatched to classifier" not in only


async def test_the_search_leads_straight_to_what_it_names(mesh: Mesh) -> None:
    browser = mesh.browser(OPERATOR_NAME)
    for wanted, place in {
        workflow(1): f"/workflow?id={WORKFLOW}",
        "repo#2": f"/workflow?id={quote(workflow(2), safe='')}",
        "octo": "/workflows?q=octo",
        approval_id(): f"/approval?id={ONE}",
        "": "/workflows",
    }.items():
        found = await browser.get(f"/search?q={quote(wanted)}")
        assert (found.status_code, found.headers["location"]) == (303, place)


async def test_what_comes_from_outside_is_text_and_hides_nothing(mesh: Mesh) -> None:
    hostile = {"body": "<script>alert(1)</script>\u202egnp.exe", "<img src=x onerror=alert(1)>": ['"><b>', "a\u200bb"]}
    request = replace(
        asked(7, mesh.writer.now_ms),
        question="</h1><script>alert(2)</script>\x1b[2J",
        payload=hostile,
        digest=digest(hostile),
        reason="<i>because</i>",
    )
    await mesh.writer.decide(workflow(7), event_cause(7, 70), started(7), request)
    await mesh.settle()
    browser = mesh.browser(ANA)
    await until(lambda: mesh.console.desk.projector.fresh_at_ms > 0)
    for path in (
        f"/approval?id={quote(approval_id(7), safe='')}",
        f"/approval?id={quote(approval_id(7), safe='')}&as=json",
    ):
        found = await _shown(browser, path)
        assert "<script>" not in found.replace('<script src="', "")
        assert "<img" not in found
        assert "<b>" not in found
        assert not {"\u202e", "\u200b", "\x1b"} & set(found)
    assert "\\u202e" in await browser.shows(f"/approval?id={quote(approval_id(7), safe='')}")


async def _shown(browser: Browser, path: str) -> str:
    """The page, once the inbox has what it shows."""
    async with asyncio.timeout(30):
        while (found := await browser.get(path)).status_code == 403:  # noqa: ASYNC110 - many things are waited for, few have an event
            await asyncio.sleep(0.02)
    assert found.status_code == 200, found.text
    return str(found.text)


# Who may see what ---------------------------------------------------------------------------------


async def test_an_approver_sees_their_questions_and_their_workflows_alone(mesh: Mesh) -> None:
    browser = mesh.browser(ANA)
    assert "1 question for you" in await browser.shows("/approvals")
    assert "Post this reply?" in await browser.shows(f"/approval?id={ONE}")
    assert "Timeline" in await browser.shows(f"/workflow?id={WORKFLOW}")
    assert (await browser.get("/")).headers["location"] == "/approvals"
    for path in ("/workflows", "/incidents", "/dead-letters", "/agents", "/approvals?for=all"):
        assert "You may not see this" in await browser.shows(path, status=403)
    for number in (2, 3):
        await browser.shows(f"/workflow?id={quote(workflow(number), safe='')}", status=403)


async def test_who_lacks_the_role_is_told_which_and_as_whom_they_are_signed_in(mesh: Mesh) -> None:
    text = await mesh.browser("kim@example.org").shows(f"/approval?id={ONE}", status=403)
    assert "Role maintainer is asked here" in text
    assert "kim@example.org" in text
    assert "Post this reply?" not in text
    assert "Nothing waits for you" in await mesh.browser("kim@example.org").shows("/approvals")


async def test_a_viewer_sees_a_question_without_a_form_and_cannot_answer_it(mesh: Mesh) -> None:
    browser = mesh.browser(OPERATOR_NAME)
    text = await browser.shows(f"/approval?id={ONE}")
    assert "Role maintainer answers this" in text
    assert 'name="choice"' not in text
    assert (await browser.post("/approval", id=approval_id(), choice="approve")).status_code == 403


# Signing in ---------------------------------------------------------------------------------------


async def test_without_a_session_every_page_leads_to_the_sign_in_and_back(mesh: Mesh) -> None:
    nobody = mesh.browser(None)
    for path in ALL:
        found = await nobody.get(path)
        target = "" if path == "/" else f"?next={quote(path, safe='')}"
        assert (found.status_code, found.headers["location"]) == (303, f"/login{target}")
    assert (await nobody.get("/live?topics=approvals")).status_code == 401
    text = (await nobody.get(f"/login?next={quote(f'/approval?id={ONE}', safe='')}&code={CODE}")).text
    assert "Post this reply?" not in text
    found = await nobody.post("/login", code=CODE, next=f"/approval?id={ONE}")
    assert (found.status_code, found.headers["location"]) == (303, f"/approval?id={ONE}")
    assert "HttpOnly" in found.headers["set-cookie"]
    assert "SameSite=lax" in found.headers["set-cookie"]
    await nobody.shows(f"/approval?id={ONE}")
    await nobody.post("/logout")
    assert (await nobody.get("/")).status_code == 303


async def test_a_wrong_code_signs_nobody_in(mesh: Mesh) -> None:
    nobody = mesh.browser(None)
    found = await nobody.post("/login", code="guess", next="/")
    assert found.status_code == 403
    assert "set-cookie" not in found.headers


async def test_the_sign_in_leads_nowhere_else(mesh: Mesh) -> None:
    for target in ("//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "/a\n"):
        found = await mesh.browser(None).post("/login", code=CODE, next=target)
        assert found.headers["location"] == "/"


async def test_the_look_is_kept_in_a_cookie_and_written_by_the_server(mesh: Mesh) -> None:
    browser = mesh.browser(ANA)
    found = await browser.post("/theme", theme="dark", next="/approvals")
    assert (found.status_code, found.headers["location"]) == (303, "/approvals")
    assert 'data-theme="dark"' in await browser.shows("/approvals")


# Other sites --------------------------------------------------------------------------------------


OTHERS: list[dict[str, str]] = [
    {},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
]


async def test_a_form_of_another_site_is_refused(mesh: Mesh) -> None:
    client = mesh.browser(ANA).client
    for path in (*ACTIONS, "/login"):
        for headers in OTHERS:
            found = await client.post(path, data={"id": approval_id(), "choice": "approve"}, headers=headers)
            assert found.status_code == 403
            assert "another site" in found.text


async def test_an_old_browser_is_known_by_its_origin(mesh: Mesh) -> None:
    found = await mesh.browser(ANA).client.post("/theme", data={"theme": "dark"}, headers={"origin": URL})
    assert found.status_code == 303


async def test_another_name_for_this_console_is_refused(mesh: Mesh) -> None:
    for name in ("evil.example", "127.0.0.1.evil.example", "", "[", "localhost@evil.example"):
        assert (await mesh.browser(ANA).get("/approvals", host=name)).status_code == 421
    assert (await mesh.browser(ANA).get("/approvals", host="localhost:1")).status_code == 200


async def test_a_form_without_length_or_with_too_much_of_it_is_not_read(mesh: Mesh) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"theme=dark"

    client = mesh.browser(ANA).client
    assert (await client.post("/theme", content=parts(), headers=OWN)).status_code == 411
    assert (await client.post("/theme", content=b"x" * 1_048_577, headers=OWN)).status_code == 413


async def test_no_address_of_an_action_does_anything_by_a_get(mesh: Mesh) -> None:
    browser = mesh.browser(ANA)
    for path in ("/logout", "/theme"):
        assert (await browser.get(path)).status_code in {404, 405}
    await browser.shows(f"/approval?id={ONE}")
    found = await browser.get(f"/approval?id={ONE}&choice=approve")
    assert found.status_code == 400
    ends = await mesh.broker.end_offsets([RESPONSES])
    assert set(ends.values()) == {0}


async def test_style_and_script_are_kept_by_browsers_under_names_of_their_own(mesh: Mesh) -> None:
    text = await mesh.browser(ANA).shows("/approvals")
    for path in re.findall(r'"(/static/[^"#]+)"', text):
        found = await mesh.browser(None).get(path)
        assert found.status_code == 200
        assert "immutable" in found.headers["cache-control"]
    assert (await mesh.browser(None).get("/static/console.css")).status_code == 404


# The answer ---------------------------------------------------------------------------------------


async def test_an_approver_approves_what_was_shown_and_sees_that_it_counts(mesh: Mesh) -> None:
    browser = mesh.browser(ANA)
    shown = re.search(r'name="digest" value="([^"]+)"', await browser.shows(f"/approval?id={ONE}"))
    assert shown is not None
    owner = asyncio.create_task(mesh.play_owner(lambda answer: (approved(1, answer, by=ANA),)))
    found = await browser.post("/approval", id=approval_id(), choice="approve", reason="fine", digest=shown[1])
    await owner
    assert found.status_code == 303, found.text
    text = await browser.shows(found.headers["location"])
    assert "Your answer counts." in text
    assert "It is approved." in text
    [record] = await _answers(mesh)
    assert (record["decision"], record["by"], record["reason"], record["digest"]) == ("approve", ANA, "fine", shown[1])


async def _answers(mesh: Mesh) -> list[dict[str, str]]:
    reader = await mesh.broker.reader()
    try:
        reader.assign({RESPONSES: 0})
        return [orjson.loads(record.value or b"") for record in await reader.poll(max_records=10, timeout_s=1)]
    finally:
        await reader.close()


async def test_a_rejection_needs_a_reason_and_keeps_nothing_from_being_sent_with_one(mesh: Mesh) -> None:
    browser = mesh.browser(ANA)
    found = await browser.post("/approval", id=approval_id(), choice="reject", reason="  ")
    assert found.status_code == 422
    assert "Give a reason" in found.text
    found = await browser.post("/approval", id=approval_id(), choice="reject", reason="x" * 2_001)
    assert found.status_code == 422


async def test_a_refused_answer_brings_the_form_back_with_its_text(mesh: Mesh) -> None:
    owner = asyncio.create_task(mesh.play_owner(refused))
    found = await mesh.browser(ANA).post("/approval", id=approval_id(), choice="approve", reason="my long text")
    await owner
    assert found.status_code == 409
    assert "does not count (role)" in found.text
    assert "you lack the role" in found.text
    assert ">my long text</textarea>" in found.text


async def test_a_late_answer_shows_the_verdict_and_keeps_the_text(mesh: Mesh) -> None:
    await mesh.writer.decide(workflow(1), event_cause(1, 80), approved(1, "answer-of-ben", by="ben@example.org"))
    await mesh.settle()
    found = await mesh.browser(ANA).post("/approval", id=approval_id(), choice="reject", reason="my long text")
    assert found.status_code == 409
    assert "answered meanwhile" in found.text
    assert "ben@example.org" in found.text
    assert "my long text" in found.text


async def test_an_answer_that_nobody_decides_on_is_said_to_be_under_way(tmp_path: Path) -> None:
    async with small_mesh(tmp_path, receipt_s=0.05) as mesh:
        found = await mesh.browser(ANA).post("/approval", id=approval_id(), choice="approve")
        assert found.status_code == 202
        assert "not decided yet" in found.text


async def test_an_answer_that_cannot_be_sent_keeps_its_text(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object, **__: object) -> None:
        raise BrokerUnavailable("the broker is away")

    monkeypatch.setattr(mesh.console.desk.client, "answer", away)
    found = await mesh.browser(ANA).post("/approval", id=approval_id(), choice="approve", reason="my long text")
    assert found.status_code == 503
    assert "my long text" in found.text


async def test_a_question_that_the_log_has_and_the_topic_of_open_ones_has_not_is_just_asked(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approvals, "find", lambda *_: None)
    browser = mesh.browser(ANA)
    assert "Just asked" in await browser.shows(f"/approval?id={ONE}")
    found = await browser.post("/approval", id=approval_id(), choice="approve", reason="my long text")
    assert found.status_code == 409
    assert "my long text" in found.text


async def test_an_answer_that_is_none_is_refused(mesh: Mesh) -> None:
    browser = mesh.browser(ANA)
    for choice in ("", "maybe", "withdraw"):
        assert (await browser.post("/approval", id=approval_id(), choice=choice, reason="x")).status_code == 400
    assert (await browser.post("/approval", id="no", choice="approve")).status_code == 404


async def test_who_sends_very_many_answers_is_asked_to_wait(tmp_path: Path) -> None:
    async with small_mesh(tmp_path, receipt_s=0.0) as mesh:
        browser = mesh.browser(ANA)
        sent = [await browser.post("/approval", id=approval_id(), choice="approve") for _ in range(21)]
        assert [one.status_code for one in sent] == [202] * 20 + [429]


async def test_answers_are_signed_once_the_mesh_knows_the_key_as_a_gateways(mesh: Mesh) -> None:
    staff, key = mesh.console.desk.staff, mesh.console.key
    assert staff.key is None
    record = encode_key(
        key.x, topics=TOPICS, person="console", by="root", at_ms=1, speaks_for=SpeaksFor(roles=("maintainer",))
    )
    await mesh.broker.send([record])
    await until(lambda: staff.key is not None)
    assert "signed by this console" in await mesh.browser(ANA).shows(f"/approval?id={ONE}")


# Links and updates --------------------------------------------------------------------------------


async def test_a_short_link_leads_to_its_approval(mesh: Mesh) -> None:
    found = await mesh.browser(ANA).get(f"/a/{approval_ref(approval_id())}")
    assert (found.status_code, found.headers["location"]) == (303, f"/approval?id={ONE}")
    assert approval_link("https://mesh.example.org/", approval_id()) == f"https://mesh.example.org/approval?id={ONE}"


async def heard(stream: AsyncIterator[bytes]) -> set[str]:
    """The topics of the next message of a stream."""
    async with asyncio.timeout(30):
        message = (await anext(stream)).decode()
    assert message.startswith("event: changed\nid: "), message
    return set(message.partition("\ndata: ")[2].split())


async def opened(hub: Hub, *topics: str, since: str = "") -> AsyncGenerator[bytes, None]:
    stream = hub.stream("ana", topics, since)
    assert await anext(stream) == b"retry: 2000\n\n"
    return stream


async def test_a_stream_says_what_has_changed_and_ends_when_the_console_stops() -> None:
    hub = Hub()
    stream = await opened(hub, "workflows", "approvals")
    waiting = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    hub.tell(["workflows", "agents"], "7:48213")
    assert await waiting == f"event: changed\nid: {hub.mark}\ndata: workflows\n\n".encode()
    assert hub.mark.endswith(".7:48213")
    assert hub.streams_of("ana") == 1
    ending = asyncio.create_task(anext(stream, None))
    hub.close()
    assert await ending is None
    assert hub.streams_of("ana") == 0


@pytest.mark.parametrize("topic", [*LIVE, topic_of("pay:1")])
async def test_a_change_between_a_page_and_its_stream_is_told(topic: str) -> None:
    hub = Hub()
    page = hub.mark
    hub.tell(["workflows", topic])
    stream = await opened(hub, topic, since=page)
    assert await heard(stream) == {topic}
    await stream.aclose()


async def test_only_what_has_changed_since_the_page_is_told() -> None:
    hub = Hub()
    hub.tell(["agents"])
    page = hub.mark
    hub.tell(["incidents"])
    stream = await opened(hub, "agents", "incidents", since=page)
    assert await heard(stream) == {"incidents"}
    await stream.aclose()


# with names: a hub's is another each time, and every worker must collect the same tests
@pytest.mark.parametrize(
    "since", [Hub().mark, "nonsense", "1:1", "a.b.c"], ids=["of another hub", "a word", "numbers", "parts"]
)
async def test_who_comes_with_a_foreign_mark_fetches_everything(since: str) -> None:
    stream = await opened(Hub(), "workflows", "agents", since=since)
    assert await heard(stream) == {"workflows", "agents"}
    await stream.aclose()


async def test_a_change_while_a_message_is_sent_is_told_with_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mesh.console.hub.EVERY_S", 0)
    hub = Hub()
    stream = await opened(hub, "workflows", "agents")
    hub.tell(["workflows"])
    assert await heard(stream) == {"workflows"}
    # the stream is still at its message: nothing has asked for the next
    hub.tell(["agents"])
    assert await heard(stream) == {"agents"}
    await stream.aclose()


async def test_what_another_process_has_read_into_the_inbox_first_is_told(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = mesh.console.desk.hub
    page = hub.mark
    # as if `mesh approvals` had written the file a moment before
    monkeypatch.setattr(Inbox, "catch_up", lambda _: asyncio.sleep(0))
    with apsw.Connection(str(mesh.console.config.inbox)) as other:
        other.execute("INSERT OR REPLACE INTO positions VALUES (0, 1000, x'00')")
    stream = await opened(hub, "approvals", since=page)
    assert await heard(stream) == {"approvals"}
    await stream.aclose()


async def test_a_decision_is_told_to_those_who_look_at_its_workflow_among_many_others(mesh: Mesh) -> None:
    page = await mesh.browser(ANA).shows(f"/workflow?id={WORKFLOW}")
    assert f'data-live="{topic_of(workflow(1))}"' in page
    stream = await opened(mesh.console.desk.hub, topic_of(workflow(1)))
    await mesh.writer.decide(workflow(1), event_cause(1, 90), approved(1, "answer-x"))
    for number in range(100, 130):
        await mesh.writer.decide(workflow(number), event_cause(number, 90), started(number))
    assert await heard(stream) == {topic_of(workflow(1))}
    await stream.aclose()


@pytest.mark.parametrize("name", ["pay:1", "an order, of 1 & 2", "ü/ö%20"])
async def test_any_workflow_can_be_watched(name: str) -> None:
    hub = Hub()
    stream = await opened(hub, topic_of(name))
    assert hub.watched() == {name}
    hub.tell([topic_of(name)])
    assert await heard(stream) == {topic_of(name)}
    await stream.aclose()


async def test_a_person_has_only_so_many_streams(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh.console.desk.hub, "streams_of", lambda _: 5)
    assert (await mesh.browser(ANA).get("/live?topics=approvals")).status_code == 429


async def test_where_the_broker_is_away_pages_say_so_and_send_nothing(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: object, **__: object) -> None:
        raise BrokerUnavailable("the broker does not answer")

    monkeypatch.setattr(mesh.broker, "topics", away)
    projector = mesh.console.desk.projector
    await until(lambda: projector.problem != "")
    text = await mesh.browser(ANA).shows(f"/approval?id={ONE}")
    assert "can't be followed since" in text
    assert "nothing can be sent" in text
    assert 'name="choice"' not in text
    monkeypatch.undo()
    await until(lambda: projector.problem == "")
    assert 'name="choice"' in await mesh.browser(ANA).shows(f"/approval?id={ONE}")


async def test_the_health_of_a_console(mesh: Mesh) -> None:
    nobody = mesh.browser(None)
    assert (await nobody.get("/health/live")).status_code == 200
    assert (await nobody.get("/health/ready")).status_code == 200


# Parts --------------------------------------------------------------------------------------------


def test_a_console_listens_on_this_machine_alone() -> None:
    for address in ("0.0.0.0:0", "[::]:0", "192.0.2.1:80", "example.org:80"):
        with pytest.raises(OperatorError, match="people of other machines"):
            listen_on(address, is_chosen=True)
    with listen_on("127.0.0.1:0", is_chosen=True) as first:
        address = url_of(first).removeprefix("http://")
        with pytest.raises(OperatorError, match="can't listen"):
            listen_on(address, is_chosen=True)
        with listen_on(address, is_chosen=False) as second:
            assert url_of(second) != url_of(first)


def test_parameters_know_what_was_given() -> None:
    given = Parameters(b"attr=a:1&attr=b:2&q=x&route=", ["attr", "q", "route", "after"], ["attr"])
    assert given.all("attr") == ["a:1", "b:2"]
    assert given.with_(q=None, state="open") == "?attr=a%3A1&attr=b%3A2&state=open"
    with pytest.raises(BadParameter, match="it takes none"):
        Parameters(b"q=x", [])


def test_a_payload_is_text_to_read_with_the_long_parts_first() -> None:
    schema = {"properties": {"body": {"title": "The reply"}}}
    found = fields({"labels": ["a", "b"], "ok": True, "body": "x\ny", "deep": {"a": [1]}}, schema)
    assert [(one.title, one.kind) for one in found] == [
        ("The reply", "text"),
        ("labels", "labels"),
        ("ok", "value"),
        ("deep", "lines"),
    ]
    assert [one.kind for one in fields("whole")] == ["text"]


def test_no_other_command_loads_a_web_server() -> None:
    code = (
        "import sys, mesh.cli.status, mesh.cli.processes.services, mesh.cli.processes.console; "
        "servers = {'starlette', 'uvicorn', 'jinja2'}; "
        "print([m for m in sys.modules if m.split('.')[0] in servers or m.startswith('mesh.console')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
