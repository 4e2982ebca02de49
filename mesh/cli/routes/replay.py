"""`mesh routes replay`: what changed rules would have decided about recorded workflows.

Owns which runs are replayed, and how the differences are shown; `mesh.inspection.replay` replays.
"""

import re
import sys
from collections import Counter
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.table import Table
from rich.text import Text

from mesh.cli.exit_codes import FAILED
from mesh.cli.moments import moment
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import counted, one_line, printable
from mesh.codec import exact_json
from mesh.codec.approvers_file import load_approvers
from mesh.codec.route_file import load_routes
from mesh.core.calendars import CalendarsAt, no_calendars
from mesh.errors import NotFound, TopicMissing
from mesh.inspection.replay import read_runs, replay_runs
from mesh.inspection.route_versions import Change, changes
from mesh.inspection.what_if import Difference, Rehearsal
from mesh.inspection.wording.facts import fact_words
from mesh.routes.expressions.paths import path_text
from mesh.services.calendars import read_calendars

STYLES: Final = {"same": "green", "differs": "yellow", "unknown": "dim"}
ORDER: Final = ("differs", "unknown", "same")
COUNTED: Final = {"differs": "{} would go differently", "unknown": "{} unknown", "same": "{} the same"}
SHOWN: Final = 60  # characters of a value
LEAD: Final = 20  # of these, what is the same before the first difference


@click.command(short_help="Play recorded workflows through changed rules.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--since",
    metavar="WHEN",
    help="Workflows that started then or later: 2h, 7d, or 2026-11-20T08:00:00Z; all without it.",
)
@click.option("--workflow", "part", metavar="ID", help="Only workflows whose id contains this.")
@click.option(
    "--approvers",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Who has which role; without it, each person who answered has the role they had then.",
)
@click.option("--all", "show_all", is_flag=True, help="List those too that are the same.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Lines to show; JSON has all.")
@click.option("--exit-code", "exit_code", is_flag=True, help="Exit with 1 if any workflow differs.")
@mesh_command
def replay(
    session: Session,
    *,
    files: tuple[Path, ...],
    since: str | None,
    part: str | None,
    approvers: Path | None,
    show_all: bool,
    limit: int,
    exit_code: bool,
) -> None:
    """Play recorded workflows through the changed rules in FILE, in a sandbox.

    They get their own events, agents' results and people's answers. Nothing is sent.

    \b
    mesh routes replay --since 7d new.yaml

    For each workflow: whether the rules would have decided the same, else the first decision that
    differs. What depends on a result that was never recorded is unknown. Times (timeout, backoff,
    deadline) count if they change what happens.
    """  # noqa: D301 - \b is click\'s mark of a paragraph to leave as it is
    routes = {one.route.name: one.route for one in load_routes(files)}
    roles = None if approvers is None else load_approvers(approvers)
    since_ms = 0 if since is None else moment(since, session.now_ms(), "--since")
    runs, calendars_at = session.run(_read(session, list(routes), since_ms))
    found = replay_runs(_chosen(runs, part), routes, roles=roles, calendars_at=calendars_at)
    if not found and part is not None:
        raise NotFound(f"no workflow of {', '.join(routes)} has {part!r} in its id and began by then")
    counts: Counter[str] = Counter(one.verdict for one in found)
    if session.as_json:
        session.emit({"counts": {verdict: counts[verdict] for verdict in ORDER}, "workflows": found})
    else:
        _show(session, [one for one in found if show_all or one.verdict != "same"], limit)
        session.note(_summary(found, counts, routes))
    if exit_code and counts["differs"]:
        sys.exit(FAILED)


def _chosen(runs: list[Any], part: str | None) -> list[Any]:
    """The runs with this workflow id; if there are none, those whose id contains it."""
    if part is None:
        return runs
    return [run for run in runs if run.workflow_id == part] or [run for run in runs if part in run.workflow_id]


async def _read(session: Session, routes: list[str], since_ms: int) -> tuple[list[Any], CalendarsAt]:
    """The runs, and the calendars that questions are asked by."""
    async with session.broker(read_only=True) as broker:
        runs = await read_runs(broker, session.topics, routes=routes, since_ms=since_ms)
        try:
            return runs, (await read_calendars(broker, session.topics)).at
        except TopicMissing:
            return runs, no_calendars


# For people ---------------------------------------------------------------------------------------


def _summary(found: list[Rehearsal], counts: Counter[str], routes: dict[str, Any]) -> str:
    if not found:
        return f"no workflow of {', '.join(routes)} began in that time"
    said = ", ".join(COUNTED[verdict].format(f"{counts[verdict]:,}") for verdict in ORDER if counts[verdict])
    return f"{counted(len(found), 'workflow')}: {said}; nothing was sent"


