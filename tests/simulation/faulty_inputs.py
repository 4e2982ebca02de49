"""Faults put into what comes of inputs.

Inputs are copied by ingress, matched with routes, repeated, and sent from one workflow to another.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from faults import PLANS, fault, with_a_blackout
from msgspec.structs import replace

from mesh.core import activation
from mesh.core.decide import Decided, decide
from mesh.core.decide.built_in import alias as built_in_alias
from mesh.core.decide.draft import Draft
from mesh.core.decide.settle import task as settle_task
from mesh.core.events import AliasBound, InputDismissed, SlotReleased
from mesh.core.evolve import evolve
from mesh.core.ids import is_item, parse_step_id
from mesh.core.inputs import AliasClaimed, Input, ResultReceived, SlotGiven, TimerDue
from mesh.core.matching import RouteIndex
from mesh.core.route import Route
from mesh.core.state import Directory, StepState, Workflow
from mesh.errors import BrokerUnavailable
from mesh.ports import OutRecord, Record, TopicPartition
from mesh.services.agent_runtime.assignment import Assignment
from mesh.services.agent_runtime.pulse import Pulse
from mesh.services.router import checkpoint, decider, definitions, lookout, people, takeover
from mesh.services.router import timers as timing
from mesh.services.router.batch import Batch
from mesh.services.router.definitions import Definitions
from mesh.services.router.ingress import Ingress
from mesh.services.router.lookout import Lookout
from mesh.services.router.owner import Owner
from mesh.services.router.people import PeopleFollower
from mesh.services.router.timers import Timers
from mesh.services.router.trail import Trails
from mesh.testing.simulation import Plan


def _with_ingress_that_dies(plan: Plan) -> Plan:
    weak = replace(plan.weak, latency_s=(0.0, 0.4), rebalance=0.05, lost_request=0.05)
    return replace(plan, workflows=25, mean_life_s=4.0, real_agents=False, weak=weak)


def _with_deadly_events(plan: Plan) -> Plan:
    return replace(plan, deadly=4, workflows=12, drawn=0, real_agents=False, blackout_at_s=None)


# Inputs -------------------------------------------------------------------------------------------


@fault
def a_new_owner_skips_an_input(patch: pytest.MonkeyPatch) -> None:
    honest = takeover._skip_what_is_gone

    async def skip(owners: Sequence[Owner], *others: Any) -> None:
        await honest(owners, *others)
        for owner in owners:
            owner.inputs.read = {topic: offset + (offset % 5 == 3) for topic, offset in owner.inputs.read.items()}

    patch.setattr(takeover, "_skip_what_is_gone", skip)


@fault
def a_new_owner_reads_its_inputs_from_the_begin(patch: pytest.MonkeyPatch) -> None:
    honest = takeover._skip_what_is_gone

    async def skip(owners: Sequence[Owner], *others: Any) -> None:
        await honest(owners, *others)
        for owner in owners:
            owner.inputs.read = dict.fromkeys(owner.inputs.read, 0)
            owner.state.positions = {}

    patch.setattr(takeover, "_skip_what_is_gone", skip)


@fault
def copies_that_ingress_made_twice_count_twice(patch: pytest.MonkeyPatch) -> None:
    honest = Owner._input_of

    def input_of(self: Owner, record: Record) -> Any:
        self.state.watermarks.clear()
        return honest(self, record)

    patch.setattr(Owner, "_input_of", input_of)


@fault
def ingress_commits_before_its_copies_land(patch: pytest.MonkeyPatch) -> None:
    async def turn(self: Ingress, subscription: Any) -> None:
        records = await subscription.poll(max_records=100, timeout_s=0.5)
        if records:
            self._copied = {TopicPartition(r.topic, r.partition): r.offset + 1 for r in records}
            await self._commit(subscription)
            await self._copy(records)

    patch.setattr(Ingress, "_turn", turn)


PLANS["ingress_commits_before_its_copies_land"] = _with_ingress_that_dies


@fault
def ingress_gives_a_batch_up_when_the_broker_is_away(patch: pytest.MonkeyPatch) -> None:
    async def copy(self: Ingress, records: Sequence[Record]) -> bool:
        out: list[OutRecord] = [copied for record in records for copied, _ in self._copies(record)]
        with suppress(BrokerUnavailable):
            await self._broker.send(out)
        return True

    patch.setattr(Ingress, "_copy", copy)


PLANS["ingress_gives_a_batch_up_when_the_broker_is_away"] = _with_ingress_that_dies


@fault
def ingress_leaves_no_trail(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Trails, "_text", lambda _trails, _place: "")


PLANS["ingress_leaves_no_trail"] = _with_deadly_events


@fault
def ingress_sets_aside_whatever_was_under_way(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Trails, "is_poison", Trails.is_careful)


PLANS["ingress_sets_aside_whatever_was_under_way"] = _with_deadly_events


@fault
def a_repeated_result_counts_again(patch: pytest.MonkeyPatch) -> None:
    def decide_again(workflow: Workflow | None, given: Input, **options: Any) -> Decided:
        decided = decide(workflow, given, **options)
        refused = decided.events and isinstance(decided.events[0], InputDismissed)
        if refused and workflow is not None and isinstance(given, ResultReceived) and workflow.status == "running":
            parsed = parse_step_id(given.task_id)
            step = workflow.steps.get(parsed.step) if parsed else None
            if parsed is not None and step is not None:
                steps = {**workflow.steps, parsed.step: replace(step, status="running", attempt=given.attempt)}
                return decide(replace(workflow, steps=steps), given, **options)
        return decided

    patch.setattr(decider, "decide", decide_again)


@fault
def an_item_of_a_for_each_counts_twice(patch: pytest.MonkeyPatch) -> None:
    """A repeated result of an item, as long as others of its for-each are under way."""

    def decide_again(workflow: Workflow | None, given: Input, **options: Any) -> Decided:
        decided = decide(workflow, given, **options)
        refused = decided.events and isinstance(decided.events[0], InputDismissed)
        if refused and workflow is not None and isinstance(given, ResultReceived):
            parsed = parse_step_id(given.task_id)
            step = workflow.steps.get(parsed.step) if parsed else None
            if parsed is not None and step is not None and is_item(parsed.step) and step.status == "succeeded":
                steps = {**workflow.steps, parsed.step: replace(step, status="running")}
                return decide(replace(workflow, steps=steps), given, **options)
        return decided

    patch.setattr(decider, "decide", decide_again)


@fault
def the_time_out_of_a_wait_does_not_wait_for_events(patch: pytest.MonkeyPatch) -> None:
    honest = timing._timing

    def timing_of(step: StepState) -> Any:
        return ("event_timeout", "nothing") if step.awaits else honest(step)

    patch.setattr(timing, "_timing", timing_of)


def _with_waits_in_a_blackout(plan: Plan) -> Plan:
    return replace(with_a_blackout(plan), kinds=("awaits", "race"), drawn=0)


PLANS["the_time_out_of_a_wait_does_not_wait_for_events"] = _with_waits_in_a_blackout


def _with_lists(plan: Plan) -> Plan:
    return replace(plan, workflows=20, kinds=("limited", "sheaf"), drawn=0, real_agents=False)


PLANS["an_item_of_a_for_each_counts_twice"] = _with_lists


# Between workflows --------------------------------------------------------------------------------


def _with_many_calls(plan: Plan) -> Plan:
    """Many flights at once, whose sends fail often, and what was sent lands late."""
    weak = replace(plan.weak, latency_s=(0.0, 0.4), lost_request=0.05, late_landing=0.05, give_up_s=0.5, late_by_s=1.0)
    return replace(
        plan, workflows=16, partitions=2, kinds=("calls", "calls-brittle"), drawn=0, real_agents=False, weak=weak
    )


@fault
def flights_overtake_each_other_on_the_way_to_other_workflows(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Batch, "crosses", property(lambda _: False, lambda *_: None), raising=False)


PLANS["flights_overtake_each_other_on_the_way_to_other_workflows"] = _with_many_calls


@fault
def a_new_owner_begins_the_sequence_afresh(patch: pytest.MonkeyPatch) -> None:
    honest = takeover._move_in

    def move_in(candidate: Any) -> None:
        honest(candidate)
        candidate.owner.state.sequence = 0

    patch.setattr(takeover, "_move_in", move_in)


@fault
def a_checkpoint_misses_the_sequence(patch: pytest.MonkeyPatch) -> None:
    honest = checkpoint.load_fold

    def load(*arguments: Any) -> Any:
        loaded = honest(*arguments)
        loaded.fold.state.sequence = 0
        return loaded

    patch.setattr(takeover, "load_fold", load)


@fault
def the_end_of_a_call_does_not_beat_its_time_out(patch: pytest.MonkeyPatch) -> None:
    honest = timing._timing

    def timing_of(step: StepState) -> Any:
        return ("call_timeout", "nothing") if step.status == "calling" else honest(step)

    patch.setattr(timing, "_timing", timing_of)


PLANS["the_end_of_a_call_does_not_beat_its_time_out"] = _with_many_calls


# Built-in workflows -------------------------------------------------------------------------------


def _with_payments(plan: Plan) -> Plan:
    return replace(plan, workflows=60, kinds=("paid",), drawn=0, real_agents=False)


@fault
def an_alias_takes_every_claim(patch: pytest.MonkeyPatch) -> None:
    def bind(draft: Draft, given: AliasClaimed) -> None:
        draft.add(AliasBound(claimant=given.claimant))

    patch.setattr(built_in_alias, "_on_claimed", bind)


PLANS["an_alias_takes_every_claim"] = _with_payments


@fault
def a_schedule_does_not_wait_for_its_next_time(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Timers, "arm_schedule", lambda *_: None)


def _with_little_beside_the_schedule(plan: Plan) -> Plan:
    return replace(plan, workflows=1, kinds=("flaky",), drawn=0, routers=1, real_agents=False)


PLANS["a_schedule_does_not_wait_for_its_next_time"] = _with_little_beside_the_schedule


# Limits -------------------------------------------------------------------------------------------


def _with_limits(plan: Plan) -> Plan:
    return replace(plan, workflows=20, kinds=("limited", "limited-too"), drawn=0, real_agents=False)


@fault
def a_time_out_gives_no_slot_back(patch: pytest.MonkeyPatch) -> None:
    def decide_and_keep(workflow: Workflow | None, given: Input, **options: Any) -> Decided:
        decided = decide(workflow, given, **options)
        if isinstance(given, TimerDue) and given.kind == "task_timeout" and workflow is not None:
            events = tuple(event for event in decided.events if not isinstance(event, SlotReleased))
            for event in events:
                workflow = evolve(workflow, event, workflow_id=given.workflow_id, at_ms=options["now_ms"])
            return Decided(events, workflow)
        return decided

    patch.setattr(decider, "decide", decide_and_keep)


@fault
def a_new_owner_starts_a_limiter_afresh(patch: pytest.MonkeyPatch) -> None:
    honest = takeover._move_in

    def move_in(candidate: Any) -> None:
        honest(candidate)
        workflows = candidate.owner.state.workflows
        for name in [name for name, workflow in workflows.items() if workflow.limiter is not None]:
            del workflows[name]

    patch.setattr(takeover, "_move_in", move_in)


@fault
def a_grant_counts_for_whoever_waits_now(patch: pytest.MonkeyPatch) -> None:
    def decide_anyhow(workflow: Workflow | None, given: Input, **options: Any) -> Decided:
        slots = workflow.slots if workflow is not None else {}
        waiting = [(place, kept[-1]) for place, kept in slots.items() if kept]
        if isinstance(given, SlotGiven) and workflow is not None:
            for place, slot in waiting:
                if slot.limit == given.limit and workflow.steps[place].status == "queued":
                    given = replace(given, task_id=slot.task_id, attempt=slot.attempt, asked_at_ms=slot.asked_at_ms)
        return decide(workflow, given, **options)

    patch.setattr(decider, "decide", decide_anyhow)


for _name in (
    "a_time_out_gives_no_slot_back",
    "a_new_owner_starts_a_limiter_afresh",
    "a_grant_counts_for_whoever_waits_now",
):
    PLANS[_name] = _with_limits


# Deaths of agents -------------------------------------------------------------------------------


def _with_perilous_tasks(plan: Plan) -> Plan:
    """Nothing but real agents that die over their tasks."""
    weak = replace(plan.weak, latency_s=(0.0, 0.05), undead=0.0)
    return replace(
        plan, kinds=("perilous",), drawn=0, workflows=14, chaos_s=60.0, real_agents=True, killers=0.5, weak=weak
    )


@fault
def a_task_goes_out_again_however_many_processes_it_has_ended(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settle_task, "MOST_DEATHS", 99)


@fault
def a_new_owner_forgets_how_many_processes_a_task_has_ended(patch: pytest.MonkeyPatch) -> None:
    honest = takeover._move_in

    def move_in(candidate: Any) -> None:
        honest(candidate)
        workflows = candidate.owner.state.workflows
        for name, workflow in list(workflows.items()):
            steps = {place: replace(step, deaths=()) for place, step in workflow.steps.items()}
            workflows[name] = replace(workflow, steps=steps)

    patch.setattr(takeover, "_move_in", move_in)


@fault
def the_death_of_an_agent_is_told_twice_over(patch: pytest.MonkeyPatch) -> None:
    """The next holder of a partition works on what it has reported as interrupted, too."""
    honest = Assignment._was_interrupted

    def was_interrupted(self: Assignment, *given: Any) -> bool:
        return honest(self, *given) and False

    patch.setattr(Assignment, "_was_interrupted", was_interrupted)


for _name in (
    "a_task_goes_out_again_however_many_processes_it_has_ended",
    "a_new_owner_forgets_how_many_processes_a_task_has_ended",
    "the_death_of_an_agent_is_told_twice_over",
):
    PLANS[_name] = _with_perilous_tasks


# Which routes an event meets ----------------------------------------------------------------------


def _with_many_changes(plan: Plan) -> Plan:
    weak = replace(plan.weak, latency_s=(0.0, 0.4), rebalance=0.02)
    # of which there are two versions
    kinds = ("brittle", "consent", "fan", "flaky", "open", "review")
    return replace(plan, routers=2, workflows=40, mean_life_s=8.0, real_agents=False, weak=weak, kinds=kinds, drawn=0)


@fault
def ingress_matches_with_the_routes_activated_last(patch: pytest.MonkeyPatch) -> None:
    """Whatever the event's time."""
    patch.setattr(activation.Timeline, "place", lambda self, _: len(self._since))


