"""Faults that tests put into the product on purpose: what is known of all of them.

They come one at a time, and the simulation must notice each. A fault is a function that patches the
product's code for the time of a test. The judge (`mesh.testing.promises.judge`) is left alone.
"""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from mesh.testing.simulation import Plan

Fault = Callable[[pytest.MonkeyPatch], None]
FAULTS: dict[str, Fault] = {}
PLANS: dict[str, Callable[[Plan], Plan]] = {}
"""Some faults need a kind of weather that is rare in ordinary runs."""

CAUGHT_BY: dict[str, int] = {
    "a_checkpoint_that_is_ahead_of_the_log_is_used": 4,
    "a_schedule_does_not_wait_for_its_next_time": 41,
    "another_logs_checkpoint_is_written_over": 9,
    "every_item_may_fail": 3,
    "flights_overtake_each_other_on_the_way_to_other_workflows": 9,
    "grants_of_a_limit_that_are_merged_count_as_of_the_first": 2,
    "ingress_looks_for_activations_too_seldom": 31,
    "the_end_of_one_items_call_is_taken_for_anothers": 24,
    "what_a_call_took_counts_twice": 2,
}
"""A seed that notices a fault which most seeds miss. It is tried first, to save time."""


def fault(function: Fault) -> Fault:
    FAULTS[function.__name__] = function
    return function


def plan_for(name: str, seed: int) -> Plan:
    plan = Plan.of(seed)
    return PLANS[name](plan) if name in PLANS else plan


def with_a_blackout(plan: Plan) -> Plan:
    """Deadlines pass while no router lives, and answers come meanwhile."""
    weak = replace(plan.weak, latency_s=(0.0, 0.4))
    return replace(plan, workflows=25, blackout_at_s=8.0, blackout_s=15.0, real_agents=False, weak=weak)
