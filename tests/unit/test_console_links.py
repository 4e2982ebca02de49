"""One-use links in the console: from the notice to the receipt, and why one is refused."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import pytest
from console_pages import URL, Browser, Mesh, approval_id, small_mesh, until
from sample_mesh import TOPICS, approved, asked, event_cause, started, workflow

from mesh.codec.approvals import decode_response
from mesh.codec.approver_keys import encode_key
from mesh.codec.jws_bodies import parts_of
from mesh.codec.links import Links, approval_ref
from mesh.codec.signed_answers import Judge, checked
from mesh.console.sessions import LINK_COOKIE
from mesh.core import events as ev
from mesh.core.approver_keys import SpeaksFor
from mesh.core.inputs import AnswerGiven2, CheckedAnswer
from mesh.inspection.read_model import queries
from mesh.ports import Record, TopicPartition

ANA, BEN, KIM = "ana@example.org", "ben@example.org", "kim@example.org"
ONE = approval_id()
LINKS = Links(URL, ["s" * 32], life_ms=3_600_000)
HOUR_MS = 3_600_000


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with small_mesh(tmp_path, links=LINKS, url=URL) as found:
        yield found


def link_of(mesh: Mesh, person: str = ANA, *, late_ms: int = 0, of: str = ONE, notice: str = "asked/1") -> str:
    """The path of a link that was sent `late_ms` ago."""
    url = LINKS.make(of, person=person, notice=notice, now_ms=mesh.console.desk.now_ms() - late_ms)
    return url.removeprefix(URL)


def form_of(page: httpx.Response) -> dict[str, str]:
    """The hidden fields of a page."""
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.text))


async def enter(mesh: Mesh, path: str) -> tuple[Browser, httpx.Response]:
    """Open a link without a session, and press its button."""
    phone = mesh.browser(None)
    page = await phone.get(path)
    assert page.status_code == 200, page.text
    return phone, await phone.send(path.partition("?")[0], form_of(page))


async def answers(mesh: Mesh) -> list[Record]:
    reader = await mesh.broker.reader()
    try:
        reader.assign({TopicPartition(TOPICS.responses, 0): 0})
        return list(await reader.poll(max_records=10, timeout_s=0.2))
    finally:
        await reader.close()


async def test_a_link_leads_from_the_notice_to_the_receipt_without_a_sign_in(mesh: Mesh) -> None:
    phone, entered = await enter(mesh, link_of(mesh))
    place = entered.headers["location"]
    assert (entered.status_code, place.startswith("/approval?id=")) == (303, True)
    assert "link=" not in place
    page = await phone.get(place)
    assert "Your answer" in page.text
    assert "You came by a link" in page.text
    owner = asyncio.create_task(mesh.play_owner(lambda answer: (approved(1, answer, by=ANA),)))
    sent = await phone.send("/approval", form_of(page) | {"choice": "approve", "reason": "fine"})
    await owner
    text = await phone.shows(sent.headers["location"])
    assert "It is approved." in text
    assert "You are done" in text
    [record] = await answers(mesh)
    given, found = decode_response(record), LINKS.read(*ref_and_token(link_of(mesh)))
    assert found is not None
    assert (given.by, given.answer_id) == (ANA, found.answer_id)

    # the second use: a page that says what to do
    again = await mesh.browser(None).get(link_of(mesh))
    assert (again.status_code, "This link has been used" in again.text, "/login?next=" in again.text) == (
        410,
        True,
        True,
    )


def ref_and_token(path: str) -> tuple[str, str]:
    ref, _, token = path.removeprefix("/a/").partition("?link=")
    return ref, token


async def test_who_fetches_the_link_without_pressing_the_button_changes_and_learns_nothing(mesh: Mesh) -> None:
    scanner = mesh.browser(None)
    for _ in range(3):
        found = await scanner.get(link_of(mesh))
        assert found.status_code == 200
        assert not found.cookies
        assert found.headers["referrer-policy"] == "no-referrer"
        assert found.headers["cache-control"] == "no-store"
        assert "Send this reply" not in found.text
        assert "Thanks for the report" not in found.text
    head = await scanner.client.head(link_of(mesh))
    assert head.status_code == 200
    assert await answers(mesh) == []
    _, entered = await enter(mesh, link_of(mesh))
    assert entered.status_code == 303, "the link counts as before"


async def test_a_form_of_another_site_does_not_use_a_link(mesh: Mesh) -> None:
    ref, token = ref_and_token(link_of(mesh))
    found = await mesh.browser(None).client.post(f"/a/{ref}", data={"link": token})
    assert found.status_code == 403


async def test_a_link_opens_its_approval_and_nothing_else(mesh: Mesh) -> None:
    other = await ask_more(mesh, 6)
    phone, entered = await enter(mesh, link_of(mesh))
    assert entered.status_code == 303
    for path in (
        "/",
        "/approvals",
        "/workflows",
        "/workflow?id=x",
        "/dead-letters",
        "/api/v1/approvals",
        "/search?q=x",
    ):
        found = await phone.get(path)
        assert (path, found.status_code in (303, 401)) == (path, True), found.text
    foreign = await phone.get(f"/approval?id={quote(other, safe='')}")
    assert (foreign.status_code, "for another question" in foreign.text) == (403, True)
    refused = await phone.post("/approval", id=other, choice="approve")
    assert refused.status_code == 403
    for path in ("/workflow", "/bulk", "/letters", "/operation"):
        assert (await phone.post(path, id=ONE)).status_code == 303
    assert await answers(mesh) == []


async def ask_more(mesh: Mesh, number: int) -> str:
    await mesh.writer.decide(
        workflow(number), event_cause(number, 50), started(number), asked(number, mesh.writer.now_ms)
    )
    await mesh.console.desk.projector.read_inbox()
    await mesh.settle()
    return approval_id(number)


async def test_the_roles_of_the_console_do_not_count_by_a_link(tmp_path: Path) -> None:
    async with small_mesh(tmp_path, links=LINKS, url=URL, login=ANA) as mesh:
        phone, _ = await enter(mesh, link_of(mesh))
        assert (await phone.get("/workflows")).status_code == 303
        desk = mesh.console.desk
        assert desk.staff.reader(ANA).sees_all
        found = desk.read_link(*ref_and_token(link_of(mesh)))
        assert found is not None
        assert not desk.staff.guest(found).sees_all


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ({"late_ms": HOUR_MS + 1}, 410, "This link has ended"),
        ({"person": KIM}, 403, "may not answer this question any more"),
        ({"person": "nobody@example.org"}, 403, "may not answer this question any more"),
        ({"of": "pay:9/0000/review"}, 404, "There is no such question"),
    ],
)
async def test_a_link_that_does_not_count_says_why_and_what_to_do(
    mesh: Mesh, path: dict[str, Any], status: int, said: str
) -> None:
    link = link_of(mesh, **path)
    found = await mesh.browser(None).get(link)
    ref, token = ref_and_token(link)
    sent = await mesh.browser(None).send(f"/a/{ref}", {"link": token})
    assert [(one.status_code, said in one.text) for one in (found, sent)] == [(status, True)] * 2
    assert f"/login?next=%2Fa%2F{ref}" in found.text
    assert token not in found.text, "the sign-in never learns it"
    assert not sent.cookies


async def test_a_link_that_was_changed_is_refused_alike_whether_the_question_is_there_or_not(mesh: Mesh) -> None:
    ref, token = ref_and_token(link_of(mesh))
    phone = mesh.browser(None)
    pages = [await phone.get(f"/a/{name}?link={token[:-1]}x") for name in (ref, approval_ref("no"))]
    assert [one.status_code for one in pages] == [403, 403]
    assert pages[0].text.replace(ref, "") == pages[1].text.replace(approval_ref("no"), "")


async def test_who_is_signed_in_as_somebody_else_is_told_so(mesh: Mesh) -> None:
    found = await mesh.browser(BEN).get(link_of(mesh))
    assert (found.status_code, f"It is for {ANA}, and you are signed in as {BEN}" in found.text) == (403, True)
    own = await mesh.browser(ANA).get(link_of(mesh))
    assert (own.status_code, LINK_COOKIE in own.cookies) == (303, False), "a session needs no link"


async def test_a_closed_question_says_its_verdict(mesh: Mesh) -> None:
    await mesh.writer.decide(workflow(1), event_cause(1, 70), approved(1, "x", by=BEN))
    await mesh.settle()
    found = await mesh.browser(None).get(link_of(mesh))
    assert (found.status_code, f"It was approved by {BEN}" in found.text) == (410, True)


async def test_rights_are_those_of_the_moment_and_not_those_of_the_link(mesh: Mesh, tmp_path: Path) -> None:
    phone, entered = await enter(mesh, link_of(mesh))
    page = await phone.get(entered.headers["location"])
    (tmp_path / "approvers.yaml").write_text("maintainer: [ben@example.org]\n")
    await until(lambda: "maintainer" not in mesh.console.desk.staff.reader(ANA).roles)
    assert (await phone.get(entered.headers["location"])).status_code == 403
    assert (await phone.send("/approval", form_of(page) | {"choice": "approve"})).status_code == 403
    assert await answers(mesh) == []


async def test_a_link_ends_while_its_page_is_open(mesh: Mesh) -> None:
    ref, token = ref_and_token(link_of(mesh, late_ms=HOUR_MS + 1))
    phone = mesh.browser(None)
    phone.client.cookies.set(LINK_COOKIE, f"{ref}.{token}")
    found = await phone.get(f"/approval?id={quote(ONE, safe='')}")
    assert (found.status_code, found.headers["location"].startswith("/login")) == (303, True)


async def test_what_was_edited_meanwhile_comes_back_and_uses_nothing(mesh: Mesh) -> None:
    phone, entered = await enter(mesh, link_of(mesh))
    fields = form_of(await phone.get(entered.headers["location"])) | {"digest": "sha256:of-the-text-before"}
    found = await phone.send("/approval", fields | {"choice": "reject", "reason": "not so"})
    assert (found.status_code, "has edited this while you looked at it" in found.text) == (409, True)
    assert "not so" in found.text
    assert await answers(mesh) == []


async def test_a_link_that_another_console_has_used_meanwhile_takes_no_second_answer(mesh: Mesh) -> None:
    """The owner is the lock: both consoles send under one id, and their caches may be behind."""
    phone, entered = await enter(mesh, link_of(mesh))
    page = await phone.get(entered.headers["location"])
    tablet, _ = await enter(mesh, link_of(mesh, late_ms=60_000))  # sent again, so it ends sooner

    def repeated(answer: str) -> tuple[ev.Event, ...]:
        why = "the answer with this id was judged before"
        return (ev.AnswerRefused(answer_id=answer, approval_id=ONE, code="repeated", message=why, by=ANA),)

    owner = asyncio.create_task(mesh.play_owner(repeated))
    sent = await phone.send("/approval", form_of(page) | {"choice": "approve"})
    await owner
    assert (sent.status_code, "does not count (repeated)" in sent.text) == (409, True)
    await mesh.settle()
    assert "This link has been used" in (await tablet.get(link_of(mesh))).text
    shown = await tablet.get(entered.headers["location"])
    assert "This link has taken its answer" in shown.text
    refused = await tablet.send("/approval", form_of(page) | {"choice": "approve"})
    assert refused.status_code == 403
    assert len(await answers(mesh)) == 1


async def test_where_links_are_off_their_token_is_passed_over(tmp_path: Path) -> None:
    async with small_mesh(tmp_path) as mesh:
        ref, token = ref_and_token(link_of(mesh))
        assert (await mesh.browser(None).get(f"/a/{ref}?link={token}")).headers["location"].startswith("/login")
        assert (await mesh.browser(None).send(f"/a/{ref}", {"link": token})).status_code == 403
        assert (await mesh.browser(ANA).get(f"/a/{ref}?link={token}")).headers["location"].startswith("/approval?id=")


async def test_signing_out_ends_a_link_too(mesh: Mesh) -> None:
    phone, _ = await enter(mesh, link_of(mesh))
    await phone.send("/logout", {})
    assert LINK_COOKIE not in phone.client.cookies


@pytest.mark.parametrize("by_link", [False, True])
async def test_the_owner_takes_what_a_console_signs_and_knows_how_it_knew_the_person(mesh: Mesh, by_link: bool) -> None:
    staff, folder = mesh.console.desk.staff, mesh.console.config.folder
    jwk = orjson.loads((folder / ("links.jwk" if by_link else "console.jwk")).read_bytes())
    name = "console-links" if by_link else "console"
    record = encode_key(jwk["x"], topics=TOPICS, person=name, by="root", at_ms=1, speaks_for=SpeaksFor(people=(ANA,)))
    await mesh.broker.send([record])
    await until(lambda: (staff.link_key if by_link else staff.key) is not None)
    assert (staff.key if by_link else staff.link_key) is None, "one key speaks not for the other"
    if by_link:
        browser, _ = await enter(mesh, link_of(mesh))
    else:
        browser = mesh.browser(ANA)
    page = await browser.get(f"/approval?id={quote(ONE, safe='')}")
    assert "signed by this console" in page.text
    owner = asyncio.create_task(mesh.play_owner(lambda answer: (approved(1, answer, by=ANA),)))
    assert (await browser.send("/approval", form_of(page) | {"choice": "approve"})).status_code == 303
    await owner
    [sent] = await answers(mesh)
    given = decode_response(sent)
    assert isinstance(given, AnswerGiven2)
    judge = Judge(mesh=await mesh.console.desk.client.mesh(), key=staff._reader.keys.get)
    found: CheckedAnswer = checked(given, judge)
    assert (found.why, found.proof and found.proof.signer) == ("", name)
    assert parts_of(given.jws).body["via"] == {"signer": name, "method": "link" if by_link else "account"}


async def test_a_short_link_is_found_by_an_index(mesh: Mesh) -> None:
    async def plan(ask: Any) -> str:
        sql = "EXPLAIN QUERY PLAN SELECT approval_id FROM approvals WHERE ref = ?"
        return str(await ask(lambda db: [row[3] for row in db.execute(sql, ("x",))]))

    for ask in (mesh.console.desk.open, mesh.console.desk.log):
        assert "USING INDEX approvals_by_ref" in await plan(ask)
    assert await mesh.console.desk.log(lambda db: queries.approval_with_ref(db, approval_ref(ONE))) == ONE
