"""Evolve, effects, replay, ids and canonical JSON: what tests of `decide` don't reach."""

from collections.abc import Collection
from typing import Any, get_args

import pytest
from msgspec.structs import replace
from one_partition import START_MS, Partition, agent, names, only, route

from mesh.core import ids
from mesh.core.crossings import MAY_CROSS
from mesh.core.decide.open_approvals import TO_COMPLETE
from mesh.core.decide.settle.approval import ENDS
from mesh.core.decide.settle.withdrawal import ENDS_TASKS
from mesh.core.effects import _DERIVED, _ENDS_TASKS, SendDeadLetter, SendTask, effects
from mesh.core.events import (
    Cause,
    Decision,
    Event,
    IncidentRaised,
    InputAttempted,
    InputDismissed,
    InputParked,
    LogRecord,
    OwnerChanged,
    StepCancelled,
    TaskDispatched,
    TaskSucceeded,
    WorkflowEnded,
)
from mesh.core.evolve import evolve
from mesh.core.inputs import CommandGiven
from mesh.core.json_values import canonical, digest
from mesh.core.open_approvals import MAY_SHOW
from mesh.core.replay import Attempt, PartitionFold, is_repeated, replay
from mesh.core.state import PartitionState, StepState
from mesh.core.topics import Topics

PARKED = InputParked(
    code="malformed",
    message="no JSON",
    topic="mesh.inbox",
    partition=0,
    offset=3,
    timestamp_ms=1,
    key=None,
    value=None,
    headers=[],
)


def decision(*events: Event, positions: dict[str, int] | None = None, mark: int = 0, epoch: str = "one") -> Decision:
    return Decision(
        epoch=epoch,
        workflow_id="r:k",
        at_ms=START_MS,
        cause=Cause(kind="result", id="x"),
        positions=positions or {},
        mark=mark,
        events=events,
    )


def owner(token: str) -> OwnerChanged:
    return OwnerChanged(token=token, owner="router-1", partitions=1, format_level=1, at_ms=START_MS)


# Evolve -------------------------------------------------------------------------------------------


def test_an_event_for_a_workflow_that_has_not_started_is_no_log_of_ours() -> None:
    event = WorkflowEnded(status="completed", reason="", run_id="1", traceparent="")
    with pytest.raises(ValueError, match="WorkflowEnded for workflow r:k, which has not started"):
        evolve(None, event, workflow_id="r:k", at_ms=1)


def test_an_item_of_a_step_that_is_no_for_each_is_no_log_of_ours() -> None:
    p = Partition(route({"a": agent(for_each=[1])}))
    p.start()
    failed = IncidentRaised(step="b[0]", kind="k", message="m")
    steps = {**p.workflow().steps, "b": StepState(status="running")}
    with pytest.raises(ValueError, match=r"IncidentRaised for b\[0\], and b is not a for-each under way"):
        evolve(replace(p.workflow(), steps=steps), failed, workflow_id="r:k", at_ms=1)


def test_no_more_events_are_remembered_than_fit() -> None:
    p = Partition(route({"w": {"wait": {"event": "t2"}, "repeat": {"until": "false", "limit": 1000}}}))
    p.start()
    for number in range(101):
        p.offer("t2", event_id=f"o{number}")
    assert (len(p.workflow().heard), len(set(p.workflow().heard))) == (100, 100)
    assert names(p.offer("t2", event_id="o1")) == ["InputDismissed"]
    p.check_replay()


def test_an_event_for_a_step_that_has_not_begun_is_no_log_of_ours() -> None:
    p = Partition(route({"a": agent()}))
    p.start()
    event = TaskSucceeded(step="b", task_id="r:k/1/b", attempt=1, output=1)
    with pytest.raises(ValueError, match="TaskSucceeded for step b, which has not begun"):
        evolve(p.workflow(), event, workflow_id="r:k", at_ms=1)


def test_a_workflows_id_remembers_its_last_hundred_runs() -> None:
    p = Partition(route({"a": agent(**{"if": "false"})}, on_repeat="new_run_after_end"))
    for number in range(105):
        p.start(event_id=f"e{number}")
    assert p.workflow().earlier_runs == tuple(ids.run_id("/orders", f"e{n}") for n in range(4, 104))


# Effects ------------------------------------------------------------------------------------------


