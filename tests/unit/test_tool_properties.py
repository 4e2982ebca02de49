"""What approvals of single calls promise, whatever anybody does; and its seeded faults.

`mesh.testing.promises.tools` judges from the log alone. Each fault that is put into the rules must
be noticed.
"""

import sys
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace
from one_partition import PEOPLE, Partition, agent, route
from run_ledger import check_liveness

from mesh.core import evolve, ids
from mesh.core.decide.begin import call as begin_call
from mesh.core.decide.begin import undo as begin_undo
from mesh.core.decide.begin.end import end
from mesh.core.decide.settle import approval as settle_approval
from mesh.core.decide.settle import task as settle_task
from mesh.core.decide.settle import tools as settle_tools
from mesh.core.events import ApprovalWanted
from mesh.core.evolve import limits as evolve_limits
from mesh.core.evolve import steps as evolve_steps
from mesh.core.state import FINISHED
from mesh.core.tool_approvals import ToolState, with_verdict
from mesh.testing.promises.tools import ToolApprovals

SEEDS = 60
TURNS = 40
TERMS: dict[str, Any] = {"role": "maintainer", "quorum": 2, "deadline": "1h", "limit": 6}
CROWD = replace(PEOPLE, roles={name: frozenset({"maintainer"}) for name in ("ana", "ben", "cy")})
STEPS: dict[str, Any] = {
    "buy": agent(
        "buyer",
        approve=TERMS,
        retry={"attempts": 2, "backoff": "1s"},
        handover={"to": ["other"], "hops": 1},
        undo=agent("buyer", "back"),
        limit="one",
    ),
    "each": agent("buyer", for_each={"items": [1, 2, 3], "tolerate": 1}, approve=TERMS, retry={"attempts": 1}),
    "lone": agent("buyer", approve=TERMS),
    "slow": agent("slow"),
    "won": {"value": 1, "needs": {"first_of": ["each", "lone", "slow"]}},
    "last": agent("t", needs=["buy", "won"]),
}