@fault
def ingress_never_looks_for_activations_again(patch: pytest.MonkeyPatch) -> None:
    async def look(self: Lookout, _: int) -> None:
        if not self._until_ms:
            await self._refresh()
        self._until_ms = 1

    patch.setattr(Lookout, "look", look)
    # else what calls look at would be there for events too
    patch.setattr(definitions, "_FOLLOW_EVERY_S", 10_000.0)


@fault
def ingress_looks_for_activations_too_seldom(patch: pytest.MonkeyPatch) -> None:
    """As if they took effect ten seconds later than they do."""
    patch.setattr(lookout, "known_until_ms", lambda seen_ms: seen_ms + 10_000)
    patch.setattr(lookout, "SLACK_MS", 10_000)
    patch.setattr(definitions, "_FOLLOW_EVERY_S", 10.0)


@fault
def a_routers_old_file_undoes_what_was_applied(patch: pytest.MonkeyPatch) -> None:
    """Each start makes its own files active, unseen by the judge's clock.

    They are matched at once.
    """

    async def start(self: Definitions, routes: Sequence[Route]) -> float:
        waited = await begun(self, routes)
        if routes:
            last = len(self.known.timeline._since)
            self._indexes[last] = RouteIndex(routes)
        return waited

    begun = Definitions.start
    patch.setattr(Definitions, "start", start)


