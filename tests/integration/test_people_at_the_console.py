"""People at the console, each in a real browser, on SQLite and on Kafka.

Router, agent and console are real processes, and everybody signs in with a provider. One mesh and
one browser of a broker do all of it. What people do they do by role and label, as with a screen
reader. That a page follows by itself is seen without a reload. `-rP` prints how long each update
took from its decision to its sight.
"""

import asyncio
import json
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import openid_provider
import pytest
from chromium import Browser, Page, chromium_path
from mesh_processes import MeshProcesses, Process

from mesh.adapters.system import SystemClock
from mesh.codec.times import parse_rfc3339

ANA, BEN, CLEO, DAN = (f"{name}@example.org" for name in ("ana", "ben", "cleo", "dan"))
OLGA, VERA, NILS = (f"{name}@example.org" for name in ("olga", "vera", "nils"))
MANY = 30  # incidents of one cause
PAY = """\
route: pay
on: {type: test.invoice}
key: ${{ event.subject }}
steps:
  review:
    approval:
      ask: "Pay invoice ${{ event.subject }}?"
      payload: ${{ event.data }}
      role: finance
      quorum: 2
      requester: ${{ event.data.clerk }}
      not: [requester, editors]
      reason: reject
      deadline: 24h
"""
HASTY = """\
route: hasty
on: {type: test.hasty}
key: ${{ event.subject }}
steps:
  work: {agent: moody, input: "${{ event.data }}", retry: {attempts: 1}}
"""
ORDER = """\
route: order
on: {type: test.order}
key: %s
steps:
  pause: {wait: 1s}
"""
PEOPLE = f"""\
finance: [{ANA}, {BEN}, {CLEO}, {DAN}]
mesh.operator: [{OLGA}]
mesh.viewer: [{VERA}]
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium_path() is None, reason="there is no Chromium on this machine"),
]


class Desk:
    """The mesh under test, its console, and who is at it."""

    def __init__(self, mesh: MeshProcesses, browser: Browser, url: str, moody: Process) -> None:
        self.mesh, self.browser, self.url, self.moody = mesh, browser, url, moody
        self.pages: list[Page] = []
        self.question = ""  # the page of the first approval

    def signs_in(self, name: str, path: str = "/", *, phone: bool = False, dark: bool = False) -> Page:
        """A browser of this person, who wants this page and signs in for it."""
        size = {"width": 390, "height": 844} if phone else {}
        page = self.browser.person(phone=phone, dark=dark, **size)
        self.pages.append(page)
        page.go(self.url + path)
        page.write("E-mail", name)
        page.press_to_leave("button", "Sign in")
        assert name in page.text() or phone, page.text()
        return page

    def publish(self, kind: str, subjects: Sequence[str], data: dict[str, Any]) -> None:
        async def send() -> None:
            async with await self.mesh.client() as client:
                await client.publish_all(
                    [
                        {"type": kind, "source": "/t", "id": f"{kind}-{one}", "subject": one, "data": data}
                        for one in subjects
                    ]
                )

        asyncio.run(send())

    def json(self, *arguments: str | Path) -> Any:
        return asyncio.run(self.mesh.json(*arguments))

    def events(self, workflow_id: str, kind: str) -> list[dict[str, Any]]:
        """The events of this kind in the log, each with the time of its decision."""
        shown = self.json("workflows", "show", workflow_id, "--full")
        return [
            {**event, "at_ms": decision["at_ms"]}
            for decision in shown["timeline"]
            for event in decision["events"]
            if event["event"].startswith(kind)
        ]

    def decided_ms(self, workflow_id: str, kind: str) -> int:
        """When the last decision with an event of this kind was made."""
        return int(self.events(workflow_id, kind)[-1]["at_ms"])


class Seen(NamedTuple):
    """A live update: what was seen, and how long after its decision."""

    what: str
    after_ms: int


@contextmanager
def desk_of(mesh: MeshProcesses) -> Iterator[Desk]:
    """A router, an agent that fails, a console, a provider and a browser."""
    (mesh.routes / "routes.yaml").write_text("---\n".join([PAY, HASTY, ORDER % "${{ event.data.number }}"]))
    mesh.approvers.write_text(PEOPLE)
    asyncio.run(mesh.make_topics("moody"))
    url = f"http://127.0.0.1:{free_port()}"
    with openid_provider.served(SystemClock().now_ms() // 1_000) as provider, Browser() as browser:
        secret = mesh.folder / "secret"
        secret.write_text(openid_provider.SECRET)
        processes = [
            mesh.router(MESH_ROUTES=""),
            mesh.agent("moody_agents", SLOW_FOLDER=str(mesh.folder)),
            mesh.console(
                MESH_CONSOLE_URL=url,
                MESH_CONSOLE_ADDRESS=url.removeprefix("http://"),
                MESH_CONSOLE_OIDC_ISSUER=provider.issuer,
                MESH_CONSOLE_OIDC_CLIENT_ID=openid_provider.CLIENT,
                MESH_CONSOLE_OIDC_CLIENT_SECRET_FILE=str(secret),
            ),
        ]
        for process in processes:
            process.wait_started()
        asyncio.run(mesh.cli("routes", "apply", mesh.routes, "--reason", "first"))
        yield Desk(mesh, browser, url, processes[1])


def free_port() -> int:
    """A port that nothing listens at, and that is given to no connection by itself."""
    while True:
        port = 15_000 + secrets.randbelow(15_000)
        with closing(socket.socket()) as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def test_people_answer_operators_repair_and_others_only_look(mesh: MeshProcesses) -> None:
    with desk_of(mesh) as desk:
        try:
            seen = [*approvers(desk), *operators(desk)]
            others(desk)
        except AssertionError as error:
            error.add_note(mesh.logs())
            raise
        said = [
            one for page in desk.pages for one in page.said if not any(code in one for code in ("403", "409", "422"))
        ]
        assert said == []
        for what, after_ms in seen:
            print(f"seen {after_ms} ms after its decision: {what}")  # noqa: T201 - for `-rP`


# Approvers ----------------------------------------------------------------------------------------


def approvers(desk: Desk) -> Iterator[Seen]:
    """Two must answer a question: a claim, an edit, two who may not, an approval, a rejection."""
    ana, ben = desk.signs_in(ANA, "/approvals"), desk.signs_in(BEN, "/approvals", dark=True)
    ana.wait_text("Nothing waits for you")
    ana.watch_for("Pay invoice 1?")
    desk.publish("test.invoice", ["1"], {"clerk": DAN, "amount": 4711, "text": "Two chairs, and <b>one</b> table"})
    at_ms = ana.sight_ms("Pay invoice 1?")
    yield Seen("a question in a list", at_ms - desk.decided_ms("pay:1", "ApprovalRequested"))
    [asked] = desk.json("approvals", "list")["approvals"]
    question = desk.question = f"/approval?id={quote(asked['approval_id'], safe='')}"

    # four eyes: the page tells who asked for it why they can't answer
    dan = desk.signs_in(DAN, question)
    dan.wait_text("You can't answer this: you have asked for it")
    assert not dan.find("button", "Approve")
    assert forged(dan, "/approval", id=asked["approval_id"], digest=asked["digest"], choice="approve") == 403

    # a claim is seen by others, and so is its end
    for page in (ana, ben):
        page.press_to_leave("link", "Pay invoice 1?")
        page.see("heading", "Your answer")
    ben.watch_for(f"{ANA} looks at it until")
    ana.press_to_leave("button", "I look at it")
    yield Seen(
        "a claim on the page of the question",
        ben.sight_ms(f"{ANA} looks at it until") - desk.decided_ms("pay:1", "ApprovalClaimed"),
    )
    ana.press_to_leave("button", "Give it back")
    ben.wait_for(f"!document.body.innerText.includes('{ANA} looks at it')")

    # a vote of one is not enough
    ben.watch_for("1 of 2 votes.")
    ana.press_to_leave("button", "Approve")
    ana.wait_text("The question stays open until there are enough votes.")
    yield Seen("a vote", ben.sight_ms("1 of 2 votes.") - desk.decided_ms("pay:1", "VoteCast"))

    # an edit resets it, and who has edited does not vote
    ben.press_to_leave("link", "Edit the text")
    ben.wait_text(f"The votes of {ANA} were for the other text")
    ben.write("text", "Two chairs")
    ben.press_to_leave("button", "Save my text, without a vote")
    ben.wait_text("Your text is saved.")
    ben.wait_text("You can't answer this: you have edited the text")
    assert not ben.find("button", "Approve")

    # ana still has the text before it on her screen: a vote for that counts for nothing
    ana.wait_text("0 of 2 votes.")
    ana.wait_text("This was edited while you read it.")
    assert "Two chairs, and <b>one</b> table" in ana.text()
    ana.press_to_leave("button", "Approve")
    ana.wait_text("Your answer does not count (digest).")
    assert "<b>one</b>" not in ana.text()
    ana.press_to_leave("link", "Changes")
    assert [one.name for one in ana.find("deletion")] != []
    ana.press_to_leave("button", "Approve the edited text")
    ana.wait_text("Your answer counts.")

    cleo = desk.signs_in(CLEO, question, phone=True)
    cleo.wait_text("1 of 2 votes.")
    ana.watch_for("Approved")
    cleo.press_to_leave("button", "Approve the edited text")
    cleo.wait_text("Your answer counts. It is approved.")
    ended = desk.decided_ms("pay:1", "ApprovalClosed")
    yield Seen("a verdict", ana.sight_ms("Approved") - ended)
    # what was approved is the edited text, and not the draft
    for page in (ana, cleo):
        page.wait_text(f"{BEN} has edited this.")
        assert "<b>one</b>" not in page.text()
    assert cleo.script("document.documentElement.scrollWidth") == 390
    [closed] = desk.events("pay:1", "ApprovalClosed")
    assert closed["payload"] == {"clerk": DAN, "amount": 4711, "text": "Two chairs"}

    # a rejection needs a reason
    desk.publish("test.invoice", ["2"], {"clerk": DAN, "amount": 1, "text": "A lamp"})
    cleo.go(f"{desk.url}/approvals")
    cleo.wait_text("Pay invoice 2?")
    cleo.press_to_leave("link", "Pay invoice 2?")
    cleo.press_to_leave("button", "Reject")
    cleo.wait_text("Give a reason")
    cleo.write("Reason", "It was paid before")
    cleo.press_to_leave("button", "Reject")
    cleo.wait_text("Your answer counts. It is rejected.")
    assert "It was paid before" in cleo.text()

    # the search of a phone is among the rest
    cleo.press_to_leave("link", "More")
    cleo.write("Find an id", asked["approval_id"], role="searchbox")
    cleo.press_to_leave("button", "Search")
    cleo.see("heading", "Pay invoice 1?")


def forged(page: Page, path: str, **fields: str) -> int:
    """The status of a form that the page does not have, sent from the page all the same."""
    body = json.dumps(fields)
    return int(
        page.script(
            f"fetch({json.dumps(path)}, {{method: 'POST', body: new URLSearchParams({body})}}).then((one) => one.status)"
        )
    )


# Operators ----------------------------------------------------------------------------------------


def operators(desk: Desk) -> Iterator[Seen]:
    """Incidents come, one order retries all, and a dead letter goes back."""
    olga = desk.signs_in(OLGA, "/incidents")
    olga.wait_text("No incidents")
    olga.watch_for(f"{MANY} workflows wait for an operator")
    desk.publish("test.hasty", [str(number) for number in range(MANY)], {"n": 1})
    at_ms = olga.sight_ms(f"{MANY} workflows wait for an operator")
    [cause] = desk.json("incidents")["causes"]
    yield Seen("the last of many incidents", at_ms - parse_rfc3339(cause["last_at"]))
    assert len(olga.find("button", "Preview retry")) == 1  # one group, one cause

    desk.moody.stop()
    desk.mesh.agent("moody_agents", name="good", MOOD="good", SLOW_FOLDER=str(desk.mesh.folder)).wait_started()
    olga.press_to_leave("button", "Preview retry")
    olga.see("heading", f"Retry {MANY} workflows? Nothing is sent yet")
    olga.write("Reason", "the agent is back")
    olga.press_to_leave("button", f"Retry all {MANY}")
    # from here on nobody reloads
    olga.script("window.sameLoad = true")
    olga.wait_text(f"Finished: {MANY} of {MANY} decided")
    assert olga.script("window.sameLoad") is True
    assert f"{MANY} done, 0 refused, 0 waiting" in olga.text()
    olga.press_to_leave("link", "Workflows")
    olga.press_to_leave("link", "Ended")
    olga.wait_text("hasty:0")

    # a record that no rule could use; the rule is corrected, and the record goes back
    desk.publish("test.order", ["7"], {"amount": 1})
    olga.press_to_leave("link", "Dead letters")
    olga.wait_text("no_key")
    route = desk.mesh.folder / "order.yaml"
    route.write_text(ORDER % "${{ event.subject }}")
    asyncio.run(desk.mesh.cli("routes", "apply", route, "--reason", "the key is corrected"))
    olga.press_to_leave("button", "Preview sending all again")
    olga.wait_text("Send 1 dead letter again? Nothing is sent yet")
    olga.write("Reason", "the key is corrected")
    olga.press_to_leave("button", "Send again 1")
    olga.wait_text("1 dead letter sent again")
    asyncio.run(desk.mesh.wait_outcomes(MANY + 3))
    olga.press_to_leave("link", "Overview")
    olga.wait_text("Nothing is stuck")


# Others -------------------------------------------------------------------------------------------


def others(desk: Desk) -> None:
    """A viewer sees all and can do nothing; who has no role sees nothing, and reads who may."""
    vera = desk.signs_in(VERA, "/workflows")
    vera.write("Route", "pay")
    vera.press_to_leave("button", "Filter")
    table = vera.see("table")
    assert [link.name for link in vera.find("link", within=table)] == ["2", "1"]
    vera.press_to_leave("link", "1", within=table)
    vera.see("heading", "Timeline")
    assert not vera.find("heading", "What you can do")
    vera.go(f"{desk.url}/dead-letters?state=all")
    vera.wait_text("Redriven")
    assert not vera.find("button", "Preview")
    assert forged(vera, "/bulk/preview", command="cancel", route="pay") == 403
    assert forged(vera, "/letters/preview", verb="discard") == 403
    assert forged(vera, "/workflow", id="pay:1", command="cancel", reason="x") == 403

    nils = desk.signs_in(NILS, "/approvals")
    nils.wait_text("Nothing waits for you")
    [pages] = nils.find("navigation", "Pages")
    assert [one.name for one in nils.find("link", within=pages)] == ["Approvals"]
    for path in (
        "/workflows",
        "/incidents",
        "/dead-letters",
        "/agents",
        "/operations",
        "/workflow?id=pay%3A1",
        desk.question,
    ):
        nils.go(desk.url + path)
        nils.see("heading", "You may not see this")
        assert "4711" not in nils.text()
