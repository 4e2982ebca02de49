"""Events: the last ones, and what became of one.

Owns how a fate is shown; `mesh.inspection.event_status` finds it, as for `mesh events show`.
"""

from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from mesh.console.config import PAGE_ROWS
from mesh.console.desk import Desk
from mesh.console.pages.workflows import forbid_others
from mesh.console.parameters import Parameters
from mesh.console.staff import Reader
from mesh.console.words import State
from mesh.errors import NotFound
from mesh.inspection.event_status import EventFate
from mesh.inspection.read_model import queries

FATES: Final = {
    "waiting": State("run", "clock", "Not read yet"),
    "dead_lettered": State("bad", "bad", "Dead letter"),
    "decided": State("good", "good", "Matched"),
    "accepted": State("run", "run", "Wanted, not decided yet"),
    "unwanted": State("off", "off", "Not wanted"),
}
_UNSETTLED: Final = ("waiting", "accepted")
EFFECTS: Final = {
    "started": State("good", "good", "started"),
    "received": State("good", "good", "was waited for by"),
    "repeated": State("off", "dot", "repeats the start of"),
    "kept": State("ask", "clock", "kept for"),
    "unclaimed": State("bad", "bad", "not taken by"),
    "dismissed": State("off", "dot", "changed nothing in"),
    "parked": State("bad", "bad", "parked with"),
    "decided": State("run", "run", "moved"),
}
_NEAR: Final = 5


class Told(NamedTuple):
    """One record of an event, and what became of it."""

    event: EventFate
    state: State


async def events(desk: Desk, request: Request, reader: Reader) -> Response:
    """The events on the broker, the last first."""
    given = Parameters(request.scope["query_string"], ["after"])
    forbid_others(reader)
    page = await desk.log(lambda db: queries.events(db, limit=PAGE_ROWS, after=given["after"] or None))
    return await desk.page(request, reader, "events.html", live="events", given=given, page=page)


async def event(desk: Desk, request: Request, reader: Reader) -> Response:
    """What became of the records with this event id: upstream may have sent it more than once."""
    given = Parameters(request.scope["query_string"], ["id", "after"])
    forbid_others(reader)
    event_id = given.needed("id")
    page, fates = await desk.fates(event_id, after=given["after"] or None)
    if not fates:
        near = await desk.log(lambda db: queries.events_beginning(db, event_id, limit=_NEAR))
        hint = f" Near it: {', '.join(near.ids)}." if near.ids else ""
        raise NotFound(f"There is no event {event_id} on the broker, or its retention is over.{hint}")
    told = [Told(one, FATES[one.fate.kind]) for one in fates]
    # what is decided stays so, unless a step still has to take it
    is_settled = all(one.fate.kind not in _UNSETTLED for one in fates)
    is_kept = any(touched.effect == "kept" for one in fates for touched in one.fate.workflows)
    live = "" if is_settled and not is_kept else "workflows events"
    return await desk.page(
        request, reader, "event.html", live=live, given=given, page=page, told=told, event_id=event_id, effects=EFFECTS
    )
