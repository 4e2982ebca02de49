"""Faults put into what keeps rare weather from doing harm.

Expressions over large lists, inputs that kill ingress, and clocks that jump.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from faults import PLANS, Fault, fault
from msgspec.structs import replace

from mesh.adapters.memory import MemoryBroker
from mesh.core.events import LogRecord
from mesh.core.matching import MatchProblem
from mesh.core.replay import PartitionFold
from mesh.core.route import Scope
from mesh.ports import Record
from mesh.routes.expressions import meter
from mesh.routes.expressions.compiler import CompiledExpression
from mesh.routes.expressions.meter import ExpressionTooCostly
from mesh.services.router.clock import ClockWatch
from mesh.services.router.copies import Copies
from mesh.services.router.partition_clock import PartitionClock
from mesh.testing.simulation import Plan
from mesh.testing.simulation.heavy import HEAVY


def _with_large_lists(plan: Plan) -> Plan:
    """Little but events with large lists, for the expression of another place in each seed."""
    heavy = (sorted(HEAVY)[plan.seed % len(HEAVY)],)
    return replace(plan, heavy=heavy, workflows=2, kinds=("flaky",), drawn=0, real_agents=False)


def _with_deadly_events(plan: Plan) -> Plan:
    return replace(plan, deadly=4, workflows=12, drawn=0, real_agents=False, blackout_at_s=None)


def costly(function: Fault) -> Fault:
    PLANS[function.__name__] = _with_large_lists
    return fault(function)


# Costs --------------------------------------------------------------------------------------------


@costly
def an_evaluation_may_take_as_long_as_it_likes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(meter, "MAX_STEPS", 10**12)


@costly
def a_long_list_is_too_much_wherever_it_is_gone_through(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(meter, "MAX_STEPS", 10_000)


@costly
def a_condition_that_costs_too_much_is_false(patch: pytest.MonkeyPatch) -> None:
    honest = CompiledExpression.is_true

    def is_true(self: CompiledExpression, scope: Scope) -> bool:
        try:
            return honest(self, scope)
        except ExpressionTooCostly:
            return False

    patch.setattr(CompiledExpression, "is_true", is_true)


@costly
def an_event_without_a_key_is_passed_over(patch: pytest.MonkeyPatch) -> None:
    honest = Copies._from_event

    def from_event(self: Copies, record: Record) -> Iterator[Any]:
        return (given for given in honest(self, record) if not isinstance(given, MatchProblem))

    patch.setattr(Copies, "_from_event", from_event)


# The trail of ingress -----------------------------------------------------------------------------


@fault
def what_ingress_sets_aside_leaves_no_dead_letter(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Copies, "set_aside", lambda *_: iter(()))


PLANS["what_ingress_sets_aside_leaves_no_dead_letter"] = _with_deadly_events


# Clocks that jump ---------------------------------------------------------------------------------


def _with_a_jump(by_s: float) -> Callable[[Plan], Plan]:
    """The clock jumps while deadlines run, and nobody says that it is right before it is calm."""
    kinds = ("awaits", "race", "review")
    return lambda plan: replace(
        plan, jumps=((12.0, by_s),), calm_s=900.0, kinds=kinds, drawn=0, real_agents=False, people_change=False
    )


@fault
def deadlines_follow_a_clock_that_is_put_forward(patch: pytest.MonkeyPatch) -> None:
    """Nobody watches the clock, so what it says is the time."""
    patch.setattr(ClockWatch, "jump_ms", lambda _: 0)
    patch.setattr(PartitionClock, "check_since_last_owner", lambda *_, **__: None)


@fault
def deadlines_follow_a_clock_that_is_put_back(patch: pytest.MonkeyPatch) -> None:
    deadlines_follow_a_clock_that_is_put_forward(patch)


@fault
def a_new_owner_believes_the_clock_again(patch: pytest.MonkeyPatch) -> None:
    """A jump is held only as long as the router lives that saw it."""
    honest = PartitionClock.check_since_last_owner

    def check(self: PartitionClock, *given: Any, **named: Any) -> None:
        self.offset_ms += self.ahead_ms
        honest(self, *given, **named)

    patch.setattr(PartitionClock, "check_since_last_owner", check)


@fault
def an_answer_after_a_jump_counts_by_its_stamp(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PartitionClock, "differs", property(lambda _: False))


@fault
def a_release_is_not_obeyed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PartitionClock, "released", lambda *_: None)


for _name in ("deadlines_follow_a_clock_that_is_put_forward", "a_new_owner_believes_the_clock_again"):
    PLANS[_name] = _with_a_jump(7_200.0)
PLANS["an_answer_after_a_jump_counts_by_its_stamp"] = _with_a_jump(3_600.0)
for _name in ("deadlines_follow_a_clock_that_is_put_back", "a_release_is_not_obeyed"):
    PLANS[_name] = _with_a_jump(-240.0)


def _with_deaths_around_a_jump(plan: Plan) -> Plan:
    """New owners die before they have logged anything, and take-overs are slow."""
    weak = replace(plan.weak, latency_s=(0.0, 0.4))
    jumped = _with_a_jump(7_200.0)(plan)
    return replace(jumped, blackout_at_s=8.0, blackout_s=8.0, mean_life_s=3.0, routers=2, partitions=2, weak=weak)


@fault
def an_owner_that_has_logged_nothing_has_accounted_for_the_clock(patch: pytest.MonkeyPatch) -> None:
    honest = PartitionFold.apply

    def apply(self: PartitionFold, offset: int, record: LogRecord) -> bool:
        counts = honest(self, offset, record)
        if self.state.claimed is not None:
            self.state.seen, self.state.claimed = self.state.claimed, None
        return counts

    patch.setattr(PartitionFold, "apply", apply)


@fault
def an_append_behind_a_refused_one_is_taken_if_it_fits(patch: pytest.MonkeyPatch) -> None:
    honest = MemoryBroker._compare_and_append

    def append(self: MemoryBroker, *given: Any) -> Any:
        self._unknown.clear()
        return honest(self, *given)

    patch.setattr(MemoryBroker, "_compare_and_append", append)


for _name in (
    "an_owner_that_has_logged_nothing_has_accounted_for_the_clock",
    "an_append_behind_a_refused_one_is_taken_if_it_fits",
):
    PLANS[_name] = _with_deaths_around_a_jump
