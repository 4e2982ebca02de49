"""Check for outputs that may be null where an expression reads a field of them.

An output is null if its step was skipped, failed, was cancelled or is not done yet. Reading a field
of it is then an incident.

Owns the reasons why an output may be null for its reader. There is no finding if the route provides
for it: the same string, or the reading step's `if`, asks for the output as a whole, for the step's
status, or (in a loop) for the round. `mesh.inspection.checks.findings_of` calls it.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from mesh.core.joins import takes
from mesh.core.route import AgentWork, ApprovalWork, CallWork, Route, Step, WaitWork
from mesh.inspection.checks.finding import RouteFinding, warning
from mesh.inspection.inference.reachability import raced, settled_before
from mesh.routes.expressions.paths import path_text
from mesh.routes.problems import Reading

# What may stand around an expression that is a template of its own.
_BARE: Final = re.compile(r"^\s*(?:\$\{\{)?\s*|\s*(?:\}\})?\s*$")


class _Null(NamedTuple):
    """Why an output may be null.

    `otherwise`: how an expression can say what to use instead.
    """

    code: str
    why: str
    otherwise: str


def findings(route: Route, readings: list[Reading]) -> Iterator[RouteFinding]:
    nulls = _Nulls(route)
    for reading in readings:
        segments = reading.read.segments
        is_list = _is_list_of(reading)
        if segments[0] != "steps" or (len(segments) < 3 and not is_list):  # noqa: PLR2004 - a field of a step
            continue
        found = nulls.of(reading, str(segments[1]))
        if found is not None and not _thought_of(route, readings, reading, found):
            then = "for_each has no list, which" if is_list else path_text(segments)
            message = f"{segments[1]} is null {found.why}, and then {then} is an incident"
            yield warning(reading.path, found.code, message, _instead(found, reading) if is_list else found.otherwise)


def _is_list_of(reading: Reading) -> bool:
    """Whether the whole output of a step is the list that a for_each goes through."""
    in_for_each = reading.path[0] == "steps" and len(reading.path) > 2 and reading.path[2] == "for_each"  # noqa: PLR2004
    return in_for_each and _BARE.sub("", reading.text) == path_text(reading.read.segments)


def _instead(null: _Null, reading: Reading) -> str:
    whole = path_text(reading.read.segments)
    return null.otherwise if "null" not in null.otherwise else f"{whole} == null ? [] : {whole}"


class _Nulls:
    def __init__(self, route: Route) -> None:
        self._route = route
        self._raced = raced(route)
        self._settled = _settled(route)

    def of(self, reading: Reading, name: str) -> _Null | None:
        """Why `steps.<name>` may be null where this expression reads it; None if it can't be."""
        step = self._route.steps[name]
        reader = self._route.steps.get(str(reading.path[1])) if reading.path[0] == "steps" else None
        whole = f"steps.{name}"
        if isinstance(step.work, ApprovalWork) and step.for_each is None:
            return None
        if reader is not None:
            found = self._by_place(reading, reader, name)
            if found is not None:
                return found
        if step.condition is not None:
            return _Null("maybe_skipped", "if it was skipped", f"{whole} == null || ..., or the same if as {name} has")
        if isinstance(step.work, WaitWork) and step.work.on_timeout == "skip" and step.work.timeout_s is not None:
            return _Null("maybe_skipped", "if no event came in time", f"status.{name} == 'succeeded' ? ... : ...")
        if reader is not None and _can_fail(step) and reader.name in _without(self._route, name):
            return _Null("maybe_null", "if it failed", f"status.{name} == 'succeeded' ? ... : ...")
        return None

    def _by_place(self, reading: Reading, reader: Step, name: str) -> _Null | None:
        """Why it may be null because of the reader's place.

        The reader is in a loop, outside a race, or acts before the other step is done.
        """
        if name == reader.name:
            if reading.path[2] != "undo":
                return None
            why = "if nobody knows whether it was done (it timed out, or was cancelled while its task was under way)"
            return _Null("maybe_null", why, f"steps.{name} == null ? null : ...")
        settled = self._settled[reader.name]
        if name not in settled and any(_are_in(step, name, reader.name) for step in self._route.steps.values()):
            return _Null("maybe_null", "in the loop's first round", "round == 1 ? ... : ...")
        otherwise = f"status.{name} == 'succeeded' ? ... : ..."
        if name not in settled:
            return _Null("maybe_null", f"until it is done, which {reader.name} does not wait for", otherwise)
        if name in self._raced and reader.name not in self._raced:
            return _Null("maybe_null", "if another was first", otherwise)
        return None


def _settled(route: Route) -> Mapping[str, frozenset[str]]:
    """For each step, the steps that are certainly settled when it acts."""
    found: dict[str, frozenset[str]] = {}
    for name, step in route.steps.items():
        found[name] = settled_before(step, step.needs, found) if step.needs else frozenset()
    return found


def _are_in(closing: Step, *names: str) -> bool:
    return closing.repeat is not None and all(name in closing.repeat.body for name in names)


def _can_fail(step: Step) -> bool:
    return isinstance(step.work, AgentWork | CallWork) and step.work.on_exhausted == "continue"


def _without(route: Route, name: str) -> set[str]:
    """The steps that can run although this one failed.

    Those that read its status or do not need all their needs, and every step after them.
    """
    todo = [
        d
        for d in route.dependents[name]
        if route.steps[d].enough is not None or takes(route.steps[d], name, rejected=False)
    ]
    found: set[str] = set()
    while todo:
        step = todo.pop()
        if step not in found:
            found.add(step)
            todo += route.dependents[step]
    return found


def _thought_of(route: Route, readings: list[Reading], reading: Reading, null: _Null) -> bool:
    """Whether the route provides for the null.

    The reading step's `if`, or another part of the same string, asks about the step; or both steps
    have the same `if`.
    """
    name = str(reading.read.segments[1])
    beside = [
        other.read
        for other in readings
        if other.path == reading.path and other.text == reading.text and other is not reading
    ]
    if any(_asks(path_text(read.segments), name, tested=read.tested) for read in beside):
        return True
    if "round" in null.otherwise and any(read.segments[0] == "round" for read in beside):
        return True
    condition = route.steps[str(reading.path[1])].condition if reading.path[0] == "steps" else None
    if condition is None or reading.path[2] in ("if", "undo"):
        return False
    same = route.steps[name].condition
    asked = any(_asks(path, name, tested=True) for path in condition.paths)
    return asked or (same is not None and condition.source == same.source)


def _asks(path: str, name: str, *, tested: bool) -> bool:
    """Whether a path is about the step as a whole, or about a field of it that is tested."""
    return path in (f"steps.{name}", f"status.{name}") or (tested and path.startswith(f"steps.{name}."))
