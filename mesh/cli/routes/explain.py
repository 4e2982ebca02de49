"""`mesh routes explain EVENT.json`: which rules match an event, which do not, and why.

Owns how the event is read and the answers are shown; `mesh.inspection.explanation` finds them.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
from rich.padding import Padding
from rich.text import Text

from mesh.cli.github import check_delivery, delivery_options, github_event
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import one_line, printable, readable
from mesh.codec import exact_json
from mesh.codec.cloudevents import normal_event, present
from mesh.codec.route_file import load_routes
from mesh.core.matching import Match, RouteIndex
from mesh.core.route import Route
from mesh.core.state import Workflow
from mesh.errors import MalformedRecord, NotFound
from mesh.inspection.explanation import Awaited, First, RouteSaid, explain_event
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.route_versions import active_routes
from mesh.routes.expressions.subexpressions import Part

SHOWN: Final = 100  # characters of a value on its line
VERBS: Final = {
    "dispatch": "dispatched to {}",
    "ask": "asks role {}",
    "call": "calls route {}",
    "wait": "waits for {}",
    "for_each": "for each item (the first is shown)",
    "value": "computed",
    "emit": "emits {}",
    "take": "takes the event",
    "hold": "held",
    "skip": "skipped",
    "cancel": "cancelled",
    "incident": "incident",
    "ended": "the workflow ends",
    "nothing": "nothing would happen",
}
STYLES: Final = {
    "dispatch": "cyan",
    "ask": "yellow",
    "call": "cyan",
    "wait": "yellow",
    "for_each": "cyan",
    "value": "cyan",
    "emit": "cyan",
    "take": "green",
    "hold": "yellow",
    "skip": "dim",
    "cancel": "dim",
    "incident": "red",
    "ended": "green",
    "nothing": "yellow",
}


@click.command(short_help="Tell which rules match an event, and why.")
@click.argument("source_file", metavar="EVENT.json")
@click.option(
    "--routes",
    "paths",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="Route files and folders; without it, the newest of each route that the broker has.",
)
@click.option("--github", is_flag=True, help="The file is the body of a GitHub webhook.")
@delivery_options
@click.option("--payloads", is_flag=True, help="With what agents would get and people would be asked, in full.")
@mesh_command
def explain(
    session: Session,
    *,
    source_file: str,
    paths: tuple[Path, ...],
    github: bool,
    delivery: str | None,
    kind: str | None,
    payloads: bool,
) -> None:
    """Tell which rules match EVENT.json (one CloudEvent; - for standard input), and why.

    For all rules: what every part of their conditions came to. For those that match: the key, the
    workflow's id, and what would be done first; and the workflows in which a step waits for it.
    Nothing is sent. With the broker's routes, a workflow that is there already counts too.
    """
    event = _event(source_file, github=github, delivery=delivery, kind=kind)
    if paths:
        said = explain_event([one.route for one in load_routes(paths)], event, now_ms=session.now_ms())
    else:
        said = session.run(_online(session, event))
    if session.as_json:
        session.emit({"event": {name: value for name, value in event.items() if name != "data"}, "routes": said})
        return
    for part in _shown(event, said, payloads=payloads):
        session.show(part)


def _event(source: str, *, github: bool, delivery: str | None, kind: str | None) -> dict[str, Any]:
    check_delivery(is_github=github, delivery=delivery, kind=kind)
    raw = sys.stdin.buffer.read() if source == "-" else _bytes(Path(source))
    if github:
        return normal_event(github_event(raw, delivery=delivery, kind=kind))
    try:
        document = exact_json.decode(raw)
    except exact_json.JsonRefused as error:
        raise MalformedRecord(f"{source}: {error}") from error
    if not isinstance(document, dict):
        raise MalformedRecord(f"{source}: a CloudEvent is a JSON object with id, source, type and data")
    if "repository" in document and "type" not in document:
        raise MalformedRecord(f"{source} is not a CloudEvent, but looks like a GitHub payload: give --github")
    try:
        return normal_event({"specversion": "1.0", "id": "explained", **present(document)})
    except MalformedRecord as error:
        raise MalformedRecord(f"{source}: {error}") from error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise click.BadParameter(f"{path} can't be read: {error.strerror}", param_hint="EVENT.json") from error


async def _online(session: Session, event: dict[str, Any]) -> list[RouteSaid]:
    async with session.model() as (broker, model):
        now_ms = session.now_ms()
        routes = await active_routes(broker, session.topics, now_ms)
        if not routes:
            raise NotFound(
                "the broker has no active routes: `mesh routes apply FOLDER` makes some, or say --routes PATH here"
            )
        found = _states(model, _ids(routes, event))
        found |= _states(model, [state.holder.workflow_id for state in found.values() if state and state.holder])
    return explain_event(routes, event, workflows=_remembered(found, now_ms), now_ms=now_ms)


def _states(model: ReadModel, names: list[str]) -> dict[str, Workflow | None]:
    return {name: queries.workflow_state(model.db, name, remembered=True) for name in names}


def _ids(routes: list[Route], event: dict[str, Any]) -> list[str]:
    index = RouteIndex(routes)
    found = [match.workflow_id for match in index.match(event) if isinstance(match, Match)]
    return [*found, *(offer.workflow_id for offer in index.offers(event))]


def _remembered(found: dict[str, Workflow | None], now_ms: int) -> dict[str, Workflow]:
    return {
        name: state
        for name, state in found.items()
        if state is not None and (state.forget_at_ms is None or state.forget_at_ms > now_ms)
    }


# For people ---------------------------------------------------------------------------------------


def _shown(event: dict[str, Any], said: list[RouteSaid], *, payloads: bool) -> Iterator[Text | Padding]:
    head = Text(printable(str(event["type"])), style="bold cyan")
    head.append(f"  {printable(str(event['source']))}  {printable(str(event['id']))}", style="dim")
    yield head
    others = [one for one in said if not (one.matched or one.guard or one.key or one.awaited)]
    for one in said:
        if one in others:
            continue
        yield Text()
        yield from _route(one, payloads=payloads)
    if others:
        yield Text()
    for one in others:
        yield Text(f"- {one.route}: {printable(one.reason)}", style="dim")
    if not any(one.matched or one.awaited for one in said):
        yield Text()
        yield Text("no route wants it", style="yellow")


def _route(one: RouteSaid, *, payloads: bool) -> Iterator[Text | Padding]:
    sign, style = ("+", "bold green") if one.matched else ("-", "bold red")
    yield Text(f"{sign} {one.route}", style=style) + Text(f"  {printable(one.reason)}", style="default")
    if one.guard is not None:
        yield from _part(one.guard, 2, lead="if")
    for part in one.key:
        yield from _part(part, 2, lead="key")
    for first in one.first:
        yield from _first(first, payloads=payloads)
    for awaited in one.awaited:
        yield from _awaited(awaited, payloads=payloads)


def _awaited(one: Awaited, *, payloads: bool) -> Iterator[Text | Padding]:
    style = {True: "bold green", False: "yellow", None: "bold cyan"}[one.takes]
    yield Text("~ ", style=style) + Text(printable(one.said), style="default")
    for part in one.key:
        yield from _part(part, 2, lead="key")
    if one.condition is not None:
        yield from _part(one.condition, 2, lead="if")
    for first in one.first:
        yield from _first(first, payloads=payloads)


def _first(first: First, *, payloads: bool) -> Iterator[Text | Padding]:
    line = Text("  ")
    line.append(f"{first.step}: " if first.step else "", style="bold")
    line.append(VERBS[first.what].format(first.to), style=STYLES[first.what])
    if first.said:
        line.append(
            f": {printable(first.said)}" if first.what in {"ask", "nothing"} else f"  {printable(first.said)}",
            style="dim",
        )
    if first.value is not None and not payloads:
        line.append(f"  {_json(first.value)}", style="dim")
    yield line
    if first.condition is not None:
        yield from _part(first.condition, 6, lead="if")
    if first.value is not None and payloads:
        yield Padding(Text(readable(first.value)), (0, 0, 1, 6), expand=False)


def _part(part: Part, indent: int, *, lead: str = "") -> Iterator[Text]:
    line = Text(" " * indent)
    line.append(f"{lead}  " if lead else "", style="dim")
    if part.error:
        line.append("error", style="red")
    else:
        line.append(_json(part.value), style=_style(part.value))
    line.append(f"  {printable(part.text)}")
    if part.error and not part.parts:
        line.append(f"  {printable(part.error)}", style="red")
    yield line
    below = indent + len(lead) + 2 + (2 if lead else 0)
    for path in part.paths:
        if path.text != part.text and not path.error:
            yield Text(" " * below + f"{printable(path.text)} is {_json(path.value)}", style="dim")
    for one in part.parts:
        yield from _part(one, below)


def _style(value: Any) -> str:
    return ("green" if value else "red") if isinstance(value, bool) else "default"


def _json(value: Any) -> str:
    try:
        return one_line(exact_json.encode(value).decode(), SHOWN)
    except TypeError:
        return one_line(str(value), SHOWN)
