"""A step's task: the agent or capability, its times, attempts and hand-overs, and what undoes it.

Also the call of another route. `compiler` calls these.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple, cast

from msgspec.structs import replace

from mesh.core.limits import Limit
from mesh.core.route import AgentWork, Budget, CallWork, HandOver, OnExhausted, Periods, Retry
from mesh.routes.budgets import reserve
from mesh.routes.control_flow import EMPTY
from mesh.routes.keys import AGENT_KINDS, UNDO
from mesh.routes.limits import step_limit
from mesh.routes.problems import Part, is_name, shown
from mesh.routes.values import NAME_HINT

PERIOD_KEYS: Final = ("start_timeout", "run_timeout", "heartbeat")


class Bounds(NamedTuple):
    """What the top of a route sets for its steps.

    `is_called`: no event starts it, and its callers may give it a slice of their budget.
    """

    budget: Budget | None = None
    limits: Mapping[str, Limit] = {}
    is_called: bool = False

    def reserve_of(self, part: Part) -> dict[str, float]:
        """What each attempt, or call, may take."""
        return reserve(part, self.budget, is_called=self.is_called)


def task(part: Part, bounds: Bounds) -> AgentWork:
    """The work of a step."""
    return replace(
        _attempts(part),
        on_exhausted=cast("OnExhausted", part.choice("on_exhausted")),
        handover=_handover(part),
        reserve=bounds.reserve_of(part),
        limit=step_limit(part, bounds.limits),
    )


def _attempts(part: Part) -> AgentWork:
    """What a step and an `undo` have alike: who works, on what, and how often it is tried."""
    if "input" not in part.value:
        part.missing("input", "what the agent gets, such as input: ${{ event.data }}")
    timeout_s, periods = _times(part)
    by = "capability" if "capability" in part.value else "agent"
    name = part.name(by)
    return AgentWork(
        agent=name if by == "agent" else "",
        capability=name if by == "capability" else "",
        input=part.template("input") or EMPTY,
        timeout_s=timeout_s,
        periods=periods,
        retry=_retry(part),
    )


def call(part: Part, bounds: Bounds) -> CallWork:
    if "input" not in part.value:
        part.missing("input", "the event.data of the called workflow, such as input: ${{ event.data }}")
    return CallWork(
        route=part.name("workflow"),
        input=part.template("input") or EMPTY,
        timeout_s=part.duration_or_none("timeout"),
        on_exhausted=cast("OnExhausted", part.choice("on_exhausted")),
        reserve=bounds.reserve_of(part),
    )


def undo(step: Part) -> AgentWork | None:
    if "undo" not in step.value:
        return None
    part = step.part("undo", "undo: {agent: NAME, input: ...}", UNDO.keys)
    if part is None:
        return None
    if "workflow" in part.value:
        hint = "an agent undoes it; what a called workflow did is undone by its own steps, if it fails or is cancelled"
        part.problem("workflow", "a workflow can't undo a step", hint)
        return None
    part.check_keys()
    found = [kind for kind in AGENT_KINDS if kind in part.value]
    if not found:
        part.missing("agent", "undo: {agent: NAME, input: ...}")
        return None
    if len(found) > 1:
        part.problem("capability", "undo has both agent and capability", "remove one")
    return _attempts(part)


def _times(part: Part) -> tuple[float, Periods | None]:
    """The time-out from dispatch to result, and the periods of signs of life.

    None of the periods may be so long that it can't come.
    """
    start_s, run_s, heartbeat_s = (part.duration(key) for key in PERIOD_KEYS)
    timeout_s = part.duration("timeout")
    if "timeout" not in part.value:
        # a default must not cut off the longer periods that somebody wrote
        timeout_s = max(timeout_s, start_s + run_s)
    if heartbeat_s > (run_s or timeout_s):
        longer = "run_timeout" if run_s else "timeout"
        part.problem("heartbeat", f"heartbeat is longer than {longer}, so it would never count", "make it shorter")
    if start_s + run_s > timeout_s:
        longer = "start_timeout and run_timeout together" if start_s and run_s else PERIOD_KEYS[not start_s]
        part.problem("timeout", f"timeout is shorter than {longer}", "make it longer, or leave it out")
    if not start_s + run_s + heartbeat_s:
        return timeout_s, None
    return timeout_s, Periods(
        start_timeout_s=start_s or None, run_timeout_s=run_s or None, heartbeat_s=heartbeat_s or None
    )


def _retry(step: Part) -> Retry:
    part = step.mapping("retry")
    if part is None:
        return Retry()
    backoff_s, max_backoff_s = part.duration("backoff"), part.duration("max_backoff")
    if "max_backoff" not in part.value:
        # the default must not shorten a backoff that somebody wrote
        max_backoff_s = max(max_backoff_s, backoff_s)
    if max_backoff_s < backoff_s:
        part.problem("max_backoff", "max_backoff is less than backoff", "make it longer")
    return Retry(
        attempts=part.whole("attempts"),
        backoff_s=backoff_s,
        factor=part.number("factor"),
        max_backoff_s=max_backoff_s,
        jitter=part.number("jitter"),
        non_retryable=_non_retryable(part),
    )


def _non_retryable(part: Part) -> frozenset[str]:
    value = part.value.get("non_retryable", [])
    kinds = [value] if isinstance(value, str) else value
    if isinstance(kinds, list) and all(isinstance(kind, str) and kind for kind in kinds):
        return frozenset(kinds)
    part.problem("non_retryable", "non_retryable must be a list of error kinds", "non_retryable: [no_title]")
    return frozenset()


def _handover(step: Part) -> HandOver | None:
    part = step.mapping("handover")
    if part is None:
        return None
    agents = _agents(part)
    for agent in agents:
        if not is_name(agent):
            part.problem("to", f"an agent can't be named {shown(agent)}", NAME_HINT)
    return HandOver(to=frozenset(agents), hops=part.whole("hops"))


def _agents(part: Part) -> list[str]:
    """A name or a list of them."""
    value = part.value.get("to", [])
    names = [value] if isinstance(value, str) else value
    if isinstance(names, list) and names and all(isinstance(name, str) and name for name in names):
        return names
    part.problem("to", "to must be a name or a list of names", "the agents that may get the task: to: [billing, tech]")
    return []
