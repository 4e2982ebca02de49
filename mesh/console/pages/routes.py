"""Routes: which there are and what runs on them, and one of them with its picture and versions.

Owns how activations become words. What is in effect when, `mesh.core.activation` says.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import apsw
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from mesh.codec import exact_json
from mesh.console.desk import Desk, link
from mesh.console.graph import MOST_BOXES, draw_route
from mesh.console.pages.workflows import forbid_others
from mesh.console.parameters import BadParameter, Parameters
from mesh.console.staff import Reader
from mesh.console.words import State
from mesh.core.activation import FROM_THE_BEGINNING, RouteChange
from mesh.core.route import Route
from mesh.errors import NotFound
from mesh.inspection.read_model import queries
from mesh.inspection.route_versions import Stored, Use, as_yaml, changes, uses
from mesh.inspection.wording.plain import one_line
from mesh.routes.expressions.paths import path_text
from mesh.services.definitions import Version

DIGITS: Final = 12
VALUE: Final = 300  # characters of a value in a comparison
STANDINGS: Final = {
    "active": State("good", "good", "In effect"),
    "soon": State("run", "run", "About to be in effect"),
    "withdrawn": State("off", "off", "Withdrawn"),
    "stored": State("off", "idle", "Stored"),
    "before": State("off", "dot", "Replaced"),
    "unreadable": State("bad", "bad", "Can't be read here"),
}
_VIEWS: Final = ("active", "withdrawn")


class Line(NamedTuple):
    """A route of the list. `since_ms` None: from the beginning, or never."""

    name: str
    starts: str
    state: State
    since_ms: int | None
    by: str
    versions: int
    running: int
    incidents: int


class VersionLine(NamedTuple):
    """A version of a route. `reason`: why it was made active."""

    version: Version
    short: str
    state: State
    since_ms: int | None
    by: str
    reason: str
    use: Use


class Difference(NamedTuple):
    """A part in which two versions differ. `before`, `after` None: it is not there."""

    path: str
    before: str | None
    after: str | None


# The list -----------------------------------------------------------------------------------------


async def routes(desk: Desk, request: Request, reader: Reader) -> Response:
    """All routes, those in effect first."""
    given = Parameters(request.scope["query_string"], ["state", "q"])
    forbid_others(reader)
    state = given.among("state", _VIEWS)
    counts = await desk.log(queries.count_by_route)
    lines = list(_lines(desk.projector.routes, counts, desk.now_ms()))
    views = [
        (name, title, len(found))
        for name, title in (("", "All"), ("active", "In effect"), ("withdrawn", "Not in effect"))
        if (found := [one for one in lines if _fits(one, name)]) or not name or name == state
    ]
    shown = [one for one in lines if _fits(one, state) and given["q"].lower() in one.name.lower()]
    return await desk.page(
        request,
        reader,
        "routes.html",
        live="routes workflows incidents",
        given=given,
        lines=shown,
        views=views,
        chips=[(f"{name}: {given[name]}", given.with_(**{name: None})) for name in ("state", "q") if given[name]],
    )


def _fits(line: Line, state: str) -> bool:
    return not state or (line.state is STANDINGS["active"]) == (state == "active")


def _lines(stored: Stored, counts: Mapping[str, tuple[int, int]], now_ms: int) -> Iterator[Line]:
    by_name: dict[str, list[Version]] = {}
    for version in stored.versions:
        by_name.setdefault(version.name, []).append(version)
    latest, in_effect = stored.timeline.latest(), stored.digests_at(now_ms)
    # those in effect first, each kind by name
    for name in sorted(by_name, key=lambda one: (one not in in_effect, one)):
        versions, change = by_name[name], latest.get(name)
        shown = _shown_version(versions, in_effect.get(name) or (change.digest if change else None))
        running, incidents = counts.get(name, (0, 0))
        yield Line(
            name,
            _starts(shown.route),
            _state_of_route(name, change, in_effect),
            _since(change),
            change.activation.by if change else "",
            len(versions),
            running,
            incidents,
        )


def _shown_version(versions: list[Version], digest: str | None) -> Version:
    """The version with this digest, else the one that was stored last."""
    return next((one for one in versions if one.digest == digest), versions[-1])


def _state_of_route(name: str, change: RouteChange | None, in_effect: Mapping[str, str]) -> State:
    if name in in_effect:
        return STANDINGS["active"]
    if change is None:
        return STANDINGS["stored"]
    return STANDINGS["withdrawn" if change.digest is None else "soon"]


def _since(change: RouteChange | None) -> int | None:
    return None if change is None or change.since_ms == FROM_THE_BEGINNING else change.since_ms


def _starts(route: Route | None) -> str:
    """By what a workflow of the route is started, in a few words."""
    if route is None:
        return "can't be read here"
    if route.on is None:
        return "called by others"
    return f"{route.on.schedule.cron}" if route.on.schedule is not None else route.on.type


# One route ----------------------------------------------------------------------------------------


async def route(desk: Desk, request: Request, reader: Reader) -> Response:
    """One version of a route: its picture with what is where now, its text, and the others."""
    given = Parameters(request.scope["query_string"], ["name", "version", "compare", "graph"])
    forbid_others(reader)
    given.among("graph", ["all"])
    name, stored, now_ms = given.needed("name"), desk.projector.routes, desk.now_ms()
    versions = [one for one in stored.versions if one.name == name]
    if not versions:
        raise NotFound(f"There is no route {name}. Routes have a list of their own: /routes.")
    history, active = stored.timeline.history(name), stored.digests_at(now_ms).get(name)
    last = history[-1] if history else None
    shown = _version(versions, given["version"]) or _shown_version(versions, active or (last.digest if last else None))
    other = _version(versions, given["compare"])

    def found(db: apsw.Connection) -> tuple[dict[str, Use], dict[str, dict[str, int]]]:
        return uses(db), queries.count_steps_of_version(db, shown.digest)

    used, counts = await desk.log(found)
    lines = [_version_line(one, history, active, used, now_ms) for one in reversed(versions)]
    return await desk.page(
        request,
        reader,
        "route.html",
        live="routes workflows incidents",
        given=given,
        name=name,
        starts=_starts(shown.route),
        guard=_guard(shown.route),
        state=_state_of_route(name, last, {name: active} if active else {}),
        last=last,
        shown=next(one for one in lines if one.version is shown),
        lines=lines,
        other=None if other is None else short(other.digest),
        differences=None if other is None else list(_differences(other, shown)),
        graph=_graph(shown.route, counts, is_whole=bool(given["graph"])),
        # a document may be long, and others wait for this loop
        text="" if shown.route is None else await run_in_threadpool(as_yaml, shown.route.definition),
    )


def short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:DIGITS]


def _version(versions: list[Version], text: str) -> Version | None:
    """The version that the beginning of a digest names; None: no text was given."""
    if not text:
        return None
    found = [one for one in versions if one.digest.removeprefix("sha256:").startswith(text.removeprefix("sha256:"))]
    if not found:
        raise NotFound(f"This route has no version {text}.")
    if len(found) > 1:
        raise BadParameter(f"several versions begin with {text!r}; write more of it")
    return found[0]


def _version_line(
    version: Version, history: list[RouteChange], active: str | None, used: Mapping[str, Use], now_ms: int
) -> VersionLine:
    change = next((one for one in reversed(history) if one.digest == version.digest), None)
    if version.route is None:
        standing = "unreadable"
    elif version.digest == active:
        standing = "active"
    elif change is None:
        standing = "stored"
    else:
        standing = "soon" if change.since_ms > now_ms else "before"
    return VersionLine(
        version,
        short(version.digest),
        STANDINGS[standing],
        _since(change),
        change.activation.by if change else "",
        change.activation.reason if change else "",
        used.get(version.digest, Use()),
    )


def _guard(found: Route | None) -> str:
    condition = None if found is None or found.on is None else found.on.condition
    return "" if condition is None else one_line(condition.source, VALUE)


def _graph(found: Route | None, counts: Mapping[str, Mapping[str, int]], *, is_whole: bool) -> Markup | int | None:
    """The picture; a number: it has that many boxes, and is not drawn unless asked for."""
    if found is None:
        return None
    if len(found.steps) > MOST_BOXES and not is_whole:
        return len(found.steps)
    return draw_route(found, counts, link=f"{link('/workflows', route=found.name, state='open')}&step=")


def _differences(before: Version, after: Version) -> Iterator[Difference]:
    if before.route is None or after.route is None:
        raise BadParameter("one of these versions can't be read here, so they can't be compared")
    for one in changes(before.route.definition, after.route.definition):
        yield Difference(
            path_text(one.path),
            None if one.kind == "added" else _value(one.before),
            None if one.kind == "removed" else _value(one.after),
        )


def _value(value: Any) -> str:
    return one_line(value if isinstance(value, str) else exact_json.encode(value).decode(), VALUE)
