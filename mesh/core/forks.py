"""Forks: new runs that go on from a step of another run, with the results of what was before."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, get_args

import msgspec

from mesh.core.route import Route
from mesh.core.state import StepState

KeptStatus = Literal["succeeded", "skipped", "rejected", "blocked", "failed"]
_KEPT: Final = frozenset(get_args(KeptStatus))


class KeptResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a step ended in the other run."""

    status: KeptStatus
    output: Any = None


class Fork(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a command to fork says.

    To the new run: `of` is the other workflow, `run_id` its run, `event` its start event, `steps`
    the results to keep, `private` whether its payloads are sealed. To the other workflow: `into` is
    the new one, which has begun.
    """

    into: str = ""
    of: str = ""
    run_id: str = ""
    event: dict[str, Any] = {}
    steps: dict[str, KeptResult] = {}
    private: bool = False


class PlannedFork(msgspec.Struct, frozen=True, kw_only=True):
    """A fork to be ordered: the new workflow, its version's digest, and what it begins with."""

    into: str
    to: str
    fork: Fork


def from_on(route: Route, step: str) -> frozenset[str]:
    """The step, and all that need it directly or through others: what begins again."""
    found = {step}
    # each step comes after those that it needs
    for name in route.steps:
        if found.intersection(route.steps[name].needs):
            found.add(name)
    return frozenset(found)


def kept_results(route: Route, step: str, states: Mapping[str, StepState]) -> dict[str, KeptResult]:
    """The results of another run that a fork from this step keeps."""
    again = from_on(route, step)
    names: Iterable[str] = (name for name in route.steps if name in states and name not in again)
    return {
        name: KeptResult(status=states[name].status, output=states[name].output)  # type: ignore[arg-type]
        for name in names
        if states[name].status in _KEPT
    }
