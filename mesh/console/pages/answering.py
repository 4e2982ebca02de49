"""What an approver sends: a vote, an edit, a comment, a question, and the like.

Owns the checks before an answer is sent, and what comes back. Whether it counts is for the
workflow's owner to decide: the page shows its receipt. Nothing that was typed is lost.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mesh.codec.approvals import Receipt
from mesh.console.desk import Desk, link
from mesh.console.edit_form import Field, Read, is_changed, read
from mesh.console.pages.approvals import Known, edit_page, known_of, offer_of, page_of_one
from mesh.console.pages.sign_in import form_of
from mesh.console.parameters import BadParameter
from mesh.console.rights import Offer
from mesh.console.staff import Reader
from mesh.core.inputs import AnswerKind
from mesh.errors import MeshError
from mesh.inspection.read_model import queries

REASON: Final = 2_000  # characters
TEXT: Final = 4_000  # of a comment or a question
_UNSET: Final = msgspec.UNSET
_OF_A_TEXT: Final = ("vote", "edit")
_WORDS: Final = ("comment", "ask", "inform")  # what has a text


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """An answer as the client sends it."""

    decision: AnswerKind
    reason: str = ""
    payload: Any = _UNSET
    choice: str = ""
    form: Any = None
    text: str = ""
    to: str = ""
    question: int = 0
    on_behalf: str = ""


class Refused(Exception):
    """A form that is not sent. The message says why; `fields` have what was typed."""

    def __init__(self, status: int, message: str, fields: Sequence[Field] | None = None) -> None:
        super().__init__(message)
        self.status, self.fields = status, fields


Back = Callable[[int, str, Receipt | None, Sequence[Field] | None], Awaitable[Response]]


async def answer(desk: Desk, request: Request, reader: Reader) -> Response:
    """Send the answer, wait for its receipt, and show what came of it."""
    given = await form_of(request)
    approval_id, do = given.get("id", ""), given.get("do", "") or "vote"
    known = await known_of(desk, approval_id, reader)

    async def back(
        status: int, problem: str, told: Receipt | None = None, fields: Sequence[Field] | None = None
    ) -> Response:
        """The form again, with all that the person has written."""
        again = known if told is None else await known_of(desk, approval_id, reader)
        if do == "edit":
            typed = fields if fields is not None else (await _edited(given, again)).fields
            return await edit_page(
                desk, request, reader, again, status=status, fields=typed, typed=given, told=told, problem=problem
            )
        return await page_of_one(
            desk, request, reader, again, status=status, told=told, typed=given, problem=problem, form_fields=fields
        )

    try:
        word = await _word(desk, reader, known, do, given)
    except Refused as why:
        return await back(why.status, str(why), None, why.fields)
    return await _sent(desk, reader, word, given, back)


async def _sent(desk: Desk, reader: Reader, word: Word, given: Mapping[str, str], back: Back) -> Response:
    approval_id = given.get("id", "")
    try:
        receipt = await desk.client.answer(
            approval_id,
            word.decision,
            by=reader.name,
            reason=word.reason,
            payload=word.payload,
            digest=given.get("digest") or None,
            choice=word.choice,
            form=word.form,
            text=word.text,
            to=word.to,
            question=word.question,
            on_behalf=word.on_behalf,
            key=desk.staff.link_key if reader.by_link else desk.staff.key,
            answer_id=reader.by_link.answer_id if reader.by_link else "",
            timeout_s=desk.config.receipt_s,
        )
    except TimeoutError:
        said = "Sent, not decided yet: no router has answered. It counts when one does; look here again."
        return await back(202, said, None, None)
    except MeshError as error:
        return await back(503, f"The answer could not be sent: {error}", None, None)
    # so that the page after this one has it
    await desk.projector.read_inbox()
    if receipt.status != "accepted":
        return await back(409, "", receipt, None)
    await desk.wait_shown(lambda db: queries.answer(db, receipt.answer_id))
    return RedirectResponse(link("/approval", id=approval_id, answer=receipt.answer_id), 303)


# What is meant ------------------------------------------------------------------------------------


async def _word(desk: Desk, reader: Reader, known: Known, do: str, given: Mapping[str, str]) -> Word:
    """The answer that the form means. Raises `Refused` and `BadParameter`."""
    found = offer_of(desk, known)
    if known.row is not None and known.waiting is None and known.row.closed_at_ms is None:
        raise Refused(409, "The question was asked just now. Send this again in a moment.")
    if found is None:
        raise Refused(409, "This was answered meanwhile, or its deadline has passed. Your text is below.")
    if reader.by_link and do in _OF_A_TEXT and given.get("digest") != getattr(known.asked, "digest", None):
        # an answer to another text would not count, and the link takes no other one
        raise Refused(409, "Somebody has edited this while you looked at it. Look at it again: it is as it is now.")
    if do == "vote":
        word = _vote(found, given)
    elif do == "edit":
        word = await _edit(found, known, given)
    else:
        word = _said(found, do, given)
    if not desk.may_answer_now(reader.name):
        raise Refused(429, "You have sent many answers in the last minute. Wait a moment, then send this again.")
    return word


def _vote(found: Offer, given: Mapping[str, str]) -> Word:
    choice, reason = given.get("choice", ""), given.get("reason", "").strip()
    if choice not in found.choices:
        raise BadParameter(f"{choice!r} is no answer here; there are {', '.join(found.choices)}")
    if found.cannot:
        raise Refused(403, found.cannot)
    if not reason and choice in found.needs_reason:
        raise Refused(422, f"Give a reason: others read why it is {_past(choice)}.")
    _check_length(reason)
    filled = _filled(found, given)
    decision: AnswerKind = "approve" if choice == "approve" else "reject" if choice == "reject" else "choose"
    return Word(
        decision=decision,
        choice=choice if decision == "choose" else "",
        reason=reason,
        form=None if filled is None else filled.value,
        on_behalf=_giver(found, given),
    )


def _past(choice: str) -> str:
    return {"reject": "rejected", "approve": "approved"}.get(choice, f"answered with {choice}")


def _check_length(reason: str) -> None:
    if len(reason) > REASON:
        raise Refused(422, f"The reason has {len(reason):,} characters; {REASON:,} are possible.")


def _filled(found: Offer, given: Mapping[str, str]) -> Read | None:
    """What the route wants each voter to fill in."""
    if found.form is None:
        return None
    filled = read(given, {}, found.form, prefix="v.")
    if filled.is_refused:
        raise Refused(422, filled.problem or "Look at what is marked in the form.", filled.fields)
    return filled


def _giver(found: Offer, given: Mapping[str, str]) -> str:
    """For whom it is sent; empty: for who sends it."""
    wanted = given.get("for", "")
    if wanted in found.givers:
        return wanted
    if "for" in given:
        raise Refused(403, "You can't answer this for that person any more.")
    return "" if "" in found.givers or not found.givers else found.givers[0]


async def _edit(found: Offer, known: Known, given: Mapping[str, str]) -> Word:
    decision, _, choice = given.get("send", "").partition(":")
    reason = given.get("reason", "").strip()
    made = await _edited(given, known)
    kind = next((kind for kind, named, _ in found.edits if (kind, named) == (decision, choice)), None)
    if kind is None:
        raise Refused(403, found.cannot or found.no_edit or "You may not edit this.", made.fields)
    if made.is_refused:
        raise Refused(422, made.problem or "This does not fit yet. Look at what is marked.", made.fields)
    if known.waiting is None or not is_changed(known.waiting.request.payload, made.value):
        raise Refused(422, "You have changed nothing.", made.fields)
    if choice in found.needs_reason and not reason:
        raise Refused(422, f"Give a reason: others read why it is {_past(choice)}.", made.fields)
    _check_length(reason)
    giver = _giver(found, given) if known.waiting.request.terms is None else ""
    return Word(decision=_KINDS[kind], payload=made.value, choice=choice, reason=reason, on_behalf=giver)


_KINDS: Final[dict[str, AnswerKind]] = {"approve": "approve", "choose": "choose", "edit": "edit"}


async def _edited(given: Mapping[str, str], known: Known) -> Read:
    """What the person has made of the payload, and the fields with what was typed."""
    asked = known.editable
    payload, schema = (None, None) if asked is None else (asked.payload, asked.payload_schema)
    # a schema may be large, and others wait for this loop
    return await run_in_threadpool(read, given, payload, schema, as_one="f." in given)


def _said(found: Offer, do: str, given: Mapping[str, str]) -> Word:
    text = given.get("text", "").strip()
    kind = next((kind for kind, is_offered in _offered(found).items() if is_offered and kind == do), None)
    if kind is None:
        raise Refused(403, "This is not open to you now.")
    if kind in _WORDS and not text:
        raise Refused(422, "Write something first.")
    if len(text) > TEXT:
        raise Refused(422, f"The text has {len(text):,} characters; {TEXT:,} are possible.")
    to, question = given.get("to", ""), given.get("question", "")
    if kind == "ask" and to not in found.asks:
        raise Refused(422, "Say whom you ask.")
    if kind == "inform" and question not in {str(one.question) for one in found.informs}:
        raise Refused(409, "This question is answered already.")
    return Word(decision=kind, text=text, to=to, question=int(question) if kind == "inform" else 0)


def _offered(found: Offer) -> dict[AnswerKind, bool]:
    return {
        "comment": found.comments,
        "ask": bool(found.asks),
        "inform": bool(found.informs),
        "claim": found.claims,
        "release": found.releases,
        "withdraw": found.own_vote is not None,
        "extend": found.extends,
    }
