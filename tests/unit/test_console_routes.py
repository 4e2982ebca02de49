"""The console's pages of routes and of events."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from console_pages import OPERATOR_NAME, Browser, Mesh, small_mesh, until
from msgspec.structs import replace
from sample_mesh import TOPICS, asked, dispatched, event_cause, started, succeeded, workflow
from told_mesh import commit_ingress

from mesh.codec.definitions import encode_activation, encode_definition
from mesh.console.pages.routes import _state_of_route, short
from mesh.core.route import Route
from mesh.inspection.read_model import queries
from mesh.routes.compiler import compile_route

ANA = "ana@example.org"


def route(name: str, *, deadline: str = "24h", kind: str = "com.github.issues.opened") -> Route:
    review = {"ask": "Post <this>?", "payload": "${{ steps.classify }}", "role": "maintainer", "deadline": deadline}
    steps: dict[str, Any] = {
        "classify": {"agent": "classifier", "input": "${{ event.data }}"},
        "review": {"needs": ["classify"], "approval": review},
    }
    return compile_route({"route": name, "on": {"type": kind}, "key": "${{ event.subject }}", "steps": steps})


OLD, NEW, GONE = route("triage"), route("triage", deadline="2h"), route("legacy", kind="com.example.old")
LATER_MS = 10_000  # what was made active is in effect by then


@pytest.fixture
async def mesh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Mesh]:
    async with small_mesh(tmp_path) as found:
        await write_routes(found)
        desk = found.console.desk
        await until(lambda: desk.projector.routes.timeline.count == 2)
        monkeypatch.setattr(desk, "now_ms", lambda: desk.clock.now_ms() + LATER_MS)
        yield found


async def write_routes(mesh: Mesh) -> None:
    """Three versions of two routes, and what was made active."""
    await mesh.broker.send([encode_definition(one, TOPICS) for one in (OLD, NEW, GONE)])
    await activate(mesh, "the first", triage=OLD.digest, legacy=GONE.digest)
    await activate(mesh, "be <quicker>", triage=NEW.digest, legacy=None)


async def activate(mesh: Mesh, reason: str, **digests: str | None) -> None:
    record = encode_activation(
        digests, topics=TOPICS, activation_id=reason, by="root@example.org", at_ms=1, beginning=True, reason=reason
    )
    await mesh.broker.send([record])


async def shown(browser: Browser, path: str, *, status: int = 200) -> str:
    """The text of a page without its tags, in one line."""
    page = await browser.shows(path, status=status)
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition("<main")[2]).split())


# Routes -------------------------------------------------------------------------------------------


async def test_routes_are_listed_with_what_is_in_effect_and_what_runs(mesh: Mesh) -> None:
    now = mesh.writer.now_ms
    begun = replace(started(7), route="triage", digest=NEW.digest)
    await mesh.writer.decide(workflow(7), event_cause(7, 60), begun, dispatched(7, "classify", "classifier", now))
    await mesh.settle()
    browser = mesh.browser(OPERATOR_NAME)
    text = await shown(browser, "/routes")
    assert re.search(r"triage In effect com.github.issues.opened root@example.org .* 2 1 0 legacy Withdrawn", text), (
        text
    )
    assert "legacy" not in await shown(browser, "/routes?state=active")
    assert "triage" not in (await shown(browser, "/routes?state=withdrawn")).partition("Filter")[2]
    assert "Nothing fits" in await shown(browser, "/routes?q=nope")


async def test_a_route_has_its_picture_with_counts_its_text_and_its_versions(mesh: Mesh) -> None:
    now = mesh.writer.now_ms
    for number in (7, 8):
        begun = replace(started(number), route="triage", digest=NEW.digest)
        await mesh.writer.decide(
            workflow(number), event_cause(number, 60), begun, dispatched(number, "classify", "c", now)
        )
    await mesh.writer.decide(workflow(8), event_cause(8, 61), succeeded(8, "classify", {}), asked(8, now))
    await mesh.settle()
    browser = mesh.browser(OPERATOR_NAME)
    page = await browser.shows("/route?name=triage")
    assert re.findall(r'aria-label="(classify|review): ([^"]+)"', page) == [
        ("classify", "1 running"),
        ("review", "1 asks"),
    ]
    assert 'href="/workflows?route=triage&amp;state=open&amp;step=review"' in page
    text = await shown(browser, "/route?name=triage")
    assert "deadline: 2h" in text, "the text is that of the version"
    assert "Post &lt;this&gt;?" in text
    assert re.search(
        rf"{short(NEW.digest)} In effect root@example.org, .* ago: be &lt;quicker&gt; 2 running, 0 ended", text
    )
    assert f"{short(OLD.digest)} Replaced root@example.org, from the beginning: the first 0 running" in text


async def test_another_version_is_shown_and_compared(mesh: Mesh) -> None:
    browser, old, new = mesh.browser(OPERATOR_NAME), short(OLD.digest), short(NEW.digest)
    assert "deadline: 24h" in await shown(browser, f"/route?name=triage&version={old}")
    text = await shown(browser, f"/route?name=triage&version={new}&compare={old}")
    assert "steps.review.approval.deadline removed: 24h added: 2h" in text
    assert "has no version ffff" in await shown(browser, "/route?name=triage&version=ffff", status=404)
    assert "There is no route no" in await shown(browser, "/route?name=no", status=404)
    withdrawn = await shown(browser, "/route?name=legacy")
    assert "Withdrawn by root@example.org: be &lt;quicker&gt;." in withdrawn


async def test_what_is_made_active_is_told_to_open_pages_and_is_not_in_effect_at_once(mesh: Mesh) -> None:
    desk = mesh.console.desk
    mark = desk.hub.mark
    await activate(mesh, "back", legacy=GONE.digest)
    await until(lambda: desk.projector.routes.timeline.count == 3)
    assert "routes" in desk.hub._missed(["routes"], mark)
    last = desk.projector.routes.timeline.history("legacy")[-1]
    state = _state_of_route("legacy", last, desk.projector.routes.digests_at(last.since_ms - 1))
    assert state.word == "About to be in effect"
    assert "legacy In effect" in await shown(mesh.browser(OPERATOR_NAME), "/routes")


# Events -------------------------------------------------------------------------------------------


async def test_each_record_of_an_event_says_what_became_of_it(mesh: Mesh) -> None:
    browser = mesh.browser(OPERATOR_NAME)
    text = await shown(browser, "/event?id=delivery-1")
    assert "It came 2 times" in text
    assert "It started workflow issue-triage:octo/repo#1." in text
    assert "route issue-triage" in text
    assert "repeats the start of" in text
    waiting = await shown(browser, "/event?id=delivery-9")
    assert "Not read yet" in waiting
    await commit_ingress(mesh.broker, 10)
    unwanted = await shown(browser, "/event?id=delivery-9")
    assert "No route wants it" in unwanted
    assert "triage" in unwanted, "with the reason of each route"


async def test_a_dead_letter_and_what_is_not_there_say_so(mesh: Mesh) -> None:
    browser = mesh.browser(OPERATOR_NAME)
    listed = await shown(browser, "/events")
    assert "delivery-9 com.github.issues.labeled" in listed
    [letter] = await mesh.console.desk.log(queries.dead_letters)
    place = f"{letter.topic}/{letter.source_partition}/{letter.source_offset}"
    text = await shown(browser, f"/event?id={quote(place, safe='')}")
    assert "Dead letter" in text
    near = await shown(browser, "/event?id=delivery-", status=404)
    assert "Near it: delivery-" in near


async def test_events_lead_to_workflows_and_back(mesh: Mesh) -> None:
    browser = mesh.browser(OPERATOR_NAME)
    assert (await browser.get("/search?q=delivery-9")).headers["location"] == "/event?id=delivery-9"
    assert f'href="/workflow?id={quote(workflow(1), safe="")}"' in await browser.shows("/event?id=delivery-1")
    assert 'href="/event?id=delivery-1"' in await browser.shows(f"/workflow?id={quote(workflow(1), safe='')}")


@pytest.mark.parametrize("path", ["/routes", "/route?name=triage", "/events", "/event?id=delivery-1"])
async def test_approvers_alone_do_not_see_routes_and_events(mesh: Mesh, path: str) -> None:
    assert (await mesh.browser(ANA).get(path)).status_code == 403


@pytest.mark.parametrize(
    "path", ["/routes?stat=active", "/routes?state=x", "/route", "/event", "/route?name=t&graph=1"]
)
async def test_parameters_that_these_pages_do_not_take_are_errors(mesh: Mesh, path: str) -> None:
    assert (await mesh.browser(OPERATOR_NAME).get(path)).status_code == 400