for _name in (
    "ingress_matches_with_the_routes_activated_last",
    "ingress_never_looks_for_activations_again",
    "ingress_looks_for_activations_too_seldom",
    "a_routers_old_file_undoes_what_was_applied",
):
    PLANS[_name] = _with_many_changes


# By whose roles an answer is judged ---------------------------------------------------------------


def _with_roles_that_change(plan: Plan) -> Plan:
    weak = replace(plan.weak, latency_s=(0.0, 0.4))
    return replace(
        plan,
        routers=2,
        workflows=6,
        mean_life_s=15.0,
        real_agents=False,
        weak=weak,
        kinds=("consent", "review", "vote"),
        drawn=0,
        people_change=True,
    )


@fault
def answers_are_judged_by_the_roles_of_when_they_are_read(patch: pytest.MonkeyPatch) -> None:
    def directory_at(self: PeopleFollower, directory: Directory, _: int) -> Directory:
        latest = self.known.timeline.latest()
        return as_of(self, directory, 0 if latest is None else latest.since_ms)

    as_of = PeopleFollower.directory_at
    patch.setattr(PeopleFollower, "directory_at", directory_at)


@fault
def an_owner_never_looks_for_people_before_it_judges(patch: pytest.MonkeyPatch) -> None:
    """It learns of a version only when it follows the topic, and that may be late."""
    patch.setattr(PeopleFollower, "knows", lambda *_, **__: True)
    patch.setattr(people, "_FOLLOW_EVERY_S", 10.0)


for _name in (
    "answers_are_judged_by_the_roles_of_when_they_are_read",
    "an_owner_never_looks_for_people_before_it_judges",
):
    PLANS[_name] = _with_roles_that_change


def _with_replicas_that_are_stopped(plan: Plan) -> Plan:
    """Nothing but real agents with much to do, each of them stopped once in its life."""
    weak = replace(plan.weak, latency_s=(0.0, 0.05), undead=0.0, rebalance=0.0, failed_call=0.0)
    return replace(
        plan,
        kinds=("sheaf",),
        drawn=0,
        workflows=40,
        chaos_s=40.0,
        mean_life_s=20.0,
        routers=1,
        blackout_at_s=None,
        real_agents=True,
        killers=0.0,
        paused=1.0,
        weak=weak,
    )


@fault
def a_replica_that_was_stopped_goes_on_without_a_question(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Pulse, "is_in_doubt", lambda _: False)


PLANS["a_replica_that_was_stopped_goes_on_without_a_question"] = _with_replicas_that_are_stopped
