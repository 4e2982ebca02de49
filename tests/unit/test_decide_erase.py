"""Erasing a private workflow: who may, when, and what is left of it in every fold."""

from typing import Any

import pytest
from msgspec.structs import replace
from one_partition import Partition, agent, called_route, calling, names, only, route

from mesh.core.effects import DeleteKey, effects
from mesh.core.events import (
    CallRefused,
    CommandRefused,
    Event,
    OwnerChanged,
    PayloadsErased,
    PayloadsSealed,
    WorkflowForgotten,
)
from mesh.core.replay import PartitionFold, apply_decision
from mesh.core.route import Route
from mesh.core.state import PartitionState
from mesh.inspection.checks.private import findings
from mesh.routes.problems import RouteRefused

PRIVATE = route({"a": agent()}, private=True)


def erase(p: Partition, **more: Any) -> tuple[Event, ...]:
    order: dict[str, Any] = {"reason": "asked for", "keys": ("k1", "k2"), **more}
    return p.command("erase", **order)


def ended(rules: Route = PRIVATE) -> Partition:
    p = Partition(rules)
    p.start(data={"name": "Ana"})
    p.succeed("a", {"name": "Ana"})
    return p


def test_the_keys_go_and_ids_and_times_stay() -> None:
    p = ended()
    before = p.workflow()
    assert names(erase(p)) == ["CommandAccepted", "PayloadsErased"]
    sent = [one for one in effects(p.decisions[-1]) if isinstance(one, DeleteKey)]
    assert [one.key for one in sent] == ["k1", "k2"]
    left = p.workflow()
    assert (left.run_id, left.status, left.ended_at_ms) == (before.run_id, before.status, before.ended_at_ms)
    assert left.erased is not None
    assert (left.erased.by, left.erased.reason, left.steps) == ("op", "asked for", {})


def test_a_fold_that_reads_nothing_else_comes_to_the_same() -> None:
    p = ended()
    erase(p)
    blind = PartitionState()
    event = next(one for one in p.decisions[-1].events if isinstance(one, PayloadsErased))
    apply_decision(blind, replace(p.decisions[-1], events=(event,)))
    assert blind.workflows == {p.workflow().workflow_id: p.workflow()}


@pytest.mark.parametrize(
    ("more", "code"), [({"keys": ()}, "no_keys"), ({"reason": ""}, "no_reason")], ids=["without keys", "without reason"]
)
def test_it_needs_keys_and_a_reason(more: dict[str, Any], code: str) -> None:
    [refused] = erase(ended(), **more)
    assert isinstance(refused, CommandRefused)
    assert refused.code == code


def test_a_workflow_that_runs_or_is_not_private_is_refused() -> None:
    p = Partition(PRIVATE)
    p.start()
    for other, code in ((p, "running"), (ended(route({"a": agent()})), "not_private")):
        [refused] = erase(other)
        assert isinstance(refused, CommandRefused)
        assert refused.code == code


def test_a_forgotten_workflow_can_be_erased_and_stays_forgotten() -> None:
    p = ended()
    p.wait()
    assert names(erase(p)) == ["CommandAccepted", "PayloadsErased"]
    assert p.state.workflows == {}


def test_its_event_sent_again_starts_nothing_and_its_id_may_begin_again() -> None:
    p = ended(route({"a": agent()}, private=True, on_repeat="new_run_after_end"))
    erase(p)
    assert names(p.start()) == ["StartRepeated"]
    assert names(p.start(event_id="e2"))[0] == "WorkflowStarted"
    assert p.workflow().private
    assert p.workflow().erased is None


@pytest.mark.parametrize(
    ("steps", "more", "said"),
    [
        ({"a": {"workflow": "other", "input": 1}}, {}, "can't call"),
        ({"a": {"emit": {"type": "t", "data": 1}}}, {}, "can't emit"),
        ({"a": agent(alias="${{ steps.a }}")}, {}, "no alias"),
        ({"a": {"wait": {"event": "paid", "timeout": "1h"}}}, {"key": "${{ event.subject }}"}, "can't wait for events"),
        ({"a": agent()}, {"search": {"name": "${{ event.data.name }}"}}, "no search"),
        (
            {"a": agent(limit={"name": "l", "key": "${{ event.data.name }}"})},
            {"limits": {"l": {"concurrency": 1}}},
            "limits have no key",
        ),
    ],
)
def test_what_would_leave_the_seal_is_no_part_of_a_private_route(
    steps: dict[str, Any], more: dict[str, Any], said: str
) -> None:
    route(steps, **more)
    with pytest.raises(RouteRefused, match=said):
        route(steps, private=True, **more)


def test_a_private_route_is_not_called() -> None:
    with pytest.raises(RouteRefused, match="can't be called by others"):
        called_route({"s": agent()}, private=True)
    p = Partition(route({"a": calling("sub")}), route({"s": agent()}, route="sub", private=True))
    p.start()
    [told] = p.crossing()
    p.give(told)
    refused = only(p.decisions[-1].events, CallRefused)
    assert (refused.code, refused.message) == ("private", "route sub is private, and can't be called")
    p.pass_on()
    assert p.step("a").status == "incident"


def test_a_key_from_the_events_data_is_warned_of_in_a_private_route_alone() -> None:
    for key, private, said in (("data.name", True, ["open_key"]), ("subject", True, []), ("data.name", False, [])):
        rules = route({"a": agent()}, private=private, key=f"${{{{ event.{key} }}}}")
        assert [finding.code for finding in findings(rules)] == said


def test_a_fold_names_what_it_could_not_read_until_it_is_erased_or_forgotten() -> None:
    p = ended()
    erase(p)
    owner = OwnerChanged(token="t", owner="o", partitions=1, format_level=1, at_ms=1)
    seal = replace(p.decisions[0], epoch="t", events=(PayloadsSealed(key="k1", body=""),))
    for last in (replace(p.decisions[-1], epoch="t"), replace(seal, events=(WorkflowForgotten(),))):
        fold = PartitionFold(0)
        fold.apply(0, owner)
        fold.apply(1, seal)
        assert fold.unreadable == {seal.workflow_id}
        fold.apply(2, last)
        assert fold.unreadable == set()
