"""How a router reads agents' signs of life.

Which time-out they put off, and what a new owner starts from.
"""

from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import Partition, agent, route

from mesh.core.inputs import SignReceived, TimerDue
from mesh.services.router import liveness as watching
from mesh.services.router.liveness import Liveness
from mesh.testing import MeshKit

ALL: dict[str, Any] = {"start_timeout": "10s", "run_timeout": "60s", "heartbeat": "6s"}
START, RUN, SILENCE = 10_000, 60_000, 6_000  # the same in milliseconds


class Watched:
    """A workflow with one attempt under way, and an owner that listens.

    Times are counted from the dispatch.
    """

    def __init__(self, **periods: Any) -> None:
        self.p = Partition(route({"a": agent(**(periods or ALL))}))
        self.p.start()
        self.zero = self.p.now_ms
        self.signs = Liveness()
        self.listen()

    def listen(self) -> None:
        self.signs.watch(self.p.workflow(), "a", self.p.step("a"))

    def take_over(self, at: int) -> None:
        self.signs = Liveness()
        self.signs.rebuild(self.p.state.workflows.values(), self.zero + at)

    def hear(self, status: Any, at: int, *, so_far: int = 0, attempt: int = 1, task: str = "a") -> None:
        sign = SignReceived(
            task_id=self.p.task_id(task), attempt=attempt, workflow_id="r:k", status=status, duration_ms=float(so_far)
        )
        self.signs.hear(sign, self.zero + at)

    def next_due(self) -> int | None:
        due = self.signs.next_due_at_ms()
        return None if due is None else due - self.zero

    def timers(self, up_to: int = 10**9, limit: int = 100) -> list[TimerDue]:
        return list(self.signs.pop_due(self.zero + up_to, self.p.state.workflows, limit=limit))

    def time_outs(self, up_to: int = 10**9) -> list[tuple[str, int]]:
        return [(timer.kind, timer.due_at_ms - self.zero) for timer in self.timers(up_to)]


def test_an_attempt_that_nobody_begins_times_out_at_its_start() -> None:
    w = Watched()
    assert w.next_due() == START
    assert w.time_outs(START - 1) == []
    (timer,) = w.timers(START)
    run = w.p.workflow().run_id
    assert timer == TimerDue(
        due_at_ms=w.zero + START, workflow_id="r:k", kind="start_timeout", step="a", run_id=run, attempt=1
    )
    assert w.p.give(timer) != ()
    assert w.timers() == []


@pytest.mark.parametrize("status", ["started", "heartbeat"])
def test_any_sign_says_that_it_has_begun(status: str) -> None:
    w = Watched()
    w.hear(status, 9_000)
    assert w.next_due() == 9_000 + SILENCE
    assert w.time_outs() == [("heartbeat_timeout", 9_000 + SILENCE)]


def test_a_time_out_comes_earlier_than_the_one_that_a_sign_puts_off() -> None:
    w = Watched(start_timeout="10m", heartbeat="6s")
    w.hear("started", 100)
    assert w.next_due() == 100 + SILENCE


