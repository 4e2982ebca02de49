"""What a router counts is what its decisions say, and what it says is open is open."""

from collections import Counter
from collections.abc import Iterable, Mapping

import pytest
from one_partition import Partition, agent, approval, route
from varied_log import varied_run

from mesh.adapters.memory import MemoryBroker, MemoryCluster
from mesh.adapters.system import SystemClock
from mesh.core import ids
from mesh.core.events import Decision
from mesh.core.replay import PartitionFold
from mesh.core.state import Workflow
from mesh.core.topics import Topics
from mesh.metrics import names
from mesh.metrics.meters import Labels, Meters
from mesh.services.router.batch import Batch
from mesh.services.router.metrics import PartitionMetrics, RouterMetrics


def metrics() -> RouterMetrics:
    broker = MemoryBroker(MemoryCluster(SystemClock()), "r")
    return RouterMetrics(Meters(), Topics(), broker, SystemClock(), partitions=1)


def noted(partition: PartitionMetrics, decision: Decision, workflows: Mapping[str, Workflow]) -> None:
    batch = Batch()
    batch.decisions.append(decision)
    if decision.workflow_id:
        batch.changed[decision.workflow_id] = workflows.get(decision.workflow_id)
    partition.note(batch)


def fed(p: Partition, router: RouterMetrics) -> PartitionMetrics:
    """All decisions so far, each with the states as they are now."""
    partition = router.of_partition()
    partition.begin(())
    for decision in p.decisions:
        noted(partition, decision, p.state.workflows)
    return partition


def values(router: RouterMetrics, metric: names.Metric) -> Mapping[Labels, float]:
    return next((family.values for family in router.meters.snapshot() if family.metric is metric), {})


def measured(router: RouterMetrics, metric: names.Metric) -> dict[Labels, int]:
    for family in router.meters.snapshot():
        if family.metric is metric:
            return {labels: sum(one.counts) for labels, one in family.distributions.items()}
    return {}


def waiting(workflows: Iterable[Workflow], status: str) -> Counter[str]:
    """The steps that wait, by looking at all of them."""
    return Counter(
        one.route
        for one in workflows
        if one.ended_at_ms is None
        for step in one.steps.values()
        if step.status == status
    )


def test_what_is_open_is_what_a_look_at_all_workflows_would_find() -> None:
    router, fold = metrics(), PartitionFold(0)
    partition = router.of_partition()
    partition.begin(())
    found = Counter[str]()
    for offset, record in varied_run().records():
        if not fold.apply(offset, record) or not isinstance(record, Decision):
            continue
        workflows = fold.state.workflows
        noted(partition, record, workflows)
        for open_, status in ((router.approvals, "asking"), (router.incidents, "incident")):
            expected = waiting(workflows.values(), status)
            assert +open_.by_route == expected, (offset, record.events)
            found[status] += expected.total()
        limiters = {name: one.limiter for name, one in workflows.items() if one.limiter is not None}
        assert partition.slots == {
            name: (len(one.holders), len(one.queue)) for name, one in limiters.items() if not one.is_idle
        }
        found["slots"] += len(partition.slots)
    assert found.keys() == {"asking", "incident", "slots"}
    assert all(found.values())


def test_a_take_over_finds_what_counting_found() -> None:
    p, counted, found = varied_run(), metrics(), metrics()
    fed(p, counted)
    found.of_partition().begin(p.state.workflows.values())
    for one, other in ((counted.approvals, found.approvals), (counted.incidents, found.incidents)):
        assert +one.by_route == +other.by_route
        assert one.since.first() == other.since.first()
        assert one.deadlines.first() == other.deadlines.first()


def test_a_partition_that_is_given_up_has_nothing_open() -> None:
    p, router = varied_run(), metrics()
    partition = fed(p, router)
    partition.end()
    assert not +router.approvals.by_route
    assert not +router.incidents.by_route
    assert router.approvals.since.first() is None
    assert router.approvals.deadlines.first() is None


def test_every_value_is_of_a_short_list_and_no_id() -> None:
    p, router = varied_run(), metrics()
    fed(p, router)
    workflows = {workflow.workflow_id for workflow in p.state.workflows.values()}
    for family in router.meters.snapshot():
        for labels in [*family.values, *family.distributions]:
            assert len(labels) == len(family.metric.attributes), family.metric.name
            for attribute, value in zip(family.metric.attributes, labels, strict=True):
                assert value not in workflows
                # a place, a run, an item or a key would be a new series each time
                assert not set(value) & set("[]/:~"), (family.metric.name, attribute, value)


def test_attempts_results_and_retries_are_counted_by_route_step_and_agent() -> None:
    p = Partition(route({"draft": agent("drafter", retry={"attempts": 2})}))
    p.start()
    p.fail("draft", kind="Overloaded")
    p.wait("draft")
    p.succeed("draft")
    router = metrics()
    fed(p, router)
    labels = ("r", "draft", "drafter")
    assert values(router, names.STEP_ATTEMPTS) == {labels: 2}
    assert measured(router, names.STEP_DURATION) == {(*labels, "_OTHER"): 1, (*labels, ""): 1}
    assert values(router, names.RETRIES) == {("r", "draft"): 1}


def test_the_items_of_a_for_each_are_one_step() -> None:
    p = Partition(route({"check": agent("checker", for_each=[1, 2, 3])}))
    p.start()
    router = metrics()
    fed(p, router)
    assert values(router, names.STEP_ATTEMPTS) == {("r", "check", "checker"): 3}


def test_approvals_and_workflows_are_counted_from_their_beginning_to_their_end() -> None:
    p = Partition(route({"review": approval(deadline="1h")}))
    p.start("one")
    p.start("two", event_id="e2")
    router = metrics()
    fed(p, router)
    assert router.approvals.by_route == {"r": 2}
    assert router.approvals.deadlines.first() == p.step("review", "one").due_at_ms
    assert values(router, names.WORKFLOWS_STARTED) == {("r",): 2}
    assert values(router, names.APPROVALS_ASKED) == {("r",): 2}


def test_decisions_are_counted_by_their_cause() -> None:
    p, router = varied_run(), metrics()
    fed(p, router)
    assert values(router, names.DECISIONS) == {
        (kind,): count for kind, count in Counter(one.cause.kind for one in p.decisions).items()
    }


@pytest.mark.parametrize(
    ("kind", "said"), [("timeout", "timeout"), ("input_invalid", "input_invalid"), ("acme-42", "_OTHER")]
)
def test_an_agent_s_own_kinds_of_failure_are_one(kind: str, said: str) -> None:
    assert names.error_type(kind) == said


def test_a_built_in_workflow_has_a_name_without_its_key() -> None:
    assert ids.route_of(ids.schedule_id("daily")) == "mesh.schedule"
