"""`mesh watch [ID]`: what is decided, line by line, as it is decided.

Owns how decisions are followed and shown. It reads the log alone, and sends nothing.
"""

import time
from collections.abc import Sequence
from typing import Final

import click
from rich.text import Text

from mesh.cli.choice import pick_workflow
from mesh.cli.options import Seconds
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.events import describe
from mesh.cli.text.format import clock_time, one_line, printable
from mesh.codec import exact_json
from mesh.core.events import WorkflowEnded
from mesh.core.ids import BUILT_IN, route_of
from mesh.inspection.documents.timeline import timeline_document
from mesh.inspection.read_model import ReadModel, queries
from mesh.inspection.read_model.queries import TimelineEntry

_LOOK_S: Final = 3_600.0  # longest wait for one decision; then it waits again
_WHY: Final = 100  # characters
_EVENTS: Final = 5  # of one decision; a for-each has hundreds


@click.command(short_help="Follow what is decided, line by line.")
@click.argument("part", metavar="[ID]", required=False)
@click.option("--route", metavar="ROUTE", help="Only this route's workflows.")
@click.option(
    "--last", type=click.IntRange(0), default=10, show_default=True, help="Decisions of before to begin with."
)
@click.option("--for", "for_s", type=Seconds(), metavar="SECONDS", help="End after this time; without it, with Ctrl-C.")
@mesh_command
def watch(session: Session, *, part: str | None, route: str | None, last: int, for_s: float | None) -> None:
    """Follow what is decided, a line for each decision: when, of which workflow, what and why.

    With ID (or a part of it) only this workflow, and it ends when the workflow has ended. With
    --json each decision is one line.
    """
    session.run(_watch(session, part, route, last, for_s))


async def _watch(session: Session, part: str | None, route: str | None, last: int, for_s: float | None) -> None:
    until = None if for_s is None else time.monotonic() + for_s
    async with session.model() as (_, model):
        name = None if part is None else pick_workflow(session, model, part, changes=False)
        row = queries.row_before_last(model.db, last, workflow_id=name)
        while True:
            found = await _next(model, row, until)
            if not found:
                return
            row = found[-1][0]
            entries = [entry for _, entry in found if _is_wanted(entry, name, route)]
            _show(session, entries)
            if name is not None and _has_ended(model, name):
                return


async def _next(model: ReadModel, row: int, until: float | None) -> list[tuple[int, TimelineEntry]]:
    """The decisions behind a row of the model, as soon as there are some.

    None when the time is over.
    """
    while True:
        left = _LOOK_S if until is None else until - time.monotonic()
        found = await model.wait_until(lambda: queries.decisions_after(model.db, row) or None, timeout_s=max(left, 0))
        if found is not None or until is not None:
            return found or []


def _is_wanted(entry: TimelineEntry, name: str | None, route: str | None) -> bool:
    workflow = entry.decision.workflow_id
    if not entry.decision.events or (name is None and workflow.startswith(BUILT_IN)):
        return False
    return name in (None, workflow) and route in (None, route_of(workflow))


def _has_ended(model: ReadModel, name: str) -> bool:
    """Whether nothing more is shown of it: all decisions that the model has were shown already."""
    state = queries.workflow_state(model.db, name)
    return state is None or state.ended_at_ms is not None


def _show(session: Session, entries: Sequence[TimelineEntry]) -> None:
    for entry in entries:
        if session.as_json:
            shown = {"workflow_id": entry.decision.workflow_id, **timeline_document(entry, payloads=False)}
            click.echo(exact_json.encode(shown).decode())
        else:
            session.show(_line(entry, session.now_ms()))


def _line(entry: TimelineEntry, now_ms: int) -> Text:
    """A decision on one line: what happened to which step, and why."""
    decision = entry.decision
    text = Text(f"{clock_time(decision.at_ms, now_ms)}  ", style="dim")
    text.append(printable(decision.workflow_id), style="bold")
    for number, event in enumerate(decision.events[:_EVENTS]):
        line = describe(event, decision)
        is_end = isinstance(event, WorkflowEnded)
        text.append(";  " if number else "  ", style="dim")
        text.append(f"{printable(line.step)} " if line.step and not is_end else "", style="default")
        text.append(one_line(line.what), style=line.style)
        text.append(_why(line.why), style="dim")
    more = len(decision.events) - _EVENTS
    return text.append(f";  and {more:,} more" if more > 0 else "", style="dim")


def _why(text: str) -> str:
    """The reason in brackets, as some reasons are already."""
    why = one_line(text, _WHY)
    return f" {why}" if why.startswith("(") else f" ({why})" if why else ""
