"""Whole meshes in virtual time: whatever happens, the promises are kept, and all comes to an end.

MESH_SIMULATION_SEEDS=1000:3000 runs other seeds than the fixed ones (a night's work, say).
"""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
from faults import with_an_office
from msgspec.structs import replace

from mesh.codec.route_file import load_route_text
from mesh.core.events import Event
from mesh.routes.keys import ROUTE, STEP
from mesh.services.router import owner
from mesh.testing.simulation import Plan, simulate
from mesh.testing.simulation.drawn import draw_routes
from mesh.testing.simulation.heavy import HEAVY
from mesh.testing.simulation.runs import drawn_yaml

pytestmark = pytest.mark.usefixtures("compiled_once")

BEGIN, END = map(int, os.environ.get("MESH_SIMULATION_SEEDS", "0:100").split(":"))

EXPECTED = (
    "take-overs",
    "inert decisions",
    "timeouts",
    "start_timeout",
    "run_timeout",
    "heartbeat_timeout",
    "signs: started",
    "signs: heartbeat",
    "forgotten",
    "completed",
    "failed",
    "rejected",
    "cancelled",
    "expired",
    "approved with an edit",
    "incident: exhausted",
    "incident: expired",
    "incident: non_retryable",
    "incident: undeliverable",
    "aliases sought",
    "events by alias",
    "incident: alias",
    "schedules fired",
    "schedules fired late",
    "calls",
    "slots granted",
    "call: failed",
    "call: timeout",
    "incident: call",
    "refused: closed",
    "refused: digest",
    "refused: late",
    "refused: role",
    "refused: unknown",
    "activations",
    "migrated",
    "refused: migrate, misfit",
    "refused: migrate, already",
    "refused: migrate, no_version",
    "versions checked",
    "waits timed out",
    "incident: loop",
    "agents killed by a task",
    "agents stopped for a time",
    "live states compared",
    "checkpoints compared",
)

PEOPLE = (
    "ApprovalRequested2",
    "ApprovalWanted",
    "ApprovalClosed2",
    "VoteCast",
    "VoteTakenBack",
    "PayloadEdited",
    "NoteAdded",
    "AnswerHeld",
    "ApprovalClaimed",
    "ApprovalEscalated",
    "ApprovalReassigned",
    "ApprovalReleased",
    "DeadlineMoved",
    "QuestionAnswered",
    "QuestionAsked",
    "AnswerRefused2",
    "ApprovalReopened",
    *(
        f"refused: {code}"
        for code in ("choice", "digest", "edits", "excluded", "late", "question", "reason", "repeated", "role")
    ),
)
"""What the runs with approvals of several people meet."""

OFFICE = (
    "AnswerSigned",
    "DelegationGiven",
    "DelegationTakenBack",
    "AbsenceSaid",
    "ApprovalRequested2",
    "VoteCast",
    "votes for others",
    "votes that were signed",
    "votes by a gateway",
    "instants by a calendar",
    *(f"refused: {code}" for code in ("unsigned", "signature", "key", "stale", "delegation", "excluded", "role")),
)
"""What the runs meet where people sign, answer for others and are away."""

UNMET = {
    *PEOPLE,
    # Only the runs with an office have signatures, delegations and absences: `OFFICE`.
    "AnswerSigned",
    "DelegationGiven",
    "DelegationTakenBack",
    "AbsenceSaid",
    # A record between workflows that can't be read or sent: no broker here damages or refuses one.
    "CallRefused",
    "EffectUndeliverable",
    "SlotRefused",
    # In no route that is drawn or fixed are workflows private: `test_private`.
    "PayloadsSealed",
    "PayloadsErased",
    # Few runs have a clock that jumps: the runs with fixed weather below.
    "ClockHeld",
    "ClockReleased",
    # `test_core_properties` draws outputs by hand.
    "StepCompleted",
    # test_decide_fork.py has forks.
    "WorkflowForked",
    # Nobody imports a log there: test_log_import.py.
    "LogImported",
}
"""Events that other tests bring about, each with the reason why none of these runs does."""
MET = (*EXPECTED, *(event.__name__ for event in get_args(Event) if event.__name__ not in UNMET))


@cache
def run_of(seed: int) -> tuple[str, Counter[str]]:
    """The story of the seed's run, if it broke a promise, and what it met. Two tests look at it."""
    outcome = simulate(seed)
    return outcome.story() if outcome.findings else "", outcome.counts


@pytest.mark.parametrize("seed", range(BEGIN, END))
def test_the_promises_are_kept(seed: int) -> None:
    story, _ = run_of(seed)
    assert not story, story


def test_several_people_never_give_two_verdicts_nor_one_that_is_not_theirs() -> None:
    counts = Counter[str]()
    for seed in range(20):
        outcome = simulate(seed, plan=replace(Plan.of(seed), kinds=("vote", "escalate")))
        assert not outcome.findings, outcome.story()
        counts += outcome.counts
    assert [name for name in PEOPLE if not counts[name]] == []


def test_people_who_sign_are_away_and_answer_for_others_count_as_they_may() -> None:
    counts = Counter[str]()
    for seed in range(12):
        outcome = simulate(seed, plan=with_an_office(Plan.of(seed)))
        assert not outcome.findings, outcome.story()
        counts += outcome.counts
    assert [name for name in OFFICE if not counts[name]] == []


