"""Deciding: schedules, from what routers tell of them to the workflows that they start."""

import pytest
from msgspec.structs import replace
from one_partition import Partition, agent, names, only, route, scheduled

from mesh.core import ids
from mesh.core.decide import decide
from mesh.core.events import (
    CommandAccepted,
    CommandRefused,
    EffectUndeliverable,
    InputDismissed,
    ScheduleChanged,
    ScheduleFired,
    StartRepeated,
    WorkflowStarted,
)
from mesh.core.evolve import evolve
from mesh.core.inputs import CommandGiven, ScheduledStart, ScheduleSet, TimerDue, Undeliverable
from mesh.core.schedules import Missed, rfc3339
from mesh.core.state import Directory, Plan, Workflow
from mesh.inspection.wording.built_in import words_of

STEPS = {"a": agent("x", "${{ event.data.scheduled_at }}")}
NINE = scheduled(STEPS, "0 9 * * *")
TEN = scheduled(STEPS, "0 10 * * *")
NINE_TOO = scheduled({**STEPS, "b": agent("y")}, "0 9 * * *")
GONE = route(STEPS)
NAME = "mesh.schedule:r"
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def partition() -> Partition:
    p = Partition(NINE, TEN, NINE_TOO, GONE)
    p.set_schedule()
    return p


def plan(p: Partition) -> Plan:
    found = p.state.workflows[NAME].plan
    assert found is not None
    return found


def test_each_time_starts_one_workflow_by_its_time() -> None:
    p = partition()
    due = plan(p).next_at_ms or 0
    fired = only(p.fire(), ScheduleFired)
    assert (fired.key, fired.scheduled_at_ms, fired.next_at_ms) == (rfc3339(due), due, due + DAY_MS)
    [start] = p.crossing()
    assert isinstance(start, ScheduledStart)
    assert start.workflow_id == f"r:{rfc3339(due)}"
    assert names(p.give(start)) == ["WorkflowStarted", "TaskDispatched"]
    assert p.workflow(start.workflow_id).digest == NINE.digest
    assert p.step("a", start.workflow_id).input == rfc3339(due)
    p.check_replay()


def test_a_start_that_comes_twice_starts_nothing_more() -> None:
    p = partition()
    p.fire()
    [start] = p.crossing()
    p.give(start)
    assert names(p.give(start)) == [StartRepeated.__name__]


def test_a_timer_that_has_had_its_time_changes_nothing() -> None:
    p = partition()
    due = plan(p).next_at_ms or 0
    p.fire()
    late = TimerDue(due_at_ms=due, workflow_id=NAME, kind="schedule")
    assert p.give(late) == ()
    assert p.give(replace(late, workflow_id="mesh.schedule:other")) == ()


def test_what_was_missed_starts_once_and_says_how_late() -> None:
    p = partition()
    first = plan(p).next_at_ms or 0
    fired = only(p.fire(late_ms=3 * DAY_MS + 90_000), ScheduleFired)
    assert fired.scheduled_at_ms == first + 3 * DAY_MS
    assert fired.cloud_event["data"] == {"scheduled_at": rfc3339(first + 3 * DAY_MS), "late_s": 90}
    assert fired.next_at_ms == first + 4 * DAY_MS


@pytest.mark.parametrize("days", [1, 2, 3])
def test_the_times_that_passed_without_a_start_are_noted(days: int) -> None:
    p = partition()
    first = plan(p).next_at_ms or 0
    fired = only(p.fire(late_ms=days * DAY_MS), ScheduleFired)
    assert fired.missed == Missed(count=days, first_ms=first, last_ms=first + (days - 1) * DAY_MS)
    last = f" to {rfc3339(first + (days - 1) * DAY_MS)}" if days > 1 else ""
    words = f"{days} time{'s' if days > 1 else ''} passed without a start: {rfc3339(first)}{last}"
    said = words_of(fired, p.decisions[-1])
    assert said is not None
    assert (said.why, said.tone) == (words, "bad")
    assert words in said.told
    p.check_replay()


