"""What pauses have held goes on in portions, and every partition hears of a pause."""

from typing import Any

from one_partition import Partition, agent, route

from mesh.adapters.memory import MemoryCluster
from mesh.codec.commands import encode_command
from mesh.codec.inbox import decode_inbox
from mesh.core import ids
from mesh.core.inputs import CommandGiven
from mesh.core.pauses import agent_target, paused_by, route_target
from mesh.core.topics import Topics
from mesh.inspection.mesh_status.stuck_work import paused_targets
from mesh.inspection.read_model.queries import PauseRow
from mesh.ports import Record
from mesh.services.router.config import RouterConfig
from mesh.services.router.copies import Copies
from mesh.services.router.input_records import inbox_input
from mesh.services.router.releasing import Releasing
from mesh.services.router.timers import Timers

R = route_target("r")
STEPS = {"a": agent("x")}


def paused(count: int) -> Partition:
    p = Partition(route(STEPS))
    p.pause(R)
    for number in range(count):
        p.start(str(number))
    return p


def woken(p: Partition) -> Releasing:
    releasing = Releasing()
    releasing.begin(p.state.workflows[ids.PAUSES], p.state.workflows.values(), p.now_ms)
    return releasing


def test_workflows_go_on_in_portions_and_the_holder_of_the_pauses_comes_last() -> None:
    p = paused(45)
    assert woken(p).next_due_at_ms() is None
    p.pause(R, "resume")
    releasing = woken(p)
    assert len(list(releasing.pop_due(p.now_ms, limit=1_000))) == 20
    assert releasing.next_due_at_ms() == p.now_ms + 100
    assert len(list(releasing.pop_due(p.now_ms + 100, limit=7))) == 7
    [*_, last] = releasing.pop_due(p.now_ms + 10_000, limit=1_000)
    assert last.workflow_id == ids.PAUSES
    assert releasing.next_due_at_ms() is None


def test_a_release_that_begins_again_is_due_at_once_though_the_clock_was_put_back() -> None:
    p = paused(45)
    p.pause(R, "resume")
    releasing, holder = woken(p), p.state.workflows[ids.PAUSES]
    list(releasing.pop_due(p.now_ms, limit=1_000))
    put_back_ms = p.now_ms - 7_200_000
    assert list(releasing.pop_due(put_back_ms, limit=1_000)) == []
    releasing.begin(holder, p.state.workflows.values(), p.now_ms)
    assert len(list(releasing.pop_due(put_back_ms, limit=1_000))) == 20


def test_a_new_owner_wakes_all_again_which_does_nothing_twice() -> None:
    p = paused(3)
    p.pause(R, "resume")
    for timer in list(woken(p).pop_due(p.now_ms, limit=2)):
        assert p.give(timer)
    p.take_over("another")
    dispatched = [type(event).__name__ for event in p.release()]
    assert dispatched == ["TaskDispatched", "HeldReleased"]
    # what an owner before it had still to do
    assert not [event for timer in woken(p).pop_due(p.now_ms, limit=9) for event in p.give(timer)]


def test_of_an_agent_only_workflows_with_a_held_task_are_woken() -> None:
    p = Partition(route({"a": agent("x"), "b": agent("y", needs="a")}))
    p.start("first")
    p.start("second")
    p.pause(agent_target("y"))
    p.succeed("a", key="first")
    p.pause(agent_target("y"), "resume")
    woken_ids = [timer.workflow_id for timer in woken(p).pop_due(p.now_ms, limit=9)]
    assert woken_ids == [p.id_of("first"), ids.PAUSES]


def test_a_wake_that_can_not_be_decided_yet_comes_first_again() -> None:
    p = paused(2)
    p.pause(R, "resume")
    timers = Timers()
    timers.releasing.begin(p.state.workflows[ids.PAUSES], p.state.workflows.values(), p.now_ms)
    [first] = timers.pop_due("nothing", p.now_ms, p.state.workflows, limit=1)
    timers.put_back("nothing", first)
    nearest_ms = timers.nearest_at_ms()
    assert nearest_ms is not None
    assert nearest_ms <= p.now_ms
    assert next(iter(timers.pop_due("nothing", p.now_ms, p.state.workflows, limit=1))) == first


def test_every_partition_hears_of_a_pause_once_and_one_answers() -> None:
    topics, config = Topics(), RouterConfig(partitions=5, instance="r")
    out = encode_command(
        topics=topics,
        command="pause",
        workflow_id=ids.PAUSES,
        by="op",
        command_id="c",
        at_ms=1,
        reason="why",
        target="agent/x",
    )
    record = Record(topics.commands, 0, 7, 1, out.key, out.value, out.headers)
    unused: Any = None
    copies = Copies(MemoryCluster(clock=unused).connect("test"), topics, unused, config, unused)
    made = [copy for copy, _ in copies.of(record)]
    assert sorted(copy.partition or 0 for copy in made) == [0, 1, 2, 3, 4]
    came = [Record(copy.topic, copy.partition or 0, 0, 1, copy.key, copy.value, copy.headers) for copy in made]
    given = [decode_inbox(one) for one in came]
    assert all(isinstance(one, CommandGiven) and one.target == "agent/x" for one in given)
    assert len({one.source_index for one in given}) == 5
    assert [inbox_input(one)[1].receipt_by_place for one in came] == [one.workflow_id == ids.PAUSES for one in given]


def test_status_says_what_is_paused_by_whom_and_where_it_is_not_in_effect_yet() -> None:
    p = paused(0)
    pause = paused_by(p.state.workflows[ids.PAUSES])[R]
    [whole] = paused_targets([PauseRow(R, pause, 4)], 4, p.now_ms + 60_000)
    assert (whole.what, whole.next_step) == (
        "route r is paused by op for 1 min: look first",
        "mesh routes resume r",
    )
    [part] = paused_targets([PauseRow("agent/x", pause, 1)], 4, p.now_ms)
    assert part.what.startswith("agent x is paused in 1 of 4 partitions by op")
