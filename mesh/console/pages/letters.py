"""Dead letters: records that nobody could read or use, and what operators do about them.

Owns the preview of sending again and of discarding, which fixes the letters. How a letter is taken,
sent and noted is that of `mesh dlq`.
"""

import secrets
from collections import Counter
from collections.abc import Mapping
from typing import Final, NamedTuple

import apsw
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mesh.codec.handlings import LetterPlace
from mesh.codec.redrive import By
from mesh.console.config import PAGE_ROWS
from mesh.console.desk import Desk, link
from mesh.console.pages.operations import REASON, forbid_no_operator, is_operator
from mesh.console.pages.sign_in import form_of
from mesh.console.pages.workflows import forbid_others
from mesh.console.parameters import BadParameter, Parameters
from mesh.console.previews import LettersPreview, Previews
from mesh.console.staff import Reader
from mesh.errors import MeshError, NotFound
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.pages import Page
from mesh.inspection.read_model.queries import UNSETTLED, DeadLetterRow, LetterFilter
from mesh.inspection.redriving import Verdict

STATES: Final[dict[str, tuple[str, ...] | None]] = {
    "new": UNSETTLED,
    "settled": ("redriven", "discarded"),
    "all": None,
}
_NAMES: Final = ("reason", "topic", "route")
MOST: Final = 1_000  # letters at once: a form waits for all of them
VERBS: Final = ("redrive", "discard")


async def dead_letters(desk: Desk, request: Request, reader: Reader) -> Response:
    """The list, the last first; or one of them."""
    given = Parameters(request.scope["query_string"], ["state", *_NAMES, "id", "after"])
    forbid_others(reader)
    if given["id"]:
        return await _one(desk, request, reader, given["id"])
    state = given.among("state", tuple(STATES)) or "new"
    wanted = _filter({name: given[name] for name in _NAMES}, STATES[state])
    page = await desk.log(lambda db: queries.dead_letters(db, wanted, limit=PAGE_ROWS, after=given["after"] or None))
    chips = [(f"{name}: {given[name]}", given.with_(**{name: None})) for name in _NAMES if given[name]]
    return await desk.page(
        request,
        reader,
        "dead_letters.html",
        live="dead-letters",
        given=given,
        page=page,
        state=state,
        chips=chips,
        can_act=is_operator(reader) and state == "new" and bool(page),
    )


def _filter(given: Mapping[str, str], statuses: tuple[str, ...] | None) -> LetterFilter:
    return LetterFilter(
        statuses=statuses,
        topic=given.get("topic") or None,
        code=given.get("reason") or None,
        route=given.get("route") or None,
    )


async def _one(desk: Desk, request: Request, reader: Reader, name: str) -> Response:
    place = place_of(name)
    row = await desk.log(lambda db: queries.dead_letter(db, *place))
    if row is None:
        raise NotFound(f"There is no dead letter {name}, or its memory has ended.")
    can_act = is_operator(reader) and row.status == "open"
    return await desk.page(request, reader, "dead_letter.html", live="dead-letters", row=row, can_act=can_act)


def place_of(name: str) -> LetterPlace:
    """The place of a dead letter, from its id."""
    partition, _, offset = name.partition("/")
    if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in (partition, offset)):  # noqa: PLR2004 - of 64 bits
        raise BadParameter(f"id can't be {name!r}; a dead letter is PARTITION/OFFSET, as the list has it")
    return LetterPlace(int(partition), int(offset))


# What operators do --------------------------------------------------------------------------------


async def preview(desk: Desk, request: Request, reader: Reader) -> Response:
    """Look what would become of letters, and lead to the page that shows it. Nothing is sent."""
    given = await form_of(request)
    forbid_no_operator(reader)
    verb = given.get("verb", "")
    if verb not in VERBS:
        raise BadParameter(f"verb can't be {verb!r}; it is one of {', '.join(VERBS)}")
    places = (place_of(given["id"]),) if given.get("id") else None
    wanted = _filter(given, ("open",))
    if places is not None:
        wanted = LetterFilter(statuses=("open",), places=places)

    def found(db: apsw.Connection) -> Page[DeadLetterRow]:
        return queries.dead_letters(db, wanted, limit=MOST)

    page = await desk.log(found)
    words = ", ".join(f"{name} {given[name]}" for name in ("id", *_NAMES) if given.get(name)) or "all that are new"
    if not page:
        raise NotFound(f"No new dead letter fits any more ({words}). Nothing was done.")
    async with desk.redriving(_by(desk, reader, "")) as redriving:
        plan = redriving.planned if verb == "redrive" else redriving.planned_discard
        planned = [one async for one in plan(list(page))]
    made = LettersPreview(
        id=Previews.fresh_id(),
        by=reader.name,
        verb=verb,
        rows=list(page),
        planned=planned,
        filter=words,
        alike=page.total,
    )
    desk.previews.keep(made)
    return RedirectResponse(link("/letters", id=made.id), 303)


def _by(desk: Desk, reader: Reader, reason: str) -> By:
    return By(secrets.token_hex(8), reader.name, desk.now_ms(), reason)


class Kind(NamedTuple):
    """Letters that are alike, and what becomes of them. `why`: why they stay."""

    letters: int
    code: str
    topic: str
    to: str
    why: str


async def letters(desk: Desk, request: Request, reader: Reader) -> Response:
    """What would become of the letters, and the form that does it; or what became of them."""
    given = Parameters(request.scope["query_string"], ["id"])
    forbid_no_operator(reader)
    return await _page(desk, request, reader, desk.previews.letters(given.needed("id"), reader.name))


async def _page(
    desk: Desk,
    request: Request,
    reader: Reader,
    found: LettersPreview,
    *,
    status: int = 200,
    reason: str = "",
    problem: str = "",
) -> Response:
    verdicts = found.planned if found.done is None else found.done
    return await desk.page(
        request,
        reader,
        "letters.html",
        status=status,
        preview=found,
        kinds=_kinds(verdicts),
        going=sum(one.verdict != "stays" for one in verdicts),
        count=len(verdicts),
        reason=reason,
        problem=problem,
    )


def _kinds(verdicts: list[Verdict]) -> list[Kind]:
    found = Counter((one.letter_code, one.topic, one.to, one.message) for one in verdicts)
    return [Kind(count, *kind) for kind, count in found.most_common(PAGE_ROWS)]


async def act(desk: Desk, request: Request, reader: Reader) -> Response:
    """Do what the preview has shown."""
    given = await form_of(request)
    forbid_no_operator(reader)
    found = desk.previews.letters(given.get("id", ""), reader.name)
    reason = given.get("reason", "").strip()
    if (not reason and found.verb == "discard") or len(reason) > REASON:
        said = f"Give a reason of up to {REASON:,} characters: it is kept with each letter."
        return await _page(desk, request, reader, found, status=422, reason=reason, problem=said)
    if found.is_under_way or found.done is not None:
        return RedirectResponse(link("/letters", id=found.id), 303)
    # before the broker is asked: a second click sends nothing
    found.is_under_way = True
    try:
        async with desk.redriving(_by(desk, reader, reason)) as redriving:
            work = redriving.redrive if found.verb == "redrive" else redriving.discard
            found.done = [one async for one in work(found.rows)]
    except MeshError as error:
        said = f"It stopped in the middle: {error}. Look at the list, and make the preview again."
        return await _page(desk, request, reader, found, status=503, reason=reason, problem=said)
    finally:
        found.is_under_way = False
    return RedirectResponse(link("/letters", id=found.id), 303)
