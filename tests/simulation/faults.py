"""Faults that tests put into the product on purpose: what is known of all of them.

They come one at a time, and the simulation must notice each. A fault is a function that patches the
product's code for the time of a test. The judge (`mesh.testing.promises.judge`) is left alone.
"""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from mesh.testing.simulation import Plan

Fault = Callable[[pytest.MonkeyPatch], None]
FAULTS: dict[str, Fault] = {}
PLANS: dict[str, Callable[[Plan], Plan]] = {}
"""Some faults need a kind of weather that is rare in ordinary runs."""

CAUGHT_BY: dict[str, int] = {
    "a_checkpoint_that_is_ahead_of_the_log_is_used": 4,
    "a_delegation_counts_before_it_starts": 4,
    "a_gateway_may_speak_for_everybody": 1,
    "a_key_signs_before_it_takes_effect": 8,
    "a_key_that_was_revoked_signs_on": 25,
    "a_person_takes_part_as_often_as_they_like": 1,
    "a_signature_for_another_mesh_holds": 2,
    "a_stage_comes_about_after_the_close": 4,
    "a_replica_that_was_stopped_goes_on_without_a_question": 54,
    "a_schedule_does_not_wait_for_its_next_time": 41,
    "another_logs_checkpoint_is_written_over": 9,
    "any_signature_holds": 17,
    "anybodys_key_signs_for_a_person": 6,
    "every_item_may_fail": 3,
    "flights_overtake_each_other_on_the_way_to_other_workflows": 5,
    "grants_of_a_limit_that_are_merged_count_as_of_the_first": 2,
    "ingress_looks_for_activations_too_seldom": 31,
    "the_end_of_one_items_call_is_taken_for_anothers": 24,
    "the_newest_calendar_counts_whenever_it_was_asked": 1,
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


def with_an_office(plan: Plan) -> Plan:
    """People sign, let others answer for them and are away; deadlines are working hours.

    In every other seed no answer counts that nobody has signed.
    """
    weak = replace(plan.weak, latency_s=(0.0, 0.05))
    few: dict[str, Any] = {"drawn": 0, "deadly": 0, "heavy": (), "jumps": (), "real_agents": False, "pauses": False}
    return replace(
        plan,
        routers=1,
        kinds=("office",),
        workflows=7,
        chaos_s=20.0,
        mean_life_s=40.0,
        blackout_at_s=None,
        weak=weak,
        organised=True,
        people_change=True,
        answers="gateway" if plan.seed % 2 else "none",
        **few,
    )
