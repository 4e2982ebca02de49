"""Dead letters: records that nobody could read or use, and what was done about each."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from mesh.console.config import PAGE_ROWS
from mesh.console.desk import Desk
from mesh.console.pages.workflows import forbid_others
from mesh.console.parameters import BadParameter, Parameters
from mesh.console.staff import Reader
from mesh.errors import NotFound
from mesh.inspection.read_model import queries
from mesh.inspection.read_model.queries import UNSETTLED, LetterFilter

_STATES: Final[dict[str, tuple[str, ...] | None]] = {
    "new": UNSETTLED,
    "settled": ("redriven", "discarded"),
    "all": None,
}


async def dead_letters(desk: Desk, request: Request, reader: Reader) -> Response:
    """The list, the last first; or one of them."""
    given = Parameters(request.scope["query_string"], ["state", "reason", "topic", "route", "id", "after"])
    forbid_others(reader)
    if given["id"]:
        return await _one(desk, request, reader, given["id"])
    state = given.among("state", tuple(_STATES)) or "new"
    wanted = LetterFilter(
        statuses=_STATES[state],
        topic=given["topic"] or None,
        code=given["reason"] or None,
        route=given["route"] or None,
    )
    page = await desk.log(lambda db: queries.dead_letters(db, wanted, limit=PAGE_ROWS, after=given["after"] or None))
    names = ("reason", "topic", "route")
    chips = [(f"{name}: {given[name]}", given.with_(**{name: None})) for name in names if given[name]]
    return await desk.page(
        request, reader, "dead_letters.html", live="dead-letters", given=given, page=page, state=state, chips=chips
    )


async def _one(desk: Desk, request: Request, reader: Reader, name: str) -> Response:
    partition, _, offset = name.partition("/")
    if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in (partition, offset)):  # noqa: PLR2004 - of 64 bits
        raise BadParameter(f"id can't be {name!r}; a dead letter is PARTITION/OFFSET, as the list has it")
    row = await desk.log(lambda db: queries.dead_letter(db, int(partition), int(offset)))
    if row is None:
        raise NotFound(f"There is no dead letter {name}, or its memory has ended.")
    return await desk.page(request, reader, "dead_letter.html", live="dead-letters", row=row)