class Play:
    """One workflow, and what was found wrong with it."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        stuck = {**TERMS, "on_expiry": "incident"} if self.rng.random() < 0.3 else TERMS
        steps = {**STEPS, "buy": {**STEPS["buy"], "approve": stuck}}
        limits = {"one": {"concurrency": 1}} if self.rng.random() < 0.5 else {"one": {"concurrency": 9}}
        self.p = Partition(route(steps, limits=limits), directory=CROWD)
        self.faults: list[str] = []
        self.seen: set[type] = set()
        self._judged = 0
        self._judge = ToolApprovals(lambda is_well, what: None if is_well else self.faults.append(what))

    def run(self) -> "Play":
        self.p.start()
        for _ in range(TURNS):
            self.p.deliver()
            self._hear()
            workflow = self.p.workflow()
            if workflow.status != "running":
                break
            self._turn()
            self._hear()
        self.p.check_replay()
        check_liveness(self.p.workflow(), next(iter(self.p.routes.values())))
        return self

    def _hear(self) -> None:
        for decision in self.p.decisions[self._judged :]:
            self._judge.check(decision, f"decision {self._judged}")
            self.seen |= set(map(type, decision.events))
            self._judged += 1

    def _turn(self) -> None:
        """Somebody does something that can be done now, or does it once more."""
        steps = self.p.workflow().steps
        place = self.rng.choice([place for place, step in steps.items() if step.status not in FINISHED])
        status = steps[place].status
        draw = self.rng.random()
        if draw < 0.05:
            self.p.command(self.rng.choice(["cancel", "fail"]))
        elif draw < 0.15 and steps[place].attempt > 1:
            self.p.succeed(place, attempt=self.rng.randint(1, steps[place].attempt - 1))
        elif status == "running":
            self._work(place)
        elif status == "asking":
            self._answer(place)
        elif status == "retrying":
            self.p.wait(place)
        elif status == "incident":
            self.p.command(self.rng.choice(["retry", "retry", "skip"]), step=place)

    def _work(self, place: str) -> None:
        match self.rng.choices(["want", "succeed", "fail", "hand over", "die"], [8, 2, 1, 1, 1])[0]:
            case "want":
                self.p.want(place, self.rng.choice(["pay", "ship"]), self.rng.choice([1, 2]))
            case "succeed":
                self.p.succeed(place)
            case "fail":
                self.p.fail(place)
            case "hand over":
                self.p.hand_over(place, "other")
            case _:
                self.p.interrupt(place)

    def _answer(self, place: str) -> None:
        match self.rng.choices(["approve", "reject", "edit", "withdraw", "wait"], [10, 2, 2, 1, 1])[0]:
            case "wait":
                self.p.wait(place)
            case "edit":
                self._vote(place, "edit", payload=self.rng.choice([3, 4]))
            case decision:
                self._vote(place, decision)

    def _vote(self, place: str, decision: Any, **more: Any) -> None:
        self.p.now_ms += 1
        self.p.vote(self.rng.choice(["ana", "ben", "cy"]), decision, step=place, **more)


def test_no_promise_is_broken() -> None:
    plays = [Play(seed).run() for seed in range(SEEDS)]
    assert [(seed, play.faults) for seed, play in enumerate(plays) if play.faults] == []
    assert sum(ApprovalWanted in play.seen for play in plays) > SEEDS / 2
    assert {play.p.workflow().status for play in plays} >= {"completed", "cancelled", "running"}


# Faults, one at a time ----------------------------------------------------------------------------


def _left_open(patch: pytest.MonkeyPatch) -> None:
    """What ends a step leaves the question of its agent open."""
    patch.setattr(begin_undo, "end_tools", lambda *_: None)


def _late_success(patch: pytest.MonkeyPatch) -> None:
    """A late success leaves it open."""
    patch.setattr(settle_task, "end_tools", lambda *_: None)


def _items_open(patch: pytest.MonkeyPatch) -> None:
    """The end of a for-each leaves the questions of its items open."""
    patch.setattr(begin_call, "_may_wait", lambda _: False)


def _same_id(patch: pytest.MonkeyPatch) -> None:
    """A second question has the id of the first."""
    patch.setattr(ids, "is_tool", lambda place: False if _is_asking() else ".tool-" in place)


def _is_asking() -> bool:
    # the fault is in one caller of a function that many use
    return sys._getframe(2).f_code.co_name == "_question"


def _used_up(patch: pytest.MonkeyPatch) -> None:
    """A question uses up an attempt."""
    honest = evolve_steps._suspended

    def suspended(step: Any, event: Any, at_ms: int) -> Any:
        return replace(honest(step, event, at_ms), retry_budget_from=step.retry_budget_from)

    patch.setattr(evolve_steps, "_suspended", suspended)


def _kept_by_the_next(patch: pytest.MonkeyPatch) -> None:
    """Another agent that takes the task over gets the verdicts of the one before."""
    honest = evolve_steps._moved

    def moved(step: Any, event: Any, at_ms: int) -> Any:
        return replace(honest(step, event, at_ms), tools=step.tools) if _hands(event) else honest(step, event, at_ms)

    patch.setattr(evolve_steps, "_moved", moved)


def _hands(event: Any) -> bool:
    return type(event).__name__ == "TaskHandedOver"


def _lost_in_the_queue(patch: pytest.MonkeyPatch) -> None:
    """A task that waits for a slot forgets its verdicts."""
    honest = evolve_limits.queue_up
    patch.setattr(evolve_steps, "queue_up", lambda step, event, at_ms: replace(honest(step, event, at_ms), tools=None))


def _newest_alone(patch: pytest.MonkeyPatch) -> None:
    """A task brings the newest verdict alone."""
    patch.setattr(evolve, "with_verdict", lambda tools, verdict: replace(tools, waits_for="", verdicts=(verdict,)))


def _edited_digest(patch: pytest.MonkeyPatch) -> None:
    """A verdict is for the payload as it was edited."""
    honest = with_verdict

    def kept(tools: ToolState, verdict: Any) -> ToolState:
        return honest(tools, replace(verdict, digest="sha256:1") if verdict.payload == 3 else verdict)

    patch.setattr(evolve, "with_verdict", kept)


def _edit_lost(patch: pytest.MonkeyPatch) -> None:
    """An edit does not reach the agent."""
    honest = with_verdict
    patch.setattr(evolve, "with_verdict", lambda tools, verdict: honest(tools, replace(verdict, payload=UNSET)))


def _ends_it(patch: pytest.MonkeyPatch) -> None:
    """A rejection ends the workflow, as that of a step does."""

    def ended(draft: Any, closed: Any) -> None:
        if closed.verdict == "rejected":
            end(draft, "rejected", "no")
        else:
            settle_tools._go_on(draft, ids.asker_of(closed.step), "approved")

    patch.setattr(settle_approval, "on_tool_verdict", ended)


def _goes_on_at_once(patch: pytest.MonkeyPatch) -> None:
    """The task goes out again while people think."""
    honest = settle_tools.want

    def impatient(draft: Any, place: str, given: Any, wanted: Any, terms: Any) -> None:
        honest(draft, place, given, wanted, terms)
        settle_tools._go_on(draft, place, "at once")

    patch.setattr(settle_task, "want", impatient)


FAULTS: Sequence[Callable[[pytest.MonkeyPatch], None]] = (
    _left_open,
    _late_success,
    _items_open,
    _same_id,
    _used_up,
    _kept_by_the_next,
    _lost_in_the_queue,
    _newest_alone,
    _edited_digest,
    _edit_lost,
    _ends_it,
    _goes_on_at_once,
)


@pytest.mark.deep
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault.__name__))
def test_a_fault_is_noticed(fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    for seed in range(SEEDS):
        play = Play(seed)
        try:
            play.run()
        except (AssertionError, ValueError, KeyError):
            return  # it could not even be replayed, or nobody moves it any more
        if play.faults:
            return
    pytest.fail(f"no run notices {fault.__name__}")
