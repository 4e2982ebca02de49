"""One rehearsal: whether the new rules start the run, how it goes in the sandbox, and what differs.

Owns the verdict. `mesh.inspection.replay` calls it for each run.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from mesh.core.calendars import CalendarsAt, no_calendars
from mesh.core.events import WorkflowEnded
from mesh.core.matching import Match, RouteIndex
from mesh.core.route import Route
from mesh.core.schedules import FIRED_TYPE
from mesh.inspection.what_if.comparison import Difference, Fact, differences, events_of
from mesh.inspection.what_if.recording import Run
from mesh.inspection.what_if.sandbox import Sandbox


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    step: str
    why: str


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """What a run comes to under the new rules.

    `verdict` unknown: nothing differs, as far as it can be known. `before`, `after`: the workflow's
    status; `after` is None if it is unknown.
    """

    workflow_id: str
    run_id: str
    digest: str
    verdict: Literal["same", "differs", "unknown"]
    before: str
    after: str | None
    first: Difference | None = None
    others: int = 0  # steps with differences, beyond the first
    unknown: tuple[Unknown, ...] = ()


def rehearse(
    run: Run,
    route: Route,
    roles: Mapping[str, frozenset[str]] | None = None,
    calendars_at: CalendarsAt = no_calendars,
) -> Rehearsal:
    """Play the run under `route`.

    `roles`: person to roles. None: the person who answered has the role that they had.
    `calendars_at`: those that questions are asked by.
    """
    refusal = _refusal(run, route)
    if refusal is not None:
        started = Fact(step="", what="started", detail={"workflow": run.workflow_id})
        return _result(run, "not started", [Difference(step="", before=started, after=refusal)], ())
    sandbox = Sandbox(run, route, roles, calendars_at)
    sandbox.play()
    ended = sandbox.ended
    found = differences(run, sandbox.facts, route, complete=ended is not None)
    after = ended.status if ended is not None else (None if sandbox.unknown else "running")
    return _result(run, after, found, tuple(Unknown(step=name, why=why) for name, why in sandbox.unknown.items()))


def _refusal(run: Run, route: Route) -> Fact | None:
    """What the new rules do instead of starting this workflow; None if they start it."""
    if run.started.caller is not None:
        return None  # a call names its route, so no event has to match
    if route.on is not None and route.on.schedule is not None and run.started.cloud_event.get("type") == FIRED_TYPE:
        return None  # the times at which a schedule fires are not replayed
    index = RouteIndex([route])
    matches = index.match(run.started.cloud_event)
    if not matches:
        return Fact(step="", what="not started", detail={"reason": index.explain(run.started.cloud_event)[0].reason})
    match = matches[0]
    if not isinstance(match, Match):
        return Fact(step="", what="not started", detail={"reason": match.message})
    if match.workflow_id != run.workflow_id:
        return Fact(step="", what="started", detail={"workflow": match.workflow_id})
    return None


def _result(run: Run, after: str | None, found: list[Difference], unknown: tuple[Unknown, ...]) -> Rehearsal:
    return Rehearsal(
        workflow_id=run.workflow_id,
        run_id=run.started.run_id,
        digest=run.started.digest,
        verdict="differs" if found else "unknown" if unknown else "same",
        before=next((event.status for event in events_of(run) if isinstance(event, WorkflowEnded)), "running"),
        after=after,
        first=found[0] if found else None,
        others=max(0, len(found) - 1),
        unknown=unknown,
    )
