"""The stages and the deadline of an approval, and who may answer in each.

`mesh.routes.voting` and `mesh.routes.approvals` call this.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from mesh.core.approvals import Claiming, Extending
from mesh.core.calendars import WorkingTime
from mesh.core.json_values import kind_of
from mesh.core.route import StageAsked, Template
from mesh.routes.control_flow import EMPTY
from mesh.routes.problems import DocumentPath, Part, is_whole, shown, written_duration
from mesh.routes.step_keys import DEADLINE_AT, EXTEND, STAGE, STAGE_TO, WORKING
from mesh.routes.values import NEVER, seconds_of

_WORKING_HINT: Final = "such as {working: 16h, calendar: berlin} or {working_days: 1, calendar: berlin}"
_ROLE_HINT: Final = "name the role that may answer, such as maintainer"


class Deadline(NamedTuple):
    """One of these, or none: then the question stays open."""

    seconds: float | None = None
    at: Template | None = None
    working: WorkingTime | None = None


def deadline(part: Part) -> Deadline:
    value = part.value.get("deadline")
    if not isinstance(value, dict):
        return Deadline(seconds=part.duration_or_never("deadline"))
    if value.keys() & WORKING.keys.keys():
        return Deadline(working=working_time(part, "deadline"))
    at = Part(value, (*part.path, "deadline"), part.book, DEADLINE_AT.keys)
    at.check_keys()
    at.check_required()
    return Deadline(at=at.text_template("at", "such as ${{ event.data.due }}"))


def working_time(part: Part, key: str) -> WorkingTime:
    """Hours or days of a calendar, from a mapping."""
    found = Part(part.value[key], (*part.path, key), part.book, WORKING.keys)
    found.check_keys()
    if ("working" in found.value) == ("working_days" in found.value):
        found.book.add(found.path, f"{key} needs working or working_days, one of them", _WORKING_HINT)
    found.check_required()
    calendar = found.name("calendar") if "calendar" in found.value else ""
    if "working_days" in found.value:
        return WorkingTime(calendar=calendar, days=found.whole("working_days"))
    return WorkingTime(calendar=calendar, ms=int(found.duration("working") * 1000))


def stages(part: Part) -> tuple[StageAsked, ...]:
    """The stages, each later than the one before, and none later than a deadline that is known."""
    value = part.value.get("escalate", [])
    hint = part.keys["escalate"].example
    if not isinstance(value, list) or ("escalate" in part.value and not value):
        part.problem("escalate", "escalate must be a list of stages", hint)
        return ()
    found = [_stage(part, place, one, hint) for place, one in enumerate(value)]
    known = tuple(stage for stage in found if stage is not None)
    _check_times(part, known)
    return known


def extending(part: Part) -> Extending | None:
    """Who may answer may move the deadline so far, and so often."""
    if "extend" not in part.value:
        return None
    extend = below(part, ("extend",), part.value["extend"], EXTEND.keys, part.keys["extend"].example)
    if part.value.get("deadline", NEVER) == NEVER:
        part.problem("extend", "there is no deadline to move", "write a deadline, or remove extend")
    if extend is None:
        return None
    extend.check_required()
    return Extending(by_ms=int(extend.duration("by") * 1000), times=extend.whole("times"))


def claiming(part: Part, seats: int | None) -> Claiming:
    """What a claim means. `seats`: how many must answer, where that is known."""
    is_exclusive = part.choice("claim") == "exclusive"
    if is_exclusive and seats != 1:
        message = "an exclusive claim keeps out the others who must answer"
        part.problem("claim", message, "write claim: advisory, or let one person answer")
    return Claiming(exclusive=is_exclusive, lease_ms=int(part.duration("lease") * 1000))


def _stage(part: Part, place: int, value: Any, hint: str) -> StageAsked | None:
    stage = below(part, ("escalate", place), value, STAGE.keys, hint)
    if stage is None:
        return None
    stage.check_required()
    role, people = _to(stage)
    is_replacing = stage.value.get("replace", False)
    if not isinstance(is_replacing, bool):
        stage.problem("replace", f"replace can't be {shown(is_replacing)}", "write true or false")
    working = working_time(stage, "after") if isinstance(stage.value.get("after"), dict) else None
    return StageAsked(
        after_s=0.0 if working is not None else stage.duration("after"),
        working=working,
        role=role,
        people=people,
        quorum=stage.whole("quorum") if "quorum" in stage.value else 0,
        replace=bool(is_replacing),
    )


def _to(stage: Part) -> tuple[Template | None, Template | None]:
    value = stage.value.get("to")
    if not isinstance(value, dict):
        return stage.text_template("to", _ROLE_HINT), None
    to = below(stage, ("to",), value, STAGE_TO.keys, stage.keys["to"].example)
    return (None, None) if to is None else who_answers(to, "stage")


def _check_times(part: Part, known: tuple[StageAsked, ...]) -> None:
    """A stage that is not before the deadline never comes about.

    Said where both are plain durations, or times of one calendar in one unit.
    """
    if any(stage.working is not None for stage in known):
        _check_working(part, known)
        return
    limit, at = seconds_of(part.value.get("deadline")), 0.0
    for place, stage in enumerate(known):
        at += stage.after_s
        if limit is not None and at >= limit:
            message = f"this stage comes {written_duration(at)} after the question, and the deadline {written_duration(limit)} after it"
            part.book.add((*part.path, "escalate", place), message, "let it come before the deadline")


def _check_working(part: Part, known: tuple[StageAsked, ...]) -> None:
    limit = deadline_written(part.value.get("deadline"))
    if limit is None:
        return
    total = 0
    for place, stage in enumerate(known):
        time = stage.working
        if time is None or time.calendar != limit.calendar or bool(time.days) != bool(limit.days):
            return
        total += time.days or time.ms
        if total >= (limit.days or limit.ms):
            at = replace(time, days=total) if time.days else replace(time, ms=total)
            message = f"this stage comes {at} after the question, and the deadline {limit} after it"
            part.book.add((*part.path, "escalate", place), message, "let it come before the deadline")


def deadline_written(value: Any) -> WorkingTime | None:
    """The working time of a deadline, where it is one that holds."""
    if not isinstance(value, dict) or not isinstance(value.get("calendar"), str):
        return None
    days, seconds = value.get("working_days"), seconds_of(value.get("working"))
    if is_whole(days) and days > 0:
        return WorkingTime(calendar=value["calendar"], days=days)
    return WorkingTime(calendar=value["calendar"], ms=int(seconds * 1000)) if seconds else None


# Who may answer -----------------------------------------------------------------------------------


def who_answers(part: Part, what: str) -> tuple[Template | None, Template | None]:
    """The role or the people."""
    if "role" in part.value and "people" in part.value:
        part.problem("people", f"the {what} has both role and people", "make two groups of it: quorum: [...]")
    if "role" not in part.value and "people" not in part.value:
        part.missing("role", _ROLE_HINT)
    role = part.text_template("role", _ROLE_HINT)
    return role, named_people(part) if "people" in part.value else None


def named_people(part: Part) -> Template | None:
    """A template of names. One that is no template is checked here."""
    value = part.value["people"]
    names = [value] if isinstance(value, str) else value
    is_named = isinstance(names, list) and all(isinstance(name, str) and name.strip() for name in names)
    if not is_named or not names:
        part.problem("people", f"people can't be {shown(value) or 'empty'}", "write a name, a list of names, or ${{ }}")
        return EMPTY
    return part.template("people")


def below(part: Part, where: tuple[str | int, ...], value: Any, keys: Mapping[str, Any], hint: str) -> Part | None:
    """A mapping in a list, with its keys checked."""
    path: DocumentPath = (*part.path, *where)
    if not isinstance(value, dict):
        part.book.add(path, f"{where[0]} takes a mapping here, not {kind_of(value)}", hint)
        return None
    found = Part(value, path, part.book, keys)
    found.check_keys()
    return found
