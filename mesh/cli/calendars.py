"""`mesh calendars list | show | next | plan | apply`: working hours that operators write.

Owns how calendars and changes of them are shown. `mesh.codec.calendars_file` reads the file,
`mesh.inspection.calendar_changes` compares, `mesh.services.calendars` stores and activates.
"""

from datetime import date
from pathlib import Path
from typing import Any, Final, NamedTuple
from zoneinfo import ZoneInfo

import click
from rich.console import RenderableType
from rich.text import Text

from mesh.cli.grammar import NounGroup
from mesh.cli.moments import moment
from mesh.cli.options import by_option, reason_option
from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import counted, printable
from mesh.cli.text.tables import plain_table
from mesh.codec.calendars import digest_of
from mesh.codec.calendars_file import load_calendar
from mesh.codec.times import rfc3339
from mesh.core.calendars import MOST_DAYS, Calendar, PlacedCalendar, WorkingTime, instant_of
from mesh.errors import NotFound, OperatorError
from mesh.inspection.calendar_changes import (
    CalendarPlan,
    DayChange,
    calendar_plan,
    last_date,
    local,
    why_near,
)
from mesh.routes.values import seconds_of
from mesh.services.calendars import CalendarReader, Calendars, activate_calendar, read_calendars

SIGNS: Final = {"new": ("+", "green"), "changed": ("~", "yellow"), "gone": ("-", "red")}
SHOWN: Final = 20  # changed or free days of one calendar
_DIGITS: Final = 19  # of a digest, with sha256:
_NONE: Final = "no calendar was ever applied: mesh calendars apply FILE"

file_argument = click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))


class Planned(NamedTuple):
    """A version that somebody wants, against the last that was activated (None: there is none)."""

    calendar: Calendar
    digest: str
    last: PlacedCalendar | None
    plan: CalendarPlan

    @property
    def is_unchanged(self) -> bool:
        return self.last is not None and self.last.activation.version == self.digest


class Held(NamedTuple):
    """A calendar in effect. `calendar` None: it can't be read here, and `problem` says why."""

    placed: PlacedCalendar
    calendar: Calendar | None
    problem: str


@click.group(cls=NounGroup, short_help="Show working hours; plan and apply changes.")
def calendars() -> None:
    """Working hours and holidays, for the deadlines and stages of approvals.

    A calendar is a version on the topic approvals.people. An approval's instants are computed when
    it is asked, by the version in effect then: a newer one moves nothing that is open.

    \b
    mesh calendars plan berlin.yaml       which days would change
    mesh calendars apply berlin.yaml      make it so; running routers take it up
    mesh calendars next berlin 16h        when 16 working hours from now are over
    """  # noqa: D301 - \b is click's mark of a paragraph to leave as it is


@calendars.command("list", short_help="List the calendars in effect.")
@mesh_command
def list_(session: Session) -> None:
    """List the calendars in effect, and until when they hold."""
    held = session.run(_read(session))
    if session.as_json:
        session.emit({"calendars": [_held_document(session, one) for one in held], "total": len(held)})
        return
    if not held:
        session.note(_NONE)
        return
    table = plain_table("CALENDAR", "ZONE", "HOLDS UNTIL", "APPLIED BY", whole=["CALENDAR"])
    for one in held:
        name, found = one.placed.activation.calendar, one.calendar
        cells = ("", f"can't be read here: {one.problem}") if found is None else (found.zone, last_date(found))
        by = printable(one.placed.activation.by)
        table.add_row(Text(printable(name), style="bold"), *map(Text, cells), Text(by, style="dim"))
    session.show(table)
    _warn(session, held)


@calendars.command(short_help="Show the hours and days off of a calendar.")
@click.argument("name", required=False)
@mesh_command
def show(session: Session, *, name: str | None) -> None:
    """Show the hours of the calendar NAME, its next days off, and who applied it when."""
    held = session.run(_read(session))
    if name is None:
        for one in held:
            _show_one(session, one)
        if not held:
            session.note(_NONE)
        return
    _show_one(session, _named(held, name))


