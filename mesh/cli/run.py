"""`mesh run ROUTE`: start one workflow by hand, and wait for its end.

Owns the event that starts it, and checks first that the route takes it.
"""

import asyncio
import sys
from functools import partial
from typing import Any

import click
from rich.text import Text

from mesh.cli.exit_codes import FAILED
from mesh.cli.options import timeout_option
from mesh.cli.publish import json_option
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import one_line, printable, readable
from mesh.codec import exact_json
from mesh.codec.approvals import ApprovalRequest
from mesh.codec.outcomes import Outcome
from mesh.core.matching import Match, MatchProblem, RouteIndex
from mesh.core.route import Route
from mesh.errors import NotFound, SenderError
from mesh.inspection.route_versions import active_routes
from mesh.ports import Broker


@click.command(short_help="Start one workflow of a route by hand.")
@click.argument("route_name", metavar="ROUTE")
@click.option("--data", metavar="JSON|@FILE|FILE", help="The start event's data.")
@click.option("--type", "event_type", metavar="TYPE", help="The event's type; the route's own without it.")
@click.option(
    "--source", metavar="URI", default="/mesh/cli", show_default=True, help="CloudEvents source: who says so."
)
@click.option("--id", "event_id", metavar="ID", help="The event's id; a fresh one without it.")
@click.option("--subject", metavar="TEXT", help="What it is about.")
@click.option("--wait", is_flag=True, help="Wait for the workflow's end, and exit with 1 unless it is completed.")
@timeout_option("With --wait: how long to wait for the end.", default_s=300.0)
@mesh_command
def run(
    session: Session,
    *,
    route_name: str,
    data: str | None,
    event_type: str | None,
    source: str,
    event_id: str | None,
    subject: str | None,
    wait: bool,
    timeout_s: float,
) -> None:
    """Publish an event that starts ROUTE, once it is certain that the route wants it.

    \b
    mesh run issue-triage --data issue.json --subject 12 --wait
    """  # noqa: D301 - \b is click\'s mark of a paragraph to leave as it is
    given = {"id": event_id, "subject": subject, "type": event_type}
    event: dict[str, Any] = {"source": source} | {name: value for name, value in given.items() if value is not None}
    if data is not None:
        event["data"] = json_option(data if data[:1] in '@{["' or _is_json(data) else f"@{data}", "--data")
    session.run(_run(session, route_name, event, timeout_s=timeout_s if wait else None))


def _is_json(text: str) -> bool:
    try:
        exact_json.decode(text)
    except exact_json.NotJson:
        return False
    except exact_json.JsonRefused:
        return True  # it is JSON, and its own fault is reported later
    return True


async def _run(session: Session, route_name: str, event: dict[str, Any], *, timeout_s: float | None) -> None:
    async with session.broker() as broker:
        route = await _route(session, broker, route_name)
        if route.on is None:
            raise SenderError(f"no event starts route {route_name}: steps of other routes call it")
        if route.on.schedule is not None:
            raise SenderError(f"no event starts route {route_name}: its schedule does, {route.on.schedule.cron}")
        event = {"specversion": "1.0", "id": session.fresh_id(), "type": route.on.type, **event}
        match = _match(route, event)
        client = session.client(broker)
        # Before the event is published, so that no question of the workflow is missed.
        asked_from = await client.request_position(match.workflow_id) if timeout_s is not None else {}
        event_id = await client.publish(event)
        session.note(f"published {event_id}; workflow {printable(match.workflow_id)}")
        if timeout_s is None:
            if session.as_json:
                session.emit({"event_id": event_id, "workflow_id": match.workflow_id})
            else:
                session.show(printable(match.workflow_id))
            return
        pauses = asyncio.create_task(
            client.follow_requests(match.workflow_id, asked_from, partial(_tell_pause, session))
        )
        try:
            outcome = await client.wait_outcome(event_id, timeout_s=timeout_s)
        finally:
            pauses.cancel()
            # a missed pause must not hide the outcome
            await asyncio.gather(pauses, return_exceptions=True)
    show_outcome(session, outcome)
    if outcome.status != "completed":
        sys.exit(FAILED)


def _tell_pause(session: Session, request: ApprovalRequest) -> None:
    question = one_line(request.question, 80)
    session.note(f"it waits for a person with role {printable(request.role)}: {question} (`mesh approvals` answers)")


async def _route(session: Session, broker: Broker, name: str) -> Route:
    routes = {route.name: route for route in await active_routes(broker, session.topics, session.now_ms())}
    if name not in routes:
        there = (
            f"there are {', '.join(sorted(routes))}"
            if routes
            else "none is active: start `mesh router --routes FOLDER`, or `mesh routes apply FOLDER`"
        )
        raise NotFound(f"no route is called {name!r}; {there}")
    return routes[name]


def _match(route: Route, event: dict[str, Any]) -> Match:
    for found in RouteIndex([route]).match(event):
        match found:
            case Match():
                return found
            case MatchProblem():
                raise SenderError(f"route {route.name} can't start with this event: {found.message}")
    [explanation] = RouteIndex([route]).explain(event)
    raise SenderError(f"route {route.name} does not want this event: {explanation.reason}")


def show_outcome(session: Session, outcome: Outcome) -> None:
    """Print how a workflow ended."""
    if session.as_json:
        session.emit(outcome)
        return
    style = "green" if outcome.status == "completed" else "red"
    line = Text(outcome.status, style=f"bold {style}")
    line.append(f"  {printable(outcome.workflow_id)}", style="default")
    if outcome.reason:
        line.append(f"  {printable(outcome.reason)}", style="dim")
    session.show(line)
    if outcome.output is not None:
        session.show(Text("\n".join(f"  {text}" for text in readable(outcome.output).split("\n"))))