def test_a_time_that_is_late_but_starts_a_workflow_was_not_missed() -> None:
    p = partition()
    fired = only(p.fire(late_ms=DAY_MS - 1), ScheduleFired)
    assert fired.missed is None
    said = words_of(fired, p.decisions[-1])
    assert said is not None
    assert (said.why, said.tone) == ("", "work")


def test_a_long_gap_is_noted_within_bounds() -> None:
    often = scheduled(STEPS, "* * * * *")
    p = Partition(often)
    p.set_schedule()
    first = plan(p).next_at_ms or 0
    fired = only(p.fire(late_ms=30 * DAY_MS), ScheduleFired)
    assert fired.missed == Missed(count=1_000, first_ms=first, last_ms=fired.scheduled_at_ms - 60_000, is_more=True)
    said = words_of(fired, p.decisions[-1])
    assert said is not None
    assert said.why.startswith("more than 1,000 times passed without a start: ")


def test_times_missed_before_another_definition_holds_are_noted_too() -> None:
    p = partition()
    first = plan(p).next_at_ms or 0
    p.now_ms = first + 2 * DAY_MS + HOUR_MS
    fired = only(p.set_schedule(digest=TEN.digest, since_ms=p.now_ms), ScheduleFired)
    assert fired.missed == Missed(count=2, first_ms=first, last_ms=first + DAY_MS)


def test_what_is_told_again_changes_nothing() -> None:
    p = partition()
    since = p.now_ms
    p.now_ms += 1000
    assert only(p.set_schedule(since_ms=since, by="another"), InputDismissed).code == "repeated"


def test_of_two_definitions_the_one_of_the_later_time_holds_in_whatever_order_they_are_told() -> None:
    for first, second in ((1, 2), (2, 1)):
        p = Partition(NINE, TEN)
        for at in (first, second):
            p.set_schedule(digest=(NINE if at == 1 else TEN).digest, since_ms=p.now_ms + at)
        assert plan(p).schedule == (TEN.on and TEN.on.schedule)
        assert p.state.workflows[NAME].digest == TEN.digest


def test_of_two_definitions_of_one_time_the_same_holds_in_whatever_order_they_are_told() -> None:
    held = set()
    for digests in ((NINE.digest, TEN.digest), (TEN.digest, NINE.digest)):
        p = Partition(NINE, TEN)
        for digest in digests:
            p.set_schedule(digest=digest, since_ms=p.now_ms)
        held.add(p.state.workflows[NAME].digest)
    assert len(held) == 1


def test_a_new_version_with_the_same_times_keeps_the_one_to_come() -> None:
    p = partition()
    due = plan(p).next_at_ms
    p.now_ms += HOUR_MS
    changed = only(p.set_schedule(digest=NINE_TOO.digest), ScheduleChanged)
    assert changed.next_at_ms == due
    p.fire()
    p.pass_on()
    assert p.workflow(f"r:{rfc3339(due or 0)}").digest == NINE_TOO.digest


def test_new_times_count_from_when_they_hold() -> None:
    p = partition()
    p.now_ms += HOUR_MS
    since = p.now_ms
    p.now_ms += 10 * HOUR_MS  # nobody was there to hear of it
    changed = only(p.set_schedule(digest=TEN.digest, since_ms=since), ScheduleChanged)
    assert since < (changed.next_at_ms or 0) <= since + DAY_MS


def test_what_was_due_before_a_new_definition_held_starts_first() -> None:
    p = partition()
    due = plan(p).next_at_ms or 0
    p.now_ms = due + HOUR_MS + 5_000
    fired, changed = p.set_schedule(digest=GONE.digest)
    assert isinstance(fired, ScheduleFired)
    assert (fired.digest, fired.scheduled_at_ms, fired.cloud_event["data"]["late_s"]) == (NINE.digest, due, 3605)
    assert isinstance(changed, ScheduleChanged)
    assert (changed.schedule, changed.next_at_ms) == (None, None)