def _under(seed: int, **weather: Any) -> Counter[str]:
    """What a short run with this weather, and little else, meets. It must break no promise."""
    plan = replace(Plan.of(seed), chaos_s=25.0, workflows=6, drawn=0, real_agents=False, people_change=False)
    # without pauses: what goes out while the clock is ahead has its deadlines by that clock, so
    # after it is put back a lost task is missed only hours later
    outcome = simulate(seed, plan=replace(plan, **{"deadly": 0, "heavy": (), "jumps": (), "pauses": False, **weather}))
    assert not outcome.findings, outcome.story()
    return outcome.counts


def test_what_goes_through_a_large_list_too_often_ends_as_the_documents_say_and_all_else_goes_on() -> None:
    counts = _under(3, heavy=tuple(HEAVY), kinds=("fan",), workflows=2)
    # an `if`, an input and the items of a for-each; a key; a guard lets nothing in without a word
    assert counts["incident: expression"] >= 3
    assert counts["dead letter: no_key"]


@pytest.mark.parametrize("seed", [2, 18, 20, 27])
def test_what_kills_routers_is_set_aside_and_nothing_else(seed: int) -> None:
    """Two events kill in ingress, and two commands kill owners. Nothing else kills a router."""
    counts = _under(seed, deadly=4, chaos_s=40.0, workflows=12, blackout_at_s=None, mean_life_s=1e9)
    assert (counts["set aside by ingress"], counts["parked: poison"]) == (2, 2)


@pytest.mark.parametrize(
    "jumps",
    [((9.0, 7_200.0),), ((9.0, -240.0),), ((9.0, 7_200.0), (15.0, -7_200.0)), ((9.0, -120.0), (15.0, 120.0))],
)
def test_a_jump_of_the_clock_makes_nothing_due_and_after_the_release_all_goes_on(
    jumps: tuple[tuple[float, float], ...],
) -> None:
    counts = Counter[str]()
    for seed in range(2):
        counts += _under(seed, jumps=jumps, kinds=("awaits", "race", "review"))
    assert counts["ClockHeld"]
    assert counts["ClockReleased"]


@pytest.mark.parametrize("seed", [65, 350, 1077, 1151, 1499, 1737, 2314])
def test_what_was_found_once_stays_corrected(seed: int) -> None:
    outcome = simulate(seed)
    assert not outcome.findings, outcome.story()


def test_an_owner_that_hears_nothing_but_signs_of_life_notes_how_far_it_has_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(owner, "_MARK_AFTER", 2)
    plans = [replace(Plan.of(seed), kinds=("audible",)) for seed in range(12)]
    marks = 0
    for plan in plans:
        outcome = simulate(plan.seed, plan=plan)
        assert not outcome.findings, outcome.story()
        marks += outcome.counts["marks"]
    monkeypatch.undo()
    assert marks > sum(simulate(plan.seed, plan=plan).counts["marks"] for plan in plans)


def test_the_runs_meet_what_they_are_made_for() -> None:
    """Some of it is rare: as many of the fixed seeds as it takes."""
    counts, missing = Counter[str](), list(MET)
    for seed in range(200):
        counts += run_of(seed)[1]
        missing = [name for name in MET if not counts[name]]
        if not missing:
            return
    assert missing == []


def _digest(seed: int) -> str:
    return hashlib.sha256("\n".join(simulate(seed).transcript.lines()).encode()).hexdigest()


def test_a_seed_is_one_run_in_another_process_too() -> None:
    # with played agents and with real runtimes; in 24 one of these times several tasks out at once
    seeds = (3, 4, 5, 9, 13, 24)
    code = f"import test_simulation as t; print(*(t._digest(seed) for seed in {seeds}))"
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "12345",
        "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300, env=environment
    )
    assert done.stdout.split() == [_digest(seed) for seed in seeds]


def test_a_failure_tells_its_story_and_how_to_see_it_again() -> None:
    outcome = simulate(1)
    outcome.findings.append("a promise was broken")
    story = outcome.story()
    assert "python -m mesh.testing.simulation 1 --verbose" in story
    assert "a promise was broken" in story
    assert "OWNER router-" in outcome.story(whole=True)
    assert "route: drawn-1" in story


def test_drawn_routes_are_those_of_the_seed_and_have_every_rule_between_them() -> None:
    drawn = [route for seed in range(60) for route in draw_routes(seed, 3)]
    again = [route for seed in range(60) for route in draw_routes(seed, 3)]
    assert [(one.first.digest, one.other.digest) for one in drawn] == [(o.first.digest, o.other.digest) for o in again]
    assert all(one.first.digest != one.other.digest for one in drawn)
    documents = [one.first.definition for one in drawn]
    steps = [step for document in documents for step in document["steps"].values()]
    keys = {key for document in documents for key in document} | {key for step in steps for key in step}
    # Two are for approvals of several people, which fixed routes have; `test_private` makes all
    # routes private.
    assert {*ROUTE.keys, *STEP.keys} - {"requester", "approve", "private"} <= keys
    joins = {next(iter(step["needs"])) for step in steps if isinstance(step.get("needs"), dict)}
    assert joins == {"any", "count", "first_of"}


def test_the_routes_that_a_seed_draws_are_a_route_file() -> None:
    for seed in range(10):
        plan = Plan.of(seed)
        loaded = load_route_text(drawn_yaml(plan), name="drawn")
        assert [one.route.digest for one in loaded] == [one.first.digest for one in draw_routes(seed, plan.drawn)]
