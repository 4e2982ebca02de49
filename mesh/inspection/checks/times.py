"""Check times: waits that may never end, and times that have no effect.

Owns the findings about deadlines, time-outs and the waits between retries.
`mesh.inspection.checks.findings_of` calls it.
"""

from collections.abc import Iterator
from typing import Final

from mesh.core.route import AgentWork, ApprovalWork, EndWork, Route, WaitWork
from mesh.inspection.checks.finding import RouteFinding, path_of, warning, written
from mesh.inspection.inference.reachability import raced
from mesh.routes.problems import DocumentPath

_RETRY_WAITS: Final = ("backoff", "factor", "max_backoff", "jitter")


def findings(route: Route) -> Iterator[RouteFinding]:
    for name, step in route.steps.items():
        match step.work:
            case ApprovalWork():
                yield from _deadline(route, name, step.work)
            case WaitWork() if step.work.event is not None:
                yield from _timeout(route, name, step.work)
            case AgentWork():
                if step.work.approve is not None:
                    yield from _deadline(route, name, step.work.approve.asks)
                yield from _retries(route, name, step.work)
    if "keep_events" in route.definition and not route.awaited:
        message = "keep_events has no effect: no step waits for an event"
        yield warning(("keep_events",), "no_effect", message, "remove it")


def _deadline(route: Route, name: str, work: ApprovalWork) -> Iterator[RouteFinding]:
    path = path_of(route, name)
    approval = written(route, name)[path[-1]]
    if "deadline" not in approval:
        message = "the approval has no deadline: it may wait without end"
        yield warning(path, "no_deadline", message, "write deadline: 24h, or deadline: never if that is intended")
    if "on_expiry" in approval and not work.has_deadline:
        message = "on_expiry has no effect without a deadline"
        yield warning((*path, "on_expiry"), "no_effect", message, "write a deadline, or remove on_expiry")


def _timeout(route: Route, name: str, work: WaitWork) -> Iterator[RouteFinding]:
    wait = written(route, name)["wait"]
    path: DocumentPath = ("steps", name, "wait")
    if "timeout" not in wait and not _is_bounded(route, name):
        message = "the wait has no timeout, and no first_of goes on without it: it may wait without end"
        yield warning(path, "no_timeout", message, "write timeout: 7d, or timeout: never if that is intended")
    if "on_timeout" in wait and work.timeout_s is None:
        message = "on_timeout has no effect without a timeout"
        yield warning((*path, "on_timeout"), "no_effect", message, "write a timeout, or remove on_timeout")


def _is_bounded(route: Route, name: str) -> bool:
    """Whether a race may cancel the wait, or the workflow may end without waiting for it."""
    return name in raced(route) or any(
        isinstance(step.work, EndWork) and name not in _above(route, other) for other, step in route.steps.items()
    )


def _above(route: Route, name: str) -> set[str]:
    needs = route.steps[name].needs
    return set(needs).union(*(_above(route, need) for need in needs))


def _retries(route: Route, name: str, work: AgentWork) -> Iterator[RouteFinding]:
    if work.retry.attempts > 1:
        return
    for key in written(route, name).get("retry", {}):
        if key in _RETRY_WAITS:
            message = f"{key} has no effect: with attempts: 1 there is no second attempt"
            yield warning(("steps", name, "retry", key), "no_effect", message, "raise attempts, or remove it")