@calendars.command("next", short_help="Show when an amount of working time is over.")
@click.argument("name")
@click.argument("duration", required=False)
@click.option("--days", type=click.IntRange(1, MOST_DAYS), help="A number of working days, instead of DURATION.")
@click.option("--from", "from_", metavar="WHEN", help="Counted from then: 2026-11-27T15:00:00Z, or 2h (ago).")
@mesh_command
def next_(session: Session, *, name: str, duration: str | None, days: int | None, from_: str | None) -> None:
    """Show when DURATION (16h) of working time of the calendar NAME, from now on, is over.

    An approval that is asked then, with `working: 16h` or `working_days`, gets this instant.
    """
    seconds = seconds_of(duration)
    if (days is None) == (duration is None) or (duration is not None and not seconds):
        raise click.UsageError("say how much: a DURATION such as 16h, or --days 2")
    found = _named(session.run(_read(session)), name).calendar
    time = WorkingTime(calendar=name, ms=int((seconds or 0) * 1000), days=days or 0)
    from_ms = session.now_ms() if from_ is None else moment(from_, session.now_ms(), "--from")
    at_ms, problem = instant_of(time, {} if found is None else {name: found}, from_ms)
    if at_ms is None or found is None:
        raise OperatorError(problem.removesuffix(", then retry"))
    if session.as_json:
        version = found.digest
        session.emit({"calendar": name, "version": version, "from": rfc3339(from_ms), "at": rfc3339(at_ms)})
    else:
        session.show(Text(f"{local(at_ms, ZoneInfo(found.zone)):%a %Y-%m-%d %H:%M} {found.zone}", style="bold"))
        session.note(f"{time} from {rfc3339(from_ms)} on are over at {rfc3339(at_ms)}")


@calendars.command(short_help="Show which days a file would change.")
@file_argument
@mesh_command
def plan(session: Session, *, file: Path) -> None:
    """Show which days FILE would change, and until when it holds."""
    planned = session.run(_plan(session, _load(session, file)))
    if session.as_json:
        session.emit(_document(planned, None))
    else:
        _show_plan(session, planned)


@calendars.command(short_help="Make the working hours in a file hold.")
@file_argument
@click.option("--yes", is_flag=True, help="Do not ask; needed where there is no terminal.")
@by_option("does it")
@reason_option()
@mesh_command
def apply(session: Session, *, file: Path, yes: bool, by: str, reason: str) -> None:
    """Make the calendar in FILE hold for approvals that are asked from about two seconds on.

    Approvals that are open keep their deadlines. Without `until`, the file is compiled for this
    year and the next two: apply it again each year.
    """
    planned = session.run(_plan(session, _load(session, file)))
    if not session.as_json:
        _show_plan(session, planned)
    placed = None
    if not planned.is_unchanged:
        if not yes:
            session.confirm_apply()
        placed = session.run(_apply(session, planned, by, reason))
    if session.as_json:
        session.emit(_document(planned, placed))
    elif placed is not None:
        session.show(Text(f"In effect {_since(placed)}.", style="green"))


# Reading and writing ------------------------------------------------------------------------------


def _load(session: Session, file: Path) -> Calendar:
    return load_calendar(file, date.fromisoformat(rfc3339(session.now_ms())[:10]))


async def _plan(session: Session, wanted: Calendar) -> Planned:
    async with session.broker(read_only=True) as broker:
        known = await read_calendars(broker, session.topics)
    last = known.timeline.latest(wanted.name)
    return Planned(wanted, digest_of(wanted), last, calendar_plan(known.of(last), wanted, session.now_ms()))


async def _apply(session: Session, planned: Planned, by: str, reason: str) -> PlacedCalendar:
    async with session.broker() as broker:
        known = CalendarReader(broker, session.topics)
        try:
            await known.start()
            return await activate_calendar(
                known,
                broker,
                session.topics,
                planned.calendar,
                activation_id=session.fresh_id(),
                by=by,
                at_ms=session.now_ms(),
                reason=reason,
            )
        finally:
            await known.close()


async def _read(session: Session) -> list[Held]:
    async with session.broker(read_only=True) as broker:
        known = await read_calendars(broker, session.topics)
    return list(_held(known, session.now_ms()))


def _held(known: Calendars, now_ms: int) -> list[Held]:
    """All calendars: the version in effect, or the first if it is about to be."""
    timeline = known.timeline
    placed = [timeline.at(name, now_ms) or timeline.all(name)[0] for name in timeline.names()]
    return [Held(one, known.of(one), known.problem_of(one)) for one in placed]


def _named(held: list[Held], name: str) -> Held:
    found = next((one for one in held if one.placed.activation.calendar == name), None)
    if found is None:
        raise NotFound(f"no calendar {name} was applied: `mesh calendars` lists those that were")
    return found


