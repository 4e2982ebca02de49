"""What an approver does in the console beyond yes and no: each form, and who is offered it."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import pytest
from console_pages import Browser, Mesh, approval_id, small_mesh, until
from msgspec.structs import replace
from sample_mesh import DRAFT, TOPICS, asked, event_cause, started, workflow

from mesh.core import events as ev
from mesh.core.approvals import Ballot, Claim, Claiming, Editing, Extending, Group, Tally, Terms, Vote
from mesh.core.json_values import digest
from mesh.core.questions import Addressee, AskingBack, Reply
from mesh.errors import BrokerUnavailable
from mesh.ports import TopicPartition

ANA, BEN, KIM = "ana@example.org", "ben@example.org", "kim@example.org"
NUMBER = 5
ID = approval_id(NUMBER)
PAGE = f"/approval?id={quote(ID, safe='')}"
SCHEMA = {"type": "object", "properties": {"labels": {"type": "array", "maxItems": 2}}, "required": ["body"]}
TWO = Terms(groups=(Group(need=2, role="maintainer"),), reason="reject")


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with small_mesh(tmp_path) as found:
        yield found


async def ask(mesh: Mesh, terms: Terms | None, *after: ev.Event) -> None:
    """A question with these terms, and what has happened to it since."""
    request = replace(asked(NUMBER, mesh.writer.now_ms), payload_schema=SCHEMA)
    if terms is not None:
        said = {name: getattr(request, name) for name in request.__struct_fields__}
        request = ev.ApprovalRequested2(**said | {"role": terms.rule, "terms": terms})
    await mesh.writer.decide(workflow(NUMBER), event_cause(NUMBER, 50), started(NUMBER), request)
    for number, event in enumerate(after):
        await mesh.writer.decide(workflow(NUMBER), event_cause(NUMBER, 51 + number), event)
    await mesh.console.desk.projector.read_inbox()
    await mesh.settle()


def tally(**more: Any) -> Tally:
    return replace(Tally(edition=1, digest=digest(DRAFT), have=0, need=2), **more)


def claimed(by: str, until_ms: int) -> ev.ApprovalClaimed:
    return ev.ApprovalClaimed(
        step="review",
        approval_id=ID,
        by=by,
        at_ms=1,
        answer_id="c",
        until_ms=until_ms,
        tally=tally(claim=Claim(by=by, until_ms=until_ms)),
    )


def edited(by: str, **more: Any) -> ev.PayloadEdited:
    text = DRAFT | {"body": "Thanks a lot for the report."}
    return ev.PayloadEdited(
        step="review",
        approval_id=ID,
        by=by,
        at_ms=1,
        answer_id="e",
        payload=text,
        digest=digest(text),
        edition=2,
        need=2,
        tally=tally(edition=2, digest=digest(text), editors=(by,), **more),
    )


def questioned(to: Addressee) -> ev.QuestionAsked:
    return ev.QuestionAsked(
        step="review",
        approval_id=ID,
        by=ANA,
        at_ms=1,
        answer_id="q",
        question=1,
        note=1,
        text="Which version?",
        to=to,
        tally=tally(questions=(1,)),
    )


async def sent(mesh: Mesh) -> dict[str, Any]:
    """The last answer that went out."""
    reader = await mesh.broker.reader()
    try:
        reader.assign({TopicPartition(TOPICS.responses, 0): 0})
        found: dict[str, Any] = orjson.loads((await reader.poll(max_records=10, timeout_s=5))[-1].value or b"")
        return found
    finally:
        await reader.close()


async def submit(browser: Browser, **fields: str) -> httpx.Response:
    """Send a form of the page."""
    return await browser.send("/approval", fields | {"id": ID})


async def answered(mesh: Mesh, browser: Browser, *events: ev.Event, **form: str) -> httpx.Response:
    """What comes back once the owner has decided on what was sent."""

    def decide(answer_id: str) -> tuple[ev.Event, ...]:
        return tuple(replace(event, answer_id=answer_id) for event in events)

    owner = asyncio.create_task(mesh.play_owner(decide, NUMBER))
    try:
        return await submit(browser, **form)
    finally:
        await asyncio.wait_for(owner, 30)


def refused(code: str, message: str) -> ev.AnswerRefused:
    return ev.AnswerRefused(answer_id="", approval_id=ID, code=code, message=message, by=ANA)


# Edit ---------------------------------------------------------------------------------------------


def form(**more: str) -> dict[str, str]:
    whole = {"f.title": "Re: Issue 1", "f.body": str(DRAFT["body"]), "f.labels": "bug"}
    return {"do": "edit", "send": "approve:", "digest": digest(DRAFT)} | whole | more


async def test_an_approver_changes_the_text_and_approves_theirs(mesh: Mesh) -> None:
    await ask(mesh, None)
    browser = mesh.browser(ANA)
    assert f'href="{PAGE}&amp;edit=1"' in await browser.shows(PAGE)
    page = await browser.shows(f"{PAGE}&edit=1")
    assert "Thanks for the report.\n\nCould you tell us the version?</textarea>" in page
    assert 'value="approve:"' in page
    closed = ev.ApprovalClosed(
        step="review", approval_id=ID, verdict="approved", payload={}, by=ANA, answer_id="", edited=True
    )
    found = await answered(mesh, browser, closed, **form(**{"f.labels": "bug\ncrash", "reason": "clearer"}))
    assert found.status_code == 303, found.text
    answer = await sent(mesh)
    assert (answer["decision"], answer["reason"], answer["digest"]) == ("approve", "clearer", digest(DRAFT))
    assert answer["payload"] == DRAFT | {"labels": ["bug", "crash"]}


async def test_an_edit_that_does_not_fit_or_changes_nothing_comes_back_as_it_was_typed(mesh: Mesh) -> None:
    await ask(mesh, None)
    browser = mesh.browser(ANA)
    found = await submit(browser, **form(**{"f.labels": "a\nb\nc", "f.body": "My <b>text</b>", "reason": "r"}))
    assert found.status_code == 422
    assert "too long" in found.text
    assert "a\nb\nc</textarea>" in found.text
    assert "My &lt;b&gt;text&lt;/b&gt;</textarea>" in found.text
    assert ">r</textarea>" in found.text
    found = await submit(browser, **form())
    assert found.status_code == 422
    assert "You have changed nothing" in found.text


async def test_a_refused_or_late_edit_keeps_what_was_typed(mesh: Mesh) -> None:
    await ask(mesh, None)
    browser = mesh.browser(ANA)
    mine = form(**{"f.body": "My long text", "reason": "my reason"})
    found = await answered(mesh, browser, refused("digest", "it answers another payload"), **mine)
    assert found.status_code == 409
    for said in ("does not count (digest)", "Somebody has edited it meanwhile", "My long text</textarea>"):
        assert said in found.text
    closed = ev.ApprovalClosed(step="review", approval_id=ID, verdict="approved", payload={}, by=BEN, answer_id="b")
    await mesh.writer.decide(workflow(NUMBER), event_cause(NUMBER, 70), closed)
    await mesh.settle()
    found = await submit(browser, **mine)
    assert found.status_code == 409
    for said in ("answered meanwhile", "My long text</textarea>", ">my reason</textarea>"):
        assert said in found.text
    assert 'name="send"' not in found.text


async def test_an_edit_that_cannot_be_sent_keeps_what_was_typed(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: object, **__: object) -> None:
        raise BrokerUnavailable("the broker is away")

    await ask(mesh, None)
    monkeypatch.setattr(mesh.console.desk.client, "answer", away)
    found = await submit(mesh.browser(ANA), **form(**{"f.body": "My long text"}))
    assert found.status_code == 503
    assert "My long text</textarea>" in found.text


async def test_all_of_it_can_be_edited_as_json(mesh: Mesh) -> None:
    await ask(mesh, None)
    browser = mesh.browser(ANA)
    page = await browser.shows(f"{PAGE}&edit=json")
    assert 'name="f."' in page
    text = '{"body": "New"'
    found = await submit(browser, do="edit", send="approve:", **{"f.": text})
    assert found.status_code == 422
    assert "not JSON" in found.text
    assert "{&#34;body&#34;: &#34;New&#34;</textarea>" in found.text


async def test_where_the_route_lets_nobody_edit_the_form_is_not_offered(mesh: Mesh) -> None:
    await ask(mesh, replace(TWO, editing=Editing(limit=0)))
    browser = mesh.browser(ANA)
    page = await browser.shows(PAGE)
    assert "The route lets nobody edit it" in page
    assert "edit=1" not in page
    await browser.shows(f"{PAGE}&edit=1", status=403)
    found = await submit(browser, **form(**{"f.body": "Mine"}))
    assert found.status_code == 403


async def test_an_edited_text_shows_its_changes_and_the_draft(mesh: Mesh) -> None:
    await ask(mesh, TWO, edited(BEN, reset=(ANA,)))
    browser = mesh.browser(ANA)
    page = await browser.shows(PAGE)
    assert "ben@example.org has edited this" in page
    assert "Thanks a lot for the report." in page
    assert "The edit has reset the votes of ana@example.org" in page
    assert "Approve the edited text" in page
    diff = await browser.shows(f"{PAGE}&show=diff")
    assert re.search(r"<ins><span[^>]*>added: </span>[^<]*a lot", diff)
    assert re.search(r"<del><span[^>]*>removed: </span>[^<]*Could you", diff)
    assert "Could you tell us the version?" in await browser.shows(f"{PAGE}&show=asked")


# Votes --------------------------------------------------------------------------------------------


async def test_a_closed_question_shows_the_text_that_was_approved(mesh: Mesh) -> None:
    text = {"body": "My own text", "labels": ["bug"]}
    closed = ev.ApprovalClosed(
        step="review", approval_id=ID, verdict="approved", payload=text, by=ANA, answer_id="a-1", edited=True
    )
    await ask(mesh, None, closed)
    browser = mesh.browser(ANA)
    page = await browser.shows(PAGE)
    assert "My own text" in page
    assert str(DRAFT["body"]) not in page
    assert digest(text) in page
    assert "ana@example.org has edited this" in page
    assert str(DRAFT["body"]) in await browser.shows(f"{PAGE}&show=asked")
    assert "<ins>" in await browser.shows(f"{PAGE}&show=diff")
    # one that nobody has edited has no other text
    await ask(mesh, None, replace(closed, payload=DRAFT, edited=False))
    page = await browser.shows(PAGE)
    assert str(DRAFT["body"]) in page
    assert "has edited this" not in page


async def test_votes_so_far_and_what_is_missing_are_said_in_words(mesh: Mesh) -> None:
    vote = ev.VoteCast(
        step="review",
        approval_id=ID,
        vote=_vote(BEN),
        edition=1,
        have=1,
        need=2,
        tally=tally(have=1, votes=(Ballot(by=BEN, choice="approve", at_ms=1, reason="sound"),)),
    )
    await ask(mesh, TWO, vote)
    page = await mesh.browser(ANA).shows(PAGE)
    assert "<strong>1 of 2 votes.</strong> 1 more vote is needed: 2 of maintainer. 1 against ends it." in page
    assert "sound" in page
    mine = await mesh.browser(BEN).shows(PAGE)
    assert "You have voted approve. Another vote takes its place." in mine
    assert 'value="withdraw"' in mine
    assert 'value="withdraw"' not in page


def _vote(by: str) -> Vote:
    return Vote(by=by, choice="approve", digest=digest(DRAFT), at_ms=1, reason="sound")


async def test_more_than_two_choices_are_buttons_of_their_own(mesh: Mesh) -> None:
    await ask(mesh, replace(TWO, choices=("pay_all", "pay_half", "refuse"), rejects=("refuse",), reason="optional"))
    browser = mesh.browser(ANA)
    page = await browser.shows(PAGE)
    for choice, title in {"pay_all": "Pay all", "pay_half": "Pay half", "refuse": "Refuse"}.items():
        assert f'value="{choice}"' in page
        assert title in page
    assert 'value="approve"' not in page
    counted = ev.VoteCast(step="review", approval_id=ID, vote=_vote(ANA), edition=1, have=1, need=2)
    owner = asyncio.create_task(
        mesh.play_owner(lambda answer: (replace(counted, vote=replace(counted.vote, answer_id=answer)),), NUMBER)
    )
    found = await submit(browser, choice="pay_half", digest=digest(DRAFT))
    await asyncio.wait_for(owner, 30)
    assert found.status_code == 303, found.text
    answer = await sent(mesh)
    assert (answer["decision"], answer["choice"]) == ("choose", "pay_half")
    assert "Your answer counts." in await browser.shows(found.headers["location"])


FOUR_EYES = [
    (replace(TWO, excluded={ANA: "they are the requester"}), (), "you have asked for it"),
    (replace(TWO, excluded={ANA: "they took part in draft"}), (), "you took part in draft"),
    (replace(TWO, excluded={ANA: "the route excludes them"}), (), "the route excludes you"),
    (replace(TWO, not_editors=True), (edited(ANA),), "who edits it does not approve it"),
]


@pytest.mark.parametrize(("terms", "after", "why"), FOUR_EYES)
async def test_four_eyes_are_explained_and_no_vote_is_offered(
    mesh: Mesh, terms: Terms, after: tuple[ev.Event, ...], why: str
) -> None:
    await ask(mesh, terms, *after)
    browser = mesh.browser(ANA)
    page = await browser.shows(PAGE)
    assert "You can&#39;t answer this: " in page
    assert why in page
    assert 'name="choice"' not in page
    assert 'value="comment"' in page
    assert (await submit(browser, choice="approve")).status_code == 403


async def test_what_each_voter_fills_in_is_a_form_of_its_own(mesh: Mesh) -> None:
    wanted = {"properties": {"amount": {"type": "integer", "title": "Amount"}}, "required": ["amount"]}
    await ask(mesh, replace(TWO, form=wanted))
    browser = mesh.browser(ANA)
    assert 'name="v.amount"' in await browser.shows(PAGE)
    found = await submit(browser, choice="approve", reason="r", **{"v.amount": "seven"})
    assert found.status_code == 422
    assert "write a number" in found.text
    assert 'value="seven"' in found.text
    closed = refused("form", "no")
    await answered(mesh, browser, closed, choice="approve", digest=digest(DRAFT), **{"v.amount": "7"})
    assert (await sent(mesh))["form"] == {"amount": 7}


# What else there is to say ------------------------------------------------------------------------


async def test_a_claim_is_shown_and_keeps_others_from_answering_where_it_is_exclusive(mesh: Mesh) -> None:
    until_ms = mesh.console.desk.now_ms() + 600_000
    await ask(mesh, replace(TWO, claiming=Claiming(exclusive=True)), claimed(BEN, until_ms))
    page = await mesh.browser(ANA).shows(PAGE)
    assert "ben@example.org looks at it until" in page
    assert "nobody else can answer before" in page
    assert 'name="choice"' not in page
    mine = await mesh.browser(BEN).shows(PAGE)
    assert "You look at it until" in mine
    assert 'value="release"' in mine
    assert 'name="choice"' in mine


SAID = [
    ("claim", {}, {"decision": "claim"}),
    ("comment", {"text": "Looks odd"}, {"decision": "comment", "text": "Looks odd"}),
    ("ask", {"text": "Why?", "to": "reader"}, {"decision": "ask", "text": "Why?", "to": "reader"}),
    ("extend", {}, {"decision": "extend"}),
]
OPEN = replace(
    TWO,
    asking_back=AskingBack(to=(Addressee(name="reader", role="reader"), Addressee(name="helper", agent="helper"))),
    extending=Extending(by_ms=60_000, times=1),
)


@pytest.mark.parametrize(("do", "fields", "expected"), SAID)
async def test_what_else_a_person_may_say_is_offered_and_sent(
    mesh: Mesh, do: str, fields: dict[str, str], expected: dict[str, str]
) -> None:
    await ask(mesh, OPEN)
    browser = mesh.browser(ANA)
    assert f'value="{do}"' in await browser.shows(PAGE)
    found = await answered(mesh, browser, refused("late", "too late"), do=do, **fields)
    assert found.status_code == 409
    assert "does not count (late)" in found.text
    answer = await sent(mesh)
    assert {name: answer[name] for name in expected} == expected
    if fields:
        assert f"{fields['text']}</textarea>" in found.text


async def test_who_was_asked_answers_the_question_and_has_no_vote(mesh: Mesh) -> None:
    await ask(mesh, OPEN, questioned(OPEN.asking_back.to[0] if OPEN.asking_back else Addressee(name="")))
    browser = mesh.browser(KIM)
    page = await browser.shows(PAGE)
    assert "Which version?" in page
    assert "Answer the question" in page
    assert 'name="choice"' not in page
    told = ev.QuestionAnswered(
        step="review",
        approval_id=ID,
        by=KIM,
        at_ms=2,
        answer_id="",
        question=1,
        note=2,
        reply=Reply(text="1.2"),
        tally=tally(),
    )
    found = await answered(mesh, browser, told, do="inform", question="1", text="1.2")
    assert found.status_code == 303, found.text
    assert (await sent(mesh))["question"] == 1


async def test_what_is_not_offered_is_refused(mesh: Mesh) -> None:
    await ask(mesh, TWO)
    browser = mesh.browser(ANA)
    for do in ("ask", "inform", "release", "withdraw", "extend", "delegate", "reassign"):
        found = await submit(browser, do=do, text="x")
        assert found.status_code == 403, do
    assert (await submit(browser, do="comment", text=" ")).status_code == 422
    assert (await submit(browser, do="comment", text="x" * 4_001)).status_code == 422
    assert (await submit(browser, choice="approve", **{"for": "eve"})).status_code == 403
    other = mesh.browser(KIM)
    assert (await submit(other, do="comment", text="x")).status_code == 403


async def test_an_answer_waits_for_the_inbox_no_longer_than_it_must(mesh: Mesh) -> None:
    before = mesh.console.desk.projector.fresh_at_ms
    await mesh.console.desk.projector.read_inbox()
    await until(lambda: mesh.console.desk.projector.fresh_at_ms >= before)