def _show(session: Session, rows: list[Rehearsal], limit: int) -> None:
    if not rows:
        return
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 3, 0, 0))
    table.add_column("WORKFLOW", overflow="fold", ratio=2)
    table.add_column("RULES", no_wrap=True)
    table.add_column("END", overflow="fold")
    table.add_column("FIRST DIFFERENCE", overflow="fold", ratio=3)
    for one in sorted(rows, key=lambda row: ORDER.index(row.verdict))[:limit]:
        table.add_row(
            Text(printable(one.workflow_id), style="bold"),
            Text(one.verdict, style=STYLES[one.verdict]),
            _end(one),
            _why(one),
        )
    session.show(table)
    if len(rows) > limit:
        session.note(f"... and {len(rows) - limit:,} more: --limit shows them")


def _end(one: Rehearsal) -> str:
    after = one.after or "unknown"
    return one.before if after == one.before else f"{one.before} -> {after}"


def _why(one: Rehearsal) -> Text:
    lines = [difference_words(one.first)] if one.first is not None else []
    if one.others:
        lines.append(f"and {counted(one.others, 'other step')}")
    lines += [f"unknown from {unknown.step}: {unknown.why}" for unknown in one.unknown]
    return Text(printable("\n".join(lines)))


def difference_words(one: Difference) -> str:
    """The first decision that differs, on one line: the step, and what changed into what."""
    where = f"{one.step}: " if one.step else ""
    if one.fields and one.before is not None and one.after is not None:
        found = [
            change
            for name in one.fields
            for change in changes(one.before.detail[name], one.after.detail[name], (name,))
        ]
        more = f" and {counted(len(found) - 1, 'more change')}" if len(found) > 1 else ""
        return f"{where}{one.after.what}, {_change(found[0])}{more}" if found else f"{where}{one.after.what}"
    return f"{where}{fact_words(one.before)} -> {fact_words(one.after)}"


def _change(change: Change) -> str:
    match change.kind:
        case "added":
            return f"{path_text(change.path)} added: {_value(change.after)}"
        case "removed":
            return f"{path_text(change.path)} left out: {_value(change.before)}"
        case "changed":
            found = _first_in_lists(change)
            if found.kind != "changed":
                return _change(found)
            before, after = _from_where_they_differ(found.before, found.after)
            return f"{path_text(found.path)} {before} -> {after}"


def _first_in_lists(change: Change) -> Change:
    """Of two lists, the first item that differs, however deep; else the change as it is."""
    before, after = change.before, change.after
    if not isinstance(before, list | tuple) or not isinstance(after, list | tuple):
        return change
    for place, (old, new) in enumerate(zip(before, after, strict=False)):
        for found in changes(old, new, (*change.path, place)):
            return _first_in_lists(found)
    place = min(len(before), len(after))
    if len(after) > place:
        return Change(kind="added", path=(*change.path, place), after=after[place])
    if len(before) > place:
        return Change(kind="removed", path=(*change.path, place), before=before[place])
    return change


def _from_where_they_differ(before: Any, after: Any) -> tuple[str, str]:
    """Both values, cut so that the place where they begin to differ is shown.

    A text and another kind of value are told apart by the text's quotes.
    """
    is_text = isinstance(before, str) and isinstance(after, str)
    old, new = (value if is_text else _as_json(value) for value in (before, after))
    place = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
    if not _is_lost(old, new, place):
        return _shown(old), _shown(new)
    begin = max(0, place - LEAD)
    lead = f"from character {place + 1:,}: …" if begin else ""
    cut = slice(begin, begin + SHOWN * 4)  # hidden characters are longer when they are shown
    return f"{lead}{_marked(old[cut])}", f"{'…' if begin else ''}{_marked(new[cut])}"


def _is_lost(old: str, new: str, place: int) -> bool:
    """Whether the place is cut off, or the two look alike on one line."""
    return place + LEAD > SHOWN < max(len(old), len(new)) or _shown(old) == _shown(new)


def _shown(text: str) -> str:
    return one_line(text, SHOWN)


def _marked(text: str) -> str:
    """The text on one line, with each blank that is not a plain space by its code."""
    flat = printable(re.sub(r"[^\S ]", lambda found: found[0].encode("unicode_escape").decode(), text))
    return flat if len(flat) <= SHOWN else flat[: SHOWN - 1] + "…"


def _value(value: Any) -> str:
    return _shown(value if isinstance(value, str) else _as_json(value))


def _as_json(value: Any) -> str:
    return exact_json.encode(msgspec.to_builtins(value)).decode()
