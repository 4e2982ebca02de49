"""The simulation catches each fault that is put into the router, within some number of seeds.

`pytest tests/simulation/test_seeded_faults.py -rP` prints the numbers.
"""

import faulty_answers
import faulty_inputs
import faulty_owners
import faulty_pauses
import faulty_people
import faulty_rules
import faulty_weather
import pytest
from faults import CAUGHT_BY, FAULTS, PLANS, plan_for

from mesh.testing.simulation import simulate

pytestmark = pytest.mark.usefixtures("compiled_once")

MOST_SEEDS = 100
# loaded, so that their faults are among FAULTS
assert {faulty_answers, faulty_inputs, faulty_owners, faulty_pauses, faulty_people, faulty_rules, faulty_weather}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_router_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    FAULTS[name](monkeypatch)
    known = [CAUGHT_BY[name]] if name in CAUGHT_BY else []
    for seed in [*known, *range(MOST_SEEDS)]:
        outcome = simulate(seed, plan=plan_for(name, seed))
        if outcome.findings:
            print(f"{name}: seed {seed} caught it: {outcome.findings[0]}")  # noqa: T201 - the number that was asked for
            return
    pytest.fail(f"{name} was not noticed in {MOST_SEEDS} seeds")


@pytest.mark.parametrize("name", {plan: name for name, plan in reversed(PLANS.items())}.values())
def test_the_weather_that_a_fault_needs_breaks_nothing_by_itself(name: str) -> None:
    for seed in range(2):
        outcome = simulate(seed, plan=plan_for(name, seed))
        assert not outcome.findings, outcome.story()