# Telling ------------------------------------------------------------------------------------------


def _show_plan(session: Session, planned: Planned) -> None:
    plan, wanted = planned.plan, planned.calendar
    if plan.is_new:
        session.show(Text(f"+ {wanted.name}  a new calendar, in {wanted.zone}", style="green"))
    if plan.zone_before:
        session.show(Text(f"~ the zone is {wanted.zone}, and was {printable(plan.zone_before)}", style="yellow"))
    session.show(*[_line(change) for change in plan.changes[:SHOWN]])
    if len(plan.changes) > SHOWN:
        session.note(f"... and {len(plan.changes) - SHOWN:,} more days")
    if planned.is_unchanged:
        session.note(f"the calendar {wanted.name} is applied as it is; it holds until {last_date(wanted)}")
    else:
        days = counted(len(wanted.days), "working day")
        session.note(f"the calendar {wanted.name} would hold until {last_date(wanted)}, with {days}")


def _line(change: DayChange) -> Text:
    sign, style = SIGNS[change.change]
    line = Text(f"{sign} {change.date}", style=style)
    after = ", ".join(change.after) or f"off{f' ({printable(change.why)})' if change.why else ''}"
    line.append(f"  {after}, was {', '.join(change.before) or 'off'}", style="default")
    return line


def _show_one(session: Session, one: Held) -> None:
    if session.as_json:
        session.emit(_held_document(session, one))
        return
    found, activation = one.calendar, one.placed.activation
    if found is None:
        session.note(f"the calendar {printable(activation.calendar)} can't be read here: {one.problem}")
        return
    rows: list[RenderableType] = [Text(f"{printable(found.name)}  {found.zone}", style="bold")]
    rows += [Text(f"  {day}  {', '.join(hours)}") for day, hours in found.weekly.items()]
    today = local(session.now_ms(), ZoneInfo(found.zone)).date().isoformat()
    coming = [(day, why) for day, why in sorted(found.off.items()) if day >= today]
    rows += [Text(f"  off  {day}  {printable(why)}".rstrip()) for day, why in coming[:SHOWN]]
    if len(coming) > SHOWN:
        rows.append(Text(f"  ... and {len(coming) - SHOWN:,} more days off", style="dim"))
    why = f": {printable(activation.reason)}" if activation.reason else ""
    said = f"version {activation.version[:_DIGITS]}, applied by {printable(activation.by)}{why}"
    rows.append(Text(f"{said}; in effect {_since(one.placed)}; it holds until {last_date(found)}", style="dim"))
    session.show(*rows)
    _warn(session, [one])


def _warn(session: Session, held: list[Held]) -> None:
    for one in held:
        near = why_near(one.calendar, session.now_ms()) if one.calendar is not None else ""
        if near:
            session.note(f"warning: {near}: `mesh calendars apply FILE` with a longer one")


def _since(placed: PlacedCalendar) -> str:
    return f"for what the broker takes at {rfc3339(placed.since_ms)} or later"


def _held_document(session: Session, one: Held) -> dict[str, Any]:
    found = one.calendar
    more = {"problem": one.problem} if found is None else _calendar_document(found, session.now_ms())
    return {"calendar": one.placed.activation.calendar, **_placed_document(one.placed), **more}


def _calendar_document(found: Calendar, now_ms: int) -> dict[str, Any]:
    return {
        "timezone": found.zone,
        "hours": found.weekly,
        "off": found.off,
        "holds_from": rfc3339(found.from_ms),
        "holds_until": rfc3339(found.until_ms),
        "ends_soon": bool(why_near(found, now_ms)),
    }


def _placed_document(placed: PlacedCalendar) -> dict[str, Any]:
    one = placed.activation
    return {
        "id": one.id,
        "version": one.version,
        "by": one.by,
        "reason": one.reason,
        "at": rfc3339(one.at_ms),
        "in_effect_from": rfc3339(placed.since_ms),
    }


def _document(planned: Planned, placed: PlacedCalendar | None) -> dict[str, Any]:
    return {
        "calendar": planned.calendar.name,
        "applied": placed is not None,
        "unchanged": planned.is_unchanged,
        "version": planned.digest,
        "activation": None if placed is None else _placed_document(placed),
        "holds_until": rfc3339(planned.calendar.until_ms),
        "working_days": len(planned.calendar.days),
        "changes": planned.plan.changes,
    }
