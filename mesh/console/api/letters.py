"""Dead letters for programs: what there are, and what operators do about them.

Owns their requests. A letter is taken on its topic before it is sent, so of two who send the same
letter one does. Under an `Idempotency-Key` the operation is named after the key: a letter that it
has settled is not touched again.
"""

import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Final

import apsw
import msgspec

from mesh.codec.handlings import LetterPlace
from mesh.codec.redrive import By
from mesh.console.api.answers import Refused
from mesh.console.api.endpoint import PAGED, Asking, Endpoint, Parameter
from mesh.console.pages.letters import MOST, place_of
from mesh.console.pages.letters import STATES as PAGE_STATES
from mesh.console.pages.operations import REASON, forbid_no_operator
from mesh.errors import NotFound
from mesh.inspection.documents.letters import Letter, letter_document
from mesh.inspection.documents.orders import LettersDone, LettersOrder
from mesh.inspection.documents.pages import Listed, listed
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.queries import DeadLetterRow, LetterFilter
from mesh.inspection.redriving import VERDICTS, Redriving, Verdict

STATES: Final[dict[str, tuple[str, ...] | None]] = {
    **PAGE_STATES,
    "redriven": ("redriven",),
    "discarded": ("discarded",),
    "taken": ("taken",),
}


async def _list(asking: Asking) -> Listed[Letter]:
    given = asking.given
    wanted = LetterFilter(
        statuses=STATES[given["state"] or "new"],
        topic=given["topic"] or None,
        code=given["reason"] or None,
        route=given["route"] or None,
        since_ms=given.moment_ms("since", asking.desk.now_ms()),
    )
    page = await asking.desk.log(lambda db: queries.dead_letters(db, wanted, limit=given.rows, after=given.after))
    return listed([letter_document(row) for row in page], page)


async def _one(asking: Asking) -> Letter:
    name = asking.given["id"]
    partition, offset = place_of(name)
    row = await asking.desk.log(lambda db: queries.dead_letter(db, partition, offset))
    if row is None:
        raise NotFound(f"There is no dead letter {name}, or its memory has ended.")
    return letter_document(row)


# What operators do --------------------------------------------------------------------------------


async def _act(verb: str, asking: Asking) -> LettersDone:
    given: LettersOrder = asking.body
    forbid_no_operator(asking.reader)
    places = tuple(dict.fromkeys(map(place_of, given.ids)))
    if not 1 <= len(places) <= MOST:
        raise Refused(422, f"name from 1 to {MOST:,} letters in `ids`")
    if len(given.reason) > REASON:
        raise Refused(422, f"a reason may have {REASON:,} characters")
    if verb == "discard" and not given.reason.strip() and not given.dry_run:
        raise Refused(422, "to discard needs a `reason`: it is kept with each letter")
    by = By(_fresh(asking), asking.reader.name, asking.desk.now_ms(), given.reason)
    async with asking.desk.redriving(by, again=given.again) as redriving:
        rows = redriving.rows(LetterFilter(places=places))
        _check(places, rows)
        old = [row for row in rows if asking.once and row.operation.startswith(_prefix(asking.once))]
        new = [row for row in rows if row not in old]
        found = [one async for one in _before(redriving, old)]
        found += [one async for one in _work(verb, redriving, dry_run=given.dry_run)(new)]
    if not given.dry_run:
        # so that the next request knows of it
        done = LetterFilter(places=tuple(place_of(one.id) for one in found if one.verdict != "stays"))
        await asking.desk.wait_shown(lambda db: _are_settled(db, done))
    verdicts = tuple(sorted(found, key=lambda one: place_of(one.id)))
    counts = Counter(one.verdict for one in verdicts)
    return LettersDone(
        dry_run=given.dry_run,
        operation=None if given.dry_run else next((row.operation for row in old), by.operation),
        counts={name: counts[name] for name in VERDICTS},
        dead_letters=verdicts,
    )


def _are_settled(db: apsw.Connection, wanted: LetterFilter) -> bool | None:
    rows = queries.dead_letters(db, wanted) if wanted.places else ()
    return all(row.status in {"redriven", "discarded"} for row in rows) or None


def _prefix(once: str) -> str:
    return f"key-{once}-"


def _fresh(asking: Asking) -> str:
    """The name of the operation. Of two requests under one key its end says which has a letter."""
    return (_prefix(asking.once) if asking.once else "") + secrets.token_hex(8)


def _check(places: tuple[LetterPlace, ...], rows: Sequence[DeadLetterRow]) -> None:
    missing = sorted({place.id for place in places} - {row.id for row in rows})
    if missing:
        raise NotFound(f"no such dead letter: {', '.join(missing)}. Nothing was done.")


def _work(
    verb: str, redriving: Redriving, *, dry_run: bool
) -> Callable[[Sequence[DeadLetterRow]], AsyncIterator[Verdict]]:
    if verb == "redrive":
        return redriving.planned if dry_run else redriving.redrive
    return redriving.planned_discard if dry_run else redriving.discard


async def _before(redriving: Redriving, rows: Sequence[DeadLetterRow]) -> AsyncIterator[Verdict]:
    """What an earlier request under the same key has done about these letters."""
    async for one in redriving.sent(row for row in rows if row.status == "redriven"):
        yield one
    for row in rows:
        found = Verdict(id=row.id, verdict="stays", topic=row.topic, letter_code=row.code)
        if row.status == "discarded":
            yield msgspec.structs.replace(found, verdict="discarded")
        elif row.status == "taken":
            yield msgspec.structs.replace(found, code="taken", message=_TAKEN)


_TAKEN: Final = "a request under this key took it and did not say that it was sent; look, then send it with `again`"
_REFUSES: Final = {404: "One of them is not there. Nothing was done.", 422: "Too many, or a reason is missing."}

ENDPOINTS: Final = (
    Endpoint(
        "GET",
        "/api/v1/dead-letters",
        "listDeadLetters",
        "Dead letters, the last first.",
        _list,
        Listed[Letter],
        parameters=(
            Parameter("state", "new without it.", choices=tuple(STATES)),
            Parameter("reason", "Those with this code."),
            Parameter("topic", "Those whose originals came on this topic."),
            Parameter("route", "Those of this route."),
            Parameter("since", "Those since then.", "moment"),
            *PAGED,
        ),
        needs_all=True,
    ),
    Endpoint(
        "GET",
        "/api/v1/dead-letter",
        "showDeadLetter",
        "One dead letter.",
        _one,
        Letter,
        parameters=(Parameter("id", "PARTITION/OFFSET.", "id", is_needed=True),),
        needs_all=True,
        refuses={404: "There is none, or its memory has ended."},
    ),
    Endpoint(
        "POST",
        "/api/v1/dead-letters/redrive",
        "redriveDeadLetters",
        "Send dead letters back to where they belong.",
        partial(_act, "redrive"),
        LettersDone,
        takes=LettersOrder,
        writes=True,
        refuses=_REFUSES,
    ),
    Endpoint(
        "POST",
        "/api/v1/dead-letters/discard",
        "discardDeadLetters",
        "Say that nothing is to be done about dead letters.",
        partial(_act, "discard"),
        LettersDone,
        takes=LettersOrder,
        writes=True,
        refuses=_REFUSES,
    ),
)