def test_a_route_without_a_schedule_ends_the_one_that_it_had_even_if_it_is_told_first() -> None:
    p = Partition(NINE, GONE)
    p.set_schedule(digest=GONE.digest, since_ms=p.now_ms + 1)
    assert only(p.set_schedule(since_ms=p.now_ms), InputDismissed).code == "late"
    assert plan(p) == Plan(schedule=None, since_ms=p.now_ms + 1)


def test_an_operator_ends_it_until_a_newer_definition() -> None:
    p = partition()
    since = p.now_ms
    assert names(p.command("cancel", key=NAME)) == [CommandAccepted.__name__, ScheduleChanged.__name__]
    assert plan(p).next_at_ms is None
    assert only(p.command("cancel", key=NAME), CommandRefused).code == "built_in"
    assert only(p.set_schedule(since_ms=since), InputDismissed).code == "repeated"
    p.now_ms += 1
    assert only(p.set_schedule(digest=NINE_TOO.digest), ScheduleChanged).next_at_ms is not None


@pytest.mark.parametrize("command", ["retry", "skip", "fail"])
def test_an_operator_can_do_nothing_else(command: str) -> None:
    p = partition()
    given = CommandGiven(
        workflow_id=NAME,
        command_id="c",
        command=command,  # type: ignore[arg-type] # the parameters are such
        by="op",
        **p._inbox("mesh.commands", None),
    )
    assert only(p.give(given), CommandRefused).code == "built_in"
    assert only(p.give(replace(given, workflow_id="mesh.schedule:x")), CommandRefused).code == "built_in"


def test_a_start_that_can_not_be_sent_is_noted() -> None:
    p = partition()
    lost = Undeliverable(workflow_id=NAME, effect_id="x/start", topic="mesh.inbox", code="gone", message="gone")
    assert names(p.give(lost)) == [EffectUndeliverable.__name__]


def test_a_schedule_takes_no_events() -> None:
    p = partition()
    p.fire()
    [start] = p.crossing()
    assert only(p.give(replace(start, workflow_id=NAME)), InputDismissed).code == "unknown"


def test_what_is_for_a_schedule_means_nothing_to_others() -> None:
    p = partition()
    told = ScheduleSet(
        workflow_id="r:k", set_id="s", route="r", digest="d", since_ms=1, **p._inbox("mesh.commands", None)
    )
    assert only(p.give(told), InputDismissed).code == "unknown"
    assert only(p.give(replace(told, workflow_id="mesh.other:x")), InputDismissed).code == "unknown"


def test_a_log_in_which_what_is_not_there_fires_is_refused() -> None:
    p = partition()
    fired = only(p.fire(), ScheduleFired)
    with pytest.raises(ValueError, match="which is not there"):
        evolve(None, fired, workflow_id=NAME, at_ms=1)
    alias = replace(p.state.workflows[NAME], plan=None)
    with pytest.raises(ValueError, match="which is not there"):
        evolve(alias, fired, workflow_id=NAME, at_ms=1)


def test_a_state_that_no_log_gives_is_not_fired() -> None:
    p = partition()
    broken: Workflow = replace(p.state.workflows[NAME], plan=Plan(schedule=None, since_ms=1, next_at_ms=2))
    timer = TimerDue(due_at_ms=2, workflow_id=NAME, kind="schedule")
    with pytest.raises(AssertionError, match="due without a schedule"):
        decide(broken, timer, route=None, directory=Directory(), now_ms=3)


def test_the_event_that_starts_it_is_its_run() -> None:
    p = partition()
    p.fire()
    [start] = p.crossing()
    assert isinstance(start, ScheduledStart)
    started = only(p.give(start), WorkflowStarted)
    assert started.run_id == ids.run_id("/mesh/schedules/r", start.key)
