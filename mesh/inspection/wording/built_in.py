"""Schedules, aliases, clocks and pauses, and what workflows have to do with them."""

from mesh.core import events as ev
from mesh.core.pauses import words
from mesh.core.schedules import Missed, Schedule, rfc3339
from mesh.inspection.wording.phrases import counted, event_words
from mesh.inspection.wording.said import Said


def words_of(event: ev.Event, decision: ev.Decision) -> Said | None:  # noqa: ARG001 - as the other nouns'
    return _of_an_alias(event) or _of_a_schedule(event) or _of_a_clock(event) or _of_pauses(event)


def _of_an_alias(event: ev.Event) -> Said | None:
    match event:
        case ev.AliasSought():
            told = f"-> {event.step} asks for its alias {event.alias}"
            return Said(event.step, f"asks for {event.alias}", "work", told=told)
        case ev.AliasGranted():
            return Said(event.step, f"is found by {event.alias}", "work", told=f"{event.step} has its alias")
        case ev.AliasWaived():
            told = f"{event.step} goes on without its alias: {event.reason}"
            return Said(event.step, "goes on without its alias", "people", event.reason, told)
        case ev.AliasReturned():
            return Said("", f"gives {event.alias} back", "work", told=f"-> the alias {event.alias} is given back")
        case ev.AliasBound():
            holder = event.claimant.workflow_id
            return Said("", f"the alias of {holder}", "work", told=f"-> it is the alias of {holder} now")
        case ev.AliasRefused():
            holder = event.claimant.workflow_id
            return Said(
                "", f"refused to {holder}", "people", event.message, f"-> {holder} can't have it: {event.message}"
            )
        case ev.EventRedirected():
            came = event.kept.cloud_event
            told = f"-> {event_words(came)}, on to {event.to}"
            return Said("", f"event {came['id']} goes on to {event.to}", "work", told=told)
        case _:
            return None


def _of_a_schedule(event: ev.Event) -> Said | None:
    match event:
        case ev.ScheduleChanged():
            schedule = event.schedule
            what = f"{schedule.cron}, {schedule.timezone}" if schedule else "starts at no time any more"
            told = f"{event.route} starts {schedule_words(schedule)}"
            return Said("", what, "work", f"rules {event.digest[7:19]}, told by {event.by}", told)
        case ev.ScheduleFired():
            why = "" if event.missed is None else missed_words(event.missed)
            told = f"-> start of {event.route}, for {event.key}" + (f" ({why})" if why else "")
            return Said("", f"starts {event.route}:{event.key}", "bad" if why else "work", why, told)
        case _:
            return None


def _of_a_clock(event: ev.Event) -> Said | None:
    match event:
        case ev.ClockHeld():
            what = f"the clock is {event.ahead_ms / 1_000:+,.0f} s off: deadlines go on by the time that passes"
            return Said("", what, "bad", event.reason, f"the clock is not believed: {event.reason}")
        case ev.ClockReleased():
            by = f", by {event.by}" if event.by else ""
            return Said("", f"the clock counts again{by}", "good", event.reason, f"the clock counts again{by}")
        case ev.LogImported():
            what = f"the log before this was imported from {event.mesh}"
            return Said("", what, "work", f"file {event.digest}", what)
        case _:
            return None


def _of_pauses(event: ev.Event) -> Said | None:
    match event:
        case ev.PauseSet():
            told = f"{words(event.target)} is paused: nothing goes out to it" + _why(event.reason)
            return Said("", f"{words(event.target)} is paused by {event.by}", "people", event.reason, told)
        case ev.PauseLifted():
            told = f"{words(event.target)} resumes" + _why(event.reason)
            return Said("", f"{words(event.target)} is resumed by {event.by}", "people", event.reason, told)
        case ev.HeldReleased():
            return Said("", "all that was held has gone on", "good", told="all that was held has gone on")
        case _:
            return None


def _why(reason: str) -> str:
    return f" ({reason})" if reason else ""


def schedule_words(schedule: Schedule | None) -> str:
    return f"{schedule.cron} ({schedule.timezone})" if schedule is not None else "at no time"


def missed_words(missed: Missed) -> str:
    """Missed times in words.

    Such as `3 times passed without a start: 2026-03-01T09:00:00Z to 2026-03-03T09:00:00Z`.
    """
    first, last = rfc3339(missed.first_ms), rfc3339(missed.last_ms)
    more = "more than " if missed.is_more else ""
    when = first if missed.count == 1 else f"{first} to {last}"
    return f"{more}{counted(missed.count, 'time')} passed without a start: {when}"