def test_a_parked_input_goes_to_the_dead_letters() -> None:
    letter = only(effects(decision(PARKED)), SendDeadLetter)
    assert (letter.parked, letter.workflow_id, letter.at_ms) == (PARKED, "r:k", START_MS)


def test_an_event_for_the_record_alone_has_no_effect() -> None:
    assert effects(decision(InputDismissed(code="late", message=""))) == []
    assert effects(decision()) == []


# Replay -------------------------------------------------------------------------------------------


def test_a_decision_of_another_epoch_is_inert() -> None:
    records: list[LogRecord] = [
        owner("one"),
        owner("two"),
        decision(positions={"t": 5}, epoch="one"),
        decision(epoch="two", mark=2),
    ]
    state = replay(enumerate(records))
    assert (state.positions, state.mark) == ({}, 2)


def test_the_mark_never_goes_back() -> None:
    state = replay(enumerate([owner("one"), decision(mark=5), decision(mark=3)]))
    assert state.mark == 5


def test_the_watermark_of_each_source_partition_is_that_of_its_last_decision() -> None:
    p = Partition(route({"a": agent()}))
    p.start()
    p.start(event_id="e2")
    p.command("cancel")
    assert p.state.watermarks == {"mesh.events/0": (1, 0), "mesh.commands/0": (0, 0)}


@pytest.mark.parametrize(
    ("offset", "index", "repeated"), [(6, 9, True), (7, 0, True), (7, 1, True), (7, 2, False), (8, 0, False)]
)
def test_an_input_at_or_below_its_sources_watermark_has_been_here(offset: int, index: int, repeated: bool) -> None:
    state = PartitionState(watermarks={"mesh.commands/0": (7, 1)})
    given = CommandGiven(
        workflow_id="r:k",
        source_topic="mesh.commands",
        source_partition=0,
        source_offset=offset,
        source_index=index,
        source_at_ms=0,
        command_id="c",
        command="cancel",
        by="op",
    )
    assert is_repeated(state, given) == repeated
    assert not is_repeated(state, replace(given, source_partition=1))


def fold(*records: Any) -> PartitionFold:
    found = PartitionFold(0)
    for offset, record in enumerate(records):
        found.apply(offset, record)
    return found


def test_take_overs_are_counted_until_inputs_move_on() -> None:
    moved = decision(positions={"t": 1})
    assert fold(owner("one"), owner("two"), owner("two")).takeovers == 2
    assert fold(owner("one"), moved, owner("two")).takeovers == 1
    assert fold(owner("one"), owner("two"), decision(positions={"t": 1}, epoch="two")).takeovers == 0


def test_a_timer_that_fires_is_no_progress_of_the_inputs() -> None:
    timer = decision(InputDismissed(code="x", message=""), positions={})
    assert fold(owner("one"), timer, owner("two")).takeovers == 2


def test_an_owner_that_stops_in_good_order_did_not_die_of_an_input() -> None:
    stopped = decision(mark=1)
    assert fold(owner("one"), decision(InputAttempted(topic="t", offset=0)), stopped).attempted is None
    assert fold(owner("one"), stopped).takeovers == 0


def test_an_input_is_attempted_until_a_decision_moves_past_it() -> None:
    attempted = decision(InputAttempted(topic="t", offset=4), positions={"t": 4})
    found = fold(owner("one"), attempted, owner("two"))
    assert (found.attempted, found.takeovers) == (Attempt("t", 4), 2)
    found.apply(3, decision(PARKED, positions={"t": 5}, epoch="two"))
    assert (found.attempted, found.takeovers) == (None, 0)


def test_a_fold_knows_where_to_read_on() -> None:
    found = fold(owner("one"), decision())
    assert (found.next_offset, found.partition) == (2, 0)
    assert PartitionFold(3, state=PartitionState(mark=7), next_offset=9).state.mark == 7


# Ids ----------------------------------------------------------------------------------------------


def test_keys_are_escaped_only_where_they_must_be() -> None:
    assert ids.workflow_id("r", "octo/repo#1 ü") == "r:octo/repo#1 ü"
    assert ids.escape_key("100%\n\ud800") == "100%25%0A%ED%A0%80"


@pytest.mark.parametrize("text", ["", "a", "a/b/c", "r:k/run", "r:k//step", "r:k/run/", "/run/step"])
def test_what_has_not_the_form_of_a_step_id_is_none(text: str) -> None:
    assert ids.parse_step_id(text) is None


