"""`mesh routes check`, `mesh routes schema`: what can be said of a route file before anything runs.

Owns where the agents, roles and contracts come from, and how findings are shown;
`mesh.inspection.checks` finds them. `mesh routes apply` checks in the same way.
"""

import sys
from collections.abc import Collection
from pathlib import Path

import click
import msgspec
import orjson
from msgspec.structs import replace
from rich.text import Text

from mesh.cli.exit_codes import FAILED
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import counted, printable
from mesh.codec.approvers_file import load_approvers
from mesh.codec.capability_files import load_contracts
from mesh.core.state import AgentCard
from mesh.errors import TopicMissing
from mesh.inspection.card_conflicts import SchemaConflict, conflicts_of
from mesh.inspection.checks.report import Finding, Report
from mesh.inspection.checks.report import check as check_routes
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.routers import routers
from mesh.inspection.router_roles import roles_of_all
from mesh.ports import Broker
from mesh.routes.schema.route import route_schema
from mesh.services.calendars import read_calendars

STYLES = {"error": "bold red", "warning": "yellow"}


@click.command(short_help="Check route files.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--agents", multiple=True, metavar="MODULE", help="Hold the routes against the agents of this module; repeatable."
)
@click.option(
    "--online", is_flag=True, help="... against the agents that have a card on the broker (so does --broker)."
)
@click.option(
    "--approvers",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="... against the roles in this approvers.yaml (else MESH_APPROVERS, where that file is there).",
)
@click.option(
    "--capabilities",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="DIR",
    help="... against the capabilities' contracts in this folder (or file); repeatable.",
)
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@mesh_command
def check(
    session: Session,
    *,
    files: tuple[Path, ...],
    agents: tuple[str, ...],
    online: bool,
    approvers: Path | None,
    capabilities: tuple[Path, ...],
    strict: bool,
) -> None:
    """Check route FILES (or folders).

    Prints one line for each thing that can't work or is probably a mistake. Exits with 1 on errors.

    Without --agents or --online, agents and what they take and give are not checked; without an
    approvers' file, roles are not (with --online, routers that run tell them); without
    --capabilities, contracts are not.
    """
    is_online = online or click.get_current_context().params.get("broker") is not None
    found = session.run(look_online(session)) if is_online else Online()
    known = found.agents | cards_of_modules(session, agents) if agents or is_online else None
    usual = None if found.is_ruled else session.settings.approvers
    roles = roles_of(approvers or usual, found.roles)
    contracts = load_contracts(capabilities) if capabilities else None
    report = check_routes(
        files,
        agents=known,
        roles=roles,
        contracts=contracts,
        conflicts=found.conflicts,
        calendars=found.calendars,
        answers=session.settings.least_answer,
    )
    failed = report.count("error") > 0 or (strict and report.count("warning") > 0)
    if session.as_json:
        session.emit(_document(report, ok=not failed))
    else:
        for finding in report.findings:
            session.show(finding_line(finding))
        session.note(summary_of(report))
    if failed:
        sys.exit(FAILED)


class Online(msgspec.Struct, frozen=True, kw_only=True):
    """What the broker knows of agents and roles.

    `agents`: all that have or had a card, by name. `conflicts`: those whose living replicas
    disagree. `roles`: those that every living router knows somebody to have; None: none says.
    `is_ruled`: they have them from the people's topic, so a file does not count. `calendars`: those
    that were applied; None: their topic is not there.
    """

    agents: dict[str, AgentCard] = {}
    conflicts: dict[str, SchemaConflict] = {}
    roles: frozenset[str] | None = None
    is_ruled: bool = False
    calendars: frozenset[str] | None = None


async def look_online(session: Session) -> Online:
    async with session.model() as (broker, model):
        now_ms = session.now_ms()
        alive = [row.card for row in queries.cards(model.db) if row.is_alive(now_ms)]
        rows = routers(model.db)
        return Online(
            agents=known_cards(model),
            conflicts=conflicts_of(alive),
            roles=roles_of_all(rows, now_ms),
            is_ruled=any(row.card.people for row in rows if row.is_alive(now_ms)),
            calendars=await _calendars(broker, session),
        )


async def _calendars(broker: Broker, session: Session) -> frozenset[str] | None:
    try:
        return frozenset((await read_calendars(broker, session.topics)).timeline.names())
    except TopicMissing:
        return None


def roles_of(approvers: Path | None, online: frozenset[str] | None) -> Collection[str] | None:
    """The roles that somebody has: by the file, or by the routers where there is no such file.

    None if neither tells.
    """
    if approvers is None or not approvers.exists():
        return online
    return {role for held in load_approvers(approvers).values() for role in held}


def known_cards(model: ReadModel) -> dict[str, AgentCard]:
    """The card of every agent that has or had one on the broker, the one that was renewed last.

    It has the capabilities that the agent is registered for.
    """
    rows = queries.cards(model.db)
    cards = {row.card.name: row.card for row in reversed(rows)}
    registered = {row.card.name: row.card.capabilities for row in rows if row.card.registration}
    return {name: replace(card, capabilities=registered.get(name, ())) for name, card in cards.items()}


def cards_of_modules(session: Session, modules: tuple[str, ...]) -> dict[str, AgentCard]:
    if not modules:
        return {}
    from mesh.services.agent_runtime.cards import card_of  # noqa: PLC0415 - loads what agents need
    from mesh.wiring import load_agents  # noqa: PLC0415 - as above

    cards = [
        card_of(agent, topics=session.topics, instance="", now_ms=session.now_ms()) for agent in load_agents(modules)
    ]
    return {card.name: card for card in cards}


def finding_line(finding: Finding) -> Text:
    line = Text(f"{printable(finding.where)}: ", style="default")
    line.append(finding.severity, style=STYLES[finding.severity])
    line.append(f": {printable(finding.message)}")
    return line.append(f" [{finding.code}]", style="dim")


def summary_of(report: Report) -> str:
    said = f"{counted(report.files, 'file')}, {counted(report.routes, 'route')}: "
    said += f"{counted(report.count('error'), 'error')}, {counted(report.count('warning'), 'warning')}"
    unchecked = [
        what
        for what, known in (
            ("agents (--agents MODULE or --online)", report.agents_known),
            ("roles (--approvers FILE)", report.roles_known),
            ("capabilities (--capabilities DIR)", report.contracts_known or not report.asks_capabilities),
        )
        if not known
    ]
    return said + (f"; not checked: {', '.join(unchecked)}" if unchecked else "")


def _document(report: Report, *, ok: bool) -> dict[str, object]:
    return {
        "ok": ok,
        "files": report.files,
        "routes": report.routes,
        "agents_checked": report.agents_known,
        "roles_checked": report.roles_known,
        "capabilities_checked": report.contracts_known,
        "errors": report.count("error"),
        "warnings": report.count("warning"),
        "findings": report.findings,
    }


@click.command(short_help="Print the JSON Schema of the route file.")
@mesh_command
def schema(session: Session) -> None:
    """Print the JSON Schema of the route file, for editors.

    \b
    mesh routes schema > route.schema.json
    # yaml-language-server: $schema=route.schema.json     as the route file's first line
    """  # noqa: D301 - \b is click\'s mark of a paragraph to leave as it is
    del session  # the schema is JSON, with --json or without
    click.echo(orjson.dumps(route_schema(), option=orjson.OPT_INDENT_2).decode())
