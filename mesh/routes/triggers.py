"""What starts a route's workflows: `on`, with events of a type or the times of a schedule.

`compiler` calls this.
"""

from mesh.core.route import Trigger
from mesh.core.schedules import NoSuchZone, Schedule, ScheduleError, check_schedule
from mesh.routes.problems import Part, shown


def trigger_of(root: Part) -> Trigger | None:
    """The trigger; None: no event starts the route, and steps of other routes call it."""
    if "on" not in root.value:
        if "on_repeat" in root.value:
            root.problem("on_repeat", "on_repeat has no effect without on", "a call starts its workflow once")
        return None
    on = root.mapping("on")
    if on is None:
        return Trigger(type="")
    if "schedule" in on.value:
        return _schedule(root, on)
    if "timezone" in on.value:
        on.problem("timezone", "timezone goes with schedule, not with type", "remove it")
    condition = on.expression("if")
    if "type" not in on.value:
        on.missing("type", "the CloudEvents type that starts the route, or schedule: the times that do")
        return Trigger(type="")
    return Trigger(type=on.text("type", "the CloudEvents type that starts the route") or "", condition=condition)


def _schedule(root: Part, on: Part) -> Trigger:
    """The times that start the route; each is the key of its workflow."""
    for key in ("type", "if"):
        if key in on.value:
            on.problem(key, f"{key} does not go with schedule", "make two routes of it, or write one of the two")
    for key in ("key", "on_repeat"):
        if key in root.value:
            root.problem(key, f"{key} does not go with a schedule", "remove it: each time is a key")
    hint = 'minute, hour, day of the month, month, day of the week, such as "0 9 * * 1-5"'
    zone = on.text("timezone", "such as Europe/Berlin") if "timezone" in on.value else "UTC"
    # any valid line will do where the text is missing: that problem is noted already
    found = Schedule(cron=on.text("schedule", hint) or "* * * * *", timezone=zone or "UTC")
    try:
        check_schedule(found)
    except NoSuchZone as error:
        on.problem("timezone", str(error), "name one of the IANA time zone database, such as Europe/Berlin")
    except ScheduleError as error:
        on.problem("schedule", f"the schedule {shown(found.cron)} is wrong: {error}", hint)
    return Trigger(schedule=found)