def test_a_step_id_may_hold_slashes_and_colons_in_its_key() -> None:
    found = ids.parse_step_id("r:a/b:c/run/step")
    assert found == ids.TaskId("r:a/b:c", "run", "step")
    assert ids.route_of("r:a/b:c") == "r"


@pytest.mark.parametrize(
    ("key", "unsigned"),
    [(b"", 275646681), (b"21", -973932308 % 2**32), (b"foobar", -790332482 % 2**32), (b"a-little-bit-long-string", -985981536 % 2**32), (b"abc", 479470107)],
)  # fmt: skip
def test_murmur2_is_kafkas(key: bytes, unsigned: int) -> None:
    """Values of Apache Kafka's own UtilsTest.testMurmur2."""
    assert ids.murmur2(key) == unsigned


def test_keys_spread_over_all_partitions_and_no_more() -> None:
    assert {ids.partition_of_key(f"r:{n}".encode(), 16) for n in range(1_000)} == set(range(16))


# Canonical JSON -----------------------------------------------------------------------------------


def test_equal_values_have_equal_bytes() -> None:
    assert canonical({"b": [1, None, True], "a": "ü"}) == canonical({"a": "ü", "b": [1, None, True]})
    assert canonical({"b": 1, "a": "ü"}) == '{"a":"ü","b":1}'.encode()
    assert digest(1) != digest(True)


def test_numbers_may_be_of_any_size() -> None:
    assert canonical({"b": [2**70, ("x", 1.5, None)], "a": 1}) == b'{"a":1,"b":[%d,["x",1.5,null]]}' % 2**70


@pytest.mark.parametrize("value", [{1: 2**70}, {2**70}, [b"x", 2**70], {"a": "\ud800"}])
def test_what_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        canonical(value)


# Topics -------------------------------------------------------------------------------------------


def test_all_names_stand_under_the_prefix() -> None:
    topics = Topics("acme.")
    assert (topics.log, topics.tasks("x"), topics.agent_group("x")) == ("acme.log", "acme.tasks.x", "acme.agent.x")


# Tasks that their own decision makes needless -----------------------------------------------------


def dispatched(place: str, attempt: int = 1) -> TaskDispatched:
    return TaskDispatched(
        step=place,
        task_id=f"r:k/run/{place}",
        attempt=attempt,
        agent="a",
        input=1,
        due_at_ms=9,
        traceparent="",
        reason="",
    )


ENDED = WorkflowEnded(status="failed", reason="", run_id="run", traceparent="", output=None, forget_at_ms=9)


@pytest.mark.parametrize(
    ("events", "sent"),
    [
        ([dispatched("a"), dispatched("b")], ["a/1", "b/1"]),
        ([dispatched("a"), ENDED], []),
        ([ENDED, dispatched("a.undo")], ["a.undo/1"]),
        ([dispatched("a"), dispatched("b"), StepCancelled(step="a", reason="")], ["b/1"]),
        ([dispatched("a[0]"), dispatched("a[1]"), dispatched("b"), StepCancelled(step="a", reason="")], ["b/1"]),
        ([dispatched("a"), dispatched("a", attempt=2)], ["a/2"]),
    ],
)
def test_a_task_that_its_own_decision_makes_needless_is_not_sent(events: list[Event], sent: list[str]) -> None:
    found = [effect for effect in effects(decision(*events)) if isinstance(effect, SendTask)]
    assert [f"{task.step}/{task.attempt}" for task in found] == sent


# Ids ----------------------------------------------------------------------------------------------


def test_a_partition_s_clock_has_a_name_whose_key_leads_there() -> None:
    assert ids.clock_of(0, 1) == "mesh.clock:0"
    for partition in range(6):
        assert ids.partition_of_key(ids.clock_of(partition, 6).encode(), 6) == partition


# Tables by class ----------------------------------------------------------------------------------


@pytest.mark.parametrize("table", [_DERIVED, MAY_SHOW, MAY_CROSS, _ENDS_TASKS, ENDS, ENDS_TASKS, TO_COMPLETE])
def test_a_table_that_has_a_class_of_events_has_its_newer_versions_too(table: Collection[type[Event]]) -> None:
    kinds = get_args(Event)
    assert set(table) <= set(kinds)
    assert [kind for kind in kinds if kind not in table and issubclass(kind, tuple(table))] == []
