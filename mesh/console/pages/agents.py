"""Agents and routers: who is alive, what they do, and what waits for them."""

from typing import Final, NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from mesh.console.desk import Desk
from mesh.console.pages.workflows import forbid_others
from mesh.console.parameters import Parameters
from mesh.console.staff import Reader
from mesh.console.words import State
from mesh.inspection.mesh_status import AgentStatus, RouterStatus
from mesh.inspection.wording.plain import counted, duration

_STATES: Final = ("alive", "stopped", "late")


class AgentLine(NamedTuple):
    row: AgentStatus
    state: State
    is_late: bool


class RouterLine(NamedTuple):
    row: RouterStatus
    state: State


async def agents(desk: Desk, request: Request, reader: Reader) -> Response:
    """All agents in one table, and all routers."""
    given = Parameters(request.scope["query_string"], ["name", "state"])
    forbid_others(reader)
    state, status, now_ms = given.among("state", _STATES), desk.projector.status, desk.now_ms()
    lines = [] if status is None else [_agent(one, now_ms) for one in status.agents]
    shown = [
        one
        for one in lines
        if given["name"] in ("", one.row.name)
        and (state == "" or (one.is_late if state == "late" else bool(one.row.alive) == (state == "alive")))
    ]
    return await desk.page(
        request,
        reader,
        "agents.html",
        live="agents status",
        given=given,
        is_looking=status is None,
        agents=sorted(shown, key=lambda one: (one.state.hue != "bad", one.row.name)),
        total=len(lines),
        routers=[] if status is None else [_router(one, now_ms) for one in status.routers],
        partitions=[] if status is None else status.partitions,
        paused=[] if status is None else [one for one in status.agents if one.pause is not None],
        conflicts=[] if status is None else [one for one in status.agents if one.conflict is not None],
    )


def _agent(row: AgentStatus, now_ms: int) -> AgentLine:
    is_late = bool(row.overdue)
    if row.pause is not None:
        return AgentLine(row, State("ask", "idle", f"Paused by {row.pause.by}"), is_late)
    if row.alive:
        said = f"Late with {counted(row.overdue, 'task')}" if is_late else "Alive"
        return AgentLine(row, State("bad" if is_late else "good", "bad" if is_late else "good", said), is_late)
    if row.heard_at_ms is None:
        is_wanted = bool(row.lag or row.running)
        return AgentLine(
            row, State("bad" if is_wanted else "off", "bad" if is_wanted else "idle", "Never started"), is_late
        )
    return AgentLine(row, State("bad", "bad", f"Stopped {duration(now_ms - row.heard_at_ms)} ago"), is_late)


def _router(row: RouterStatus, now_ms: int) -> RouterLine:
    if row.state == "alive":
        return RouterLine(row, State("good", "good", "Alive"))
    word = "Stopped" if row.state == "stopped" else "Gone"
    hue = "bad" if row.partitions else "off"
    return RouterLine(
        row, State("bad" if row.partitions else "off", hue, f"{word} {duration(now_ms - row.heard_at_ms)} ago")
    )
