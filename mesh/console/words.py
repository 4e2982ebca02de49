"""What pages say of states, steps and payloads, as values that templates show.

Owns the hue, shape and word of each state, and how a payload is read as text. It knows no HTML.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from mesh.inspection.mesh_status.stuck_work import what_helps
from mesh.inspection.read_model.queries import CauseRow, OpenStep, WorkflowRow
from mesh.inspection.wording.plain import duration, one_line, readable

Hue = Literal["run", "ask", "bad", "good", "no", "off"]
NEAR_MS: Final = 4 * 3_600_000  # a deadline is amber from here on
VERY_NEAR_MS: Final = 30 * 60_000  # and red from here on
MESSAGE: Final = 160  # characters of a reason in a list


class State(NamedTuple):
    """`shape`: the name of its icon."""

    hue: Hue
    shape: str
    word: str


STATES: Final = {
    "incident": State("bad", "bad", "Incident"),
    "paused": State("ask", "idle", "Paused"),
    "asking": State("ask", "ask", "Waits for a person"),
    "running": State("run", "run", "Running"),
    "retrying": State("run", "retry", "Retrying"),
    "expected": State("off", "idle", "Expected"),
    "standing": State("off", "idle", "At work"),
    "completed": State("good", "good", "Completed"),
    "rejected": State("no", "no", "Rejected"),
    "failed": State("bad", "bad", "Failed"),
    "cancelled": State("off", "off", "Cancelled"),
}
_STEP_HUES: Final[dict[str, Hue]] = {
    "succeeded": "good",
    "running": "run",
    "iterating": "run",
    "calling": "run",
    "claiming": "run",
    "again": "run",
    "retrying": "run",
    "asking": "ask",
    "waiting": "ask",
    "held": "ask",
    "queued": "ask",
    "suspended": "ask",
    "incident": "bad",
    "failed": "bad",
    "rejected": "no",
}
TONES: Final[dict[str, State]] = {
    "good": State("good", "good", ""),
    "bad": State("bad", "bad", ""),
    "people": State("ask", "ask", ""),
    "work": State("run", "run", ""),
    "quiet": State("off", "dot", ""),
}


def step_hue(status: str) -> str:
    """The class of a step's box; `late` for what has not begun."""
    return "late" if status == "to_come" else _STEP_HUES.get(status, "off")


def state_of(row: WorkflowRow, steps: Sequence[OpenStep] = ()) -> State:
    """A workflow's state, as a list shows it."""
    if row.status != "running":
        return STATES.get(row.status, STATES["standing"])
    if row.paused_at_ms is not None:
        return STATES["paused"]
    if row.incidents:
        return STATES["incident"]
    statuses = {step.status for step in steps}
    first = next((name for name in ("asking", "retrying") if name in statuses), "running")
    return STATES[first]


def why(step: OpenStep, now_ms: int) -> str:
    """What the step waits for, in words."""
    waited = duration(now_ms - step.since_ms)
    many = f"{step.alike:,} items, " if step.alike > 1 else ""
    match step.status:
        case "incident":
            return one_line(f"can't go on: {step.incident_message or step.incident_kind}", MESSAGE)
        case "running":
            return f"{many}with {step.agent or 'its agent'} for {waited}, attempt {step.attempt}"
        case "asking":
            return f"waits for {step.role or 'people'} for {waited}"
        case "retrying":
            return f"{many}waits to be tried again, for {waited}"
        case "waiting":
            return f"waits for {f'event {step.awaits}' if step.awaits else 'its time'} for {waited}"
        case "iterating":
            return f"{step.settled:,} of {step.total:,} items are done"
        case status:
            return f"{status} for {waited}"


def helps(one: OpenStep | None, row: CauseRow) -> str:
    """What an operator can do about all that have this cause. `one`: an example."""
    return "" if one is None else what_helps(one, cause=row.cause if row.workflows > 1 else "")


class Due(NamedTuple):
    """A deadline: how near it is, and when it comes. `hue`: off, ask or bad."""

    hue: Hue
    at_ms: int
    then: str


_THEN: Final = {"reject": "then rejected", "approve": "then approved", "incident": "then an operator is asked"}


def due(at_ms: int | None, now_ms: int, on_expiry: str = "") -> Due | None:
    if at_ms is None:
        return None
    left = at_ms - now_ms
    hue: Hue = "bad" if left < VERY_NEAR_MS else "ask" if left < NEAR_MS else "off"
    return Due(hue, at_ms, _THEN.get(on_expiry, ""))


ANSWERED: Final = {
    "edited": "Your text is saved. Votes for the text before it count no more.",
    "taken_back": "Your vote is taken back.",
    "noted": "Your comment is kept.",
    "asked": "Your question is sent.",
    "informed": "Your answer to the question is kept.",
    "claimed": "You look at it now, and others see that.",
    "released": "You have given it back.",
    "extended": "The deadline is moved.",
}
"""What came of an answer, by the code of its receipt. All others are votes."""


class Field(NamedTuple):
    """A part of a payload. `kind` says what `value` is: a text, labels, or lines of a table."""

    title: str
    kind: Literal["text", "labels", "value", "lines"]
    value: Any


def fields(payload: Any, schema: Any = None) -> list[Field]:
    """A payload as text to read, by its schema where there is one."""
    if not isinstance(payload, dict) or not payload:
        return [_field("", payload)]
    known = schema.get("properties") if isinstance(schema, Mapping) else None
    titles = known if isinstance(known, Mapping) else {}
    return list(_members(payload, titles))


def _members(payload: Mapping[str, Any], titles: Mapping[str, Any]) -> Iterator[Field]:
    # long texts are what is approved: they come first
    for name, value in sorted(payload.items(), key=lambda item: not _is_long(item[1])):
        about = titles.get(name)
        title = about.get("title") if isinstance(about, Mapping) else None
        yield _field(title if isinstance(title, str) and title else name, value)


_LONG: Final = 80


def _is_long(value: Any) -> bool:
    return isinstance(value, str) and (len(value) > _LONG or "\n" in value)


def _field(title: str, value: Any) -> Field:
    match value:
        case str():
            return Field(title, "text", value)
        case list() if value and all(isinstance(one, str) and not _is_long(one) for one in value):
            return Field(title, "labels", value)
        case None | bool() | int() | float():
            return Field(title, "value", readable(value))
        case _:
            return Field(title, "lines", readable(value))


def cut(name: str, route: str = "") -> tuple[str, str]:
    """A long id in two parts: the first may be cut off, the end is always visible."""
    shown = name.removeprefix(f"{route}:") if route else name
    at = shown.rfind("#")
    at = at if at > 0 else max(0, len(shown) - 8)
    return shown[:at], shown[at:]