def test_each_heartbeat_puts_the_silence_off_and_none_the_run() -> None:
    w = Watched()
    w.hear("started", 0)
    for at in range(0, RUN, SILENCE // 2):
        assert w.time_outs(at) == []
        w.hear("heartbeat", at, so_far=at)
    assert w.next_due() == RUN
    assert w.time_outs() == [("run_timeout", RUN)]


def test_to_say_again_that_it_has_begun_is_no_heartbeat() -> None:
    w = Watched()
    w.hear("started", 0)
    w.hear("started", 4_000, so_far=4_000)
    assert w.time_outs() == [("heartbeat_timeout", SILENCE)]


def test_the_run_counts_from_the_begin_by_whatever_sign_is_heard_first() -> None:
    w = Watched(run_timeout="60s")
    assert w.next_due() is None
    w.hear("started", 30_000, so_far=20_000)
    assert w.next_due() == 10_000 + RUN
    w.hear("started", 31_000, so_far=21_500)
    assert w.time_outs() == [("run_timeout", 10_000 + RUN)]


def test_the_run_of_an_attempt_that_another_instance_has_begun_again_counts_from_there() -> None:
    w = Watched(run_timeout="60s")
    w.hear("started", 1_000)
    w.hear("started", 40_000)
    w.hear("started", 41_000, so_far=40_000)  # the first one is there again
    assert w.time_outs() == [("run_timeout", 40_000 + RUN)]


@pytest.mark.parametrize(("so_far", "begun"), [(10**12, 0), (-(10**12), 5_000)])
def test_a_sign_that_lies_about_its_age_can_neither_begin_before_its_dispatch_nor_after_itself(
    so_far: int, begun: int
) -> None:
    w = Watched(run_timeout="60s")
    w.hear("started", 5_000, so_far=so_far)
    assert w.next_due() == begun + RUN


def test_signs_of_another_attempt_or_task_count_for_nothing() -> None:
    w = Watched()
    w.hear("started", 1_000, attempt=2)
    w.signs.hear(SignReceived(task_id="r:k/0/b", attempt=1, workflow_id="r:k", status="started"), w.zero)
    assert w.next_due() == START


def test_a_step_without_periods_is_not_watched() -> None:
    w = Watched(timeout="10s")
    w.take_over(0)
    assert w.next_due() is None
    w.hear("heartbeat", 0)
    assert w.timers() == []


def test_a_settled_attempt_is_forgotten() -> None:
    w = Watched()
    w.signs.forget(w.p.task_id("a"))
    assert w.next_due() is None


@pytest.mark.parametrize("become", ["cancelled", "another attempt", "another run", "gone"])
def test_a_time_out_of_what_nobody_waits_for_is_dropped(become: str) -> None:
    w = Watched(**ALL, retry={"backoff": "0s"})
    match become:
        case "cancelled":
            w.p.command("cancel")
        case "another attempt":
            w.p.fail("a")
            w.p.wait("a")
        case "another run":
            workflow = w.p.workflow()
            w.p.state.workflows[workflow.workflow_id] = replace(workflow, run_id="0ther000")
        case _:
            w.p.state.workflows.clear()
    assert w.next_due() == START
    assert w.timers() == []
    assert w.next_due() is None


def test_the_next_attempt_has_its_periods_anew() -> None:
    w = Watched(**ALL, retry={"backoff": "0s"})
    w.hear("started", 100)
    w.p.now_ms += 3_000
    w.p.fail("a")
    w.p.wait("a")
    w.listen()
    w.hear("heartbeat", 5_000)  # of the first
    assert w.time_outs() == [("start_timeout", w.p.step("a").since_ms - w.zero + START)]


def test_a_time_out_at_whose_decision_the_owner_stops_stays_due() -> None:
    w = Watched()
    for _ in w.signs.pop_due(w.zero + START, w.p.state.workflows, limit=5):
        break  # as where the route's definition has not been read yet
    assert w.time_outs() == [("start_timeout", START)]


def test_no_more_time_outs_come_than_there_is_room_for() -> None:
    w = Watched()
    assert w.timers(limit=0) == []
    assert len(w.timers(limit=1)) == 1


# Take-overs ---------------------------------------------------------------------------------------


def test_a_new_owner_gives_the_start_its_full_period_and_then_hears_how_long_it_has_run() -> None:
    w = Watched()
    w.take_over(9_000)
    assert w.next_due() == 9_000 + START
    w.hear("started", 12_000, so_far=11_000)  # said again; a heartbeat is due from the take-over on
    assert w.next_due() == 9_000 + SILENCE
    for at in range(15_000, RUN, 4_000):
        w.hear("heartbeat", at, so_far=at - 1_000)
    assert w.time_outs() == [("run_timeout", 1_000 + RUN)]


def test_without_a_start_time_out_a_new_owner_takes_it_as_begun() -> None:
    w = Watched(heartbeat="6s", run_timeout="60s")
    w.take_over(50_000)
    assert w.time_outs() == [("heartbeat_timeout", 50_000 + SILENCE)]
    w = Watched(run_timeout="60s")
    w.take_over(50_000)
    assert w.time_outs() == [("run_timeout", 50_000 + RUN)]


def test_what_was_taken_as_begun_and_begins_only_then_has_its_run_from_there() -> None:
    w = Watched(run_timeout="60s")
    w.take_over(50_000)
    w.hear("started", 90_000)
    assert w.time_outs() == [("run_timeout", 90_000 + RUN)]


def test_signs_from_before_the_take_over_that_are_read_again_take_nothing_from_its_period() -> None:
    w = Watched()
    w.take_over(20_000)
    w.hear("started", 2_000)
    w.hear("heartbeat", 4_000, so_far=2_000)
    assert w.time_outs() == [("heartbeat_timeout", 20_000 + SILENCE)]


def test_the_heap_stays_small_where_attempts_end_long_before_their_periods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_REBUILD_AT", 10)
    w = Watched()
    for _ in range(100):
        w.signs.forget(w.p.task_id("a"))
        w.listen()
    assert len(w.signs._heap) <= 11
    assert w.time_outs() == [("start_timeout", START)]


def test_tasks_that_their_own_decision_makes_needless_are_not_watched_and_harm_nothing(mesh_kit: MeshKit) -> None:
    """Their places are gone when the decision is settled.

    The decision counts all the same, and is the only one.
    """
    steps = {"each": agent(value="${{ item }}", for_each="${{ event.data }}"), "over": {"end": "completed"}}
    mesh_kit.route({"route": "r", "on": {"type": "t"}, "key": "${{ event.subject }}", "steps": steps})
    run = mesh_kit.publish(type="t", subject="1", data=[1, 2])
    assert run.outcome.status == "completed"
    assert "set aside" not in mesh_kit.transcript()
