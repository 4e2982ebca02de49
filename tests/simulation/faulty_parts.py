"""Faults put into the router on purpose, one at a time: each forbidden by the architecture, and each to be noticed by the simulation.

A fault is a function that patches the product's code for the time of a test; the judge (`mesh.testing.promises`) is left alone.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import pytest
from msgspec.structs import replace

from mesh.adapters.memory import MemoryBroker
from mesh.core import activation
from mesh.core.decide import Decided, decide
from mesh.core.deciding import forwarding
from mesh.core.deciding.draft import Draft
from mesh.core.effects import Effect
from mesh.core.events import AliasBound, Decision, InputDismissed, LogRecord, SlotReleased
from mesh.core.evolve import evolve
from mesh.core.ids import is_item, parse_step_id
from mesh.core.inputs import AliasClaimed, Input, ResultReceived, SlotGiven, TimerDue
from mesh.core.matching import RouteIndex
from mesh.core.ownership import Epochs, Lost, Ownership
from mesh.core.replay import PartitionFold
from mesh.core.route import Route
from mesh.core.state import StepState, Workflow
from mesh.errors import BrokerError, BrokerUnavailable
from mesh.ports import Broker, Committed, OutRecord, Record, TopicPartition
from mesh.services.router import barrier, checkpoint, definitions, flight, router, takeover
from mesh.services.router import owner as owning
from mesh.services.router import timers as timing
from mesh.services.router.batch import Batch, Flight
from mesh.services.router.definitions import Definitions
from mesh.services.router.ingress import Ingress
from mesh.services.router.owner import Owner
from mesh.services.router.signs import Signs
from mesh.services.router.timers import Timers
from mesh.testing.simulation import Plan

Fault = Callable[[pytest.MonkeyPatch], None]
FAULTS: dict[str, Fault] = {}
PLANS: dict[str, Callable[[Plan], Plan]] = {}
"""Some faults need a kind of weather that is rare in ordinary runs."""


def fault(function: Fault) -> Fault:
    FAULTS[function.__name__] = function
    return function


def plan_for(name: str, seed: int) -> Plan:
    plan = Plan.of(seed)
    return PLANS[name](plan) if name in PLANS else plan


def _in_a_storm(plan: Plan) -> Plan:
    """Many appends fail, and several are under way."""
    weak = replace(plan.weak, latency_s=(0.0, 0.1), lost_request=0.1, give_up_s=0.3)
    return replace(plan, workflows=20, partitions=1, real_agents=False, weak=weak)


def _with_slow_failures(plan: Plan) -> Plan:
    """Appends fail often, and are known to have failed only after seconds."""
    weak = replace(plan.weak, latency_s=(0.0, 0.1), lost_request=0.3, give_up_s=4.0)
    return replace(plan, real_agents=False, mean_life_s=20.0, weak=weak)


def _with_short_lives(plan: Plan) -> Plan:
    """Checkpoints meet many owners."""
    return replace(plan, routers=1, partitions=3, mean_life_s=4.0, chaos_s=80.0, real_agents=False)


def _with_a_blackout(plan: Plan) -> Plan:
    """Deadlines pass while no router lives, and answers come meanwhile."""
    weak = replace(plan.weak, latency_s=(0.0, 0.4))
    return replace(plan, workflows=25, blackout_at_s=8.0, blackout_s=15.0, real_agents=False, weak=weak)


def _with_ingress_that_dies(plan: Plan) -> Plan:
    weak = replace(plan.weak, latency_s=(0.0, 0.4), rebalance=0.05, lost_request=0.05)
    return replace(plan, workflows=25, mean_life_s=4.0, real_agents=False, weak=weak)


def _with_many_take_overs(plan: Plan) -> Plan:
    return replace(plan, workflows=25, mean_life_s=5.0, real_agents=False)


def _with_signs_of_life(plan: Plan) -> Plan:
    return replace(_with_many_take_overs(plan), kinds=("audible",), drawn=0)


def _with_signs_in_a_blackout(plan: Plan) -> Plan:
    return replace(_with_a_blackout(plan), kinds=("audible",), drawn=0)


def _with_claims_that_land_twice(plan: Plan) -> Plan:
    """Routers take over from each other all the time, and most claims land a second time, later."""
    weak = replace(plan.weak, lands_twice=0.8, give_up_s=4.0, rebalance=0.1, undead=0.05)
    return replace(plan, routers=3, partitions=1, mean_life_s=5.0, real_agents=False, weak=weak)


def _fold_with(patch: pytest.MonkeyPatch, epochs: type[Epochs]) -> None:
    class Fold(PartitionFold):
        def __init__(self, partition: int, **options: Any) -> None:
            super().__init__(partition, **{"epochs": epochs(), **options})

    for module in (checkpoint, takeover):
        patch.setattr(module, "PartitionFold", Fold)
    patch.setattr(checkpoint, "Epochs", epochs)


# The log is the lock ---------------------------------------------------------------------------------------------------------


@fault
def readers_check_no_epoch(patch: pytest.MonkeyPatch) -> None:
    class Gullible(Epochs):
        def observe(self, record: LogRecord) -> bool:
            return super().observe(record) or isinstance(record, Decision)

    _fold_with(patch, Gullible)


@fault
def a_token_counts_at_every_occurrence(patch: pytest.MonkeyPatch) -> None:
    class Forgetful(Epochs):
        def observe(self, record: LogRecord) -> bool:
            self._seen.clear()
            return super().observe(record)

    _fold_with(patch, Forgetful)


PLANS["a_token_counts_at_every_occurrence"] = _with_claims_that_land_twice


@fault
def appends_land_behind_one_of_unknown_outcome(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(MemoryBroker, "_gave_up", lambda self, lane: self._lanes.pop(lane.at, None))


PLANS["appends_land_behind_one_of_unknown_outcome"] = _in_a_storm


@fault
def gaps_are_ignored(patch: pytest.MonkeyPatch) -> None:
    def acknowledged(self: Ownership, spans: Sequence[tuple[int, int]]) -> list[Any] | Lost:
        for first, count in spans:
            self.expected = first + count
            self.in_flight -= count
        return []

    patch.setattr(Ownership, "acknowledged", acknowledged)


@fault
def an_unknown_outcome_is_appended_again(patch: pytest.MonkeyPatch) -> None:
    honest = flight._fly

    async def fly(broker: Broker, owner: Owner, one: Flight, *rest: Any) -> None:
        class Again:
            def __getattr__(self, name: str) -> Any:
                return getattr(broker, name)

            async def append(self, *arguments: Any) -> Any:
                try:
                    return await broker.append(*arguments)
                except BrokerUnavailable:
                    log, _, *rest = arguments
                    return await broker.append(log, None, *rest)

        await honest(Again(), owner, one, *rest)

    patch.setattr(flight, "_fly", fly)


@fault
def an_owner_goes_on_after_an_unknown_outcome(patch: pytest.MonkeyPatch) -> None:
    async def fly(broker: Broker, owner: Owner, one: Flight, *rest: Any) -> None:
        try:
            await flight._fly(broker, owner, one, *rest)
        except BrokerError:
            owner.ownership.in_flight -= len(one.batch)
        finally:
            one.end()
            owner.flights.remove(one)

    patch.setattr(router, "fly", fly)


# Effects ---------------------------------------------------------------------------------------------------------------------


@fault
def effects_leave_before_the_acknowledgement(patch: pytest.MonkeyPatch) -> None:
    honest = flight._fly

    async def fly(broker: Broker, owner: Owner, one: Flight, *rest: Any) -> None:
        if one.batch.effect_records:
            await broker.send(one.batch.effect_records)
        await honest(broker, owner, one, *rest)

    patch.setattr(flight, "_fly", fly)


@fault
def the_mark_moves_before_the_effects_are_acknowledged(patch: pytest.MonkeyPatch) -> None:
    honest = Owner.confirm

    def confirm(self: Owner, batch: Any, spans: Sequence[tuple[int, int]]) -> None:
        honest(self, batch, spans)
        self.acknowledge_effects(self.confirmed_offset, had_effects=True)

    patch.setattr(Owner, "confirm", confirm)


@fault
def a_new_owner_starts_its_own_mark(patch: pytest.MonkeyPatch) -> None:
    def owed(_: Any) -> list[tuple[int, Effect]]:
        return []

    patch.setattr(takeover._Candidate, "owed", owed)


@fault
def tasks_of_settled_steps_are_sent_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(takeover, "_is_wanted", lambda *_: True)


def _with_a_missing_topic(plan: Plan) -> Plan:
    return replace(plan, kinds=("astray",), drawn=0, real_agents=False)


@fault
def a_failed_send_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Owner, "offer_own", lambda *_: None)


@fault
def the_mark_covers_a_failed_send_that_is_not_decided(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Owner, "_mark", property(lambda self: self.state.mark))


for _name in ("a_failed_send_is_forgotten", "the_mark_covers_a_failed_send_that_is_not_decided"):
    PLANS[_name] = _with_a_missing_topic


# Time ------------------------------------------------------------------------------------------------------------------------


@fault
def timers_wait_for_no_inputs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Owner, "_fires_up_to", lambda self, awaited, now_ms: now_ms)


@fault
def deadlines_do_not_wait_for_ingress(patch: pytest.MonkeyPatch) -> None:
    async def copied(*_: Any) -> bool:
        return True

    patch.setattr(barrier, "_copied", copied)


PLANS["deadlines_do_not_wait_for_ingress"] = _with_a_blackout


@fault
def clocks_are_not_corrected(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Owner, "clock_offset_ms", property(lambda _: 0, lambda *_: None), raising=False)


@fault
def timers_are_not_armed_at_a_take_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Timers, "rebuild", lambda *_: None)


@fault
def signs_of_life_are_not_waited_for_at_a_take_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Signs, "rebuild", lambda *_: None)


PLANS["signs_of_life_are_not_waited_for_at_a_take_over"] = _with_signs_of_life


@fault
def a_new_owner_gives_an_attempt_the_rest_of_its_period_alone(patch: pytest.MonkeyPatch) -> None:
    def rebuild(self: Signs, workflows: Iterable[Workflow], _: int) -> None:
        for workflow in workflows:
            for name, step in workflow.steps.items():
                if step.status == "running":
                    self.watch(workflow, name, step)

    patch.setattr(Signs, "rebuild", rebuild)


PLANS["a_new_owner_gives_an_attempt_the_rest_of_its_period_alone"] = _with_signs_of_life


@fault
def the_silence_of_an_agent_is_decided_on_while_its_signs_are_unread(patch: pytest.MonkeyPatch) -> None:
    honest = Owner._take_timers

    def take_timers(self: Owner, batch: Any, now_ms: int) -> None:
        for timer in self.deadlines.signs.pop_due(now_ms, self.state.workflows, limit=100):
            self._fire(batch, timer, now_ms)
        honest(self, batch, now_ms)

    patch.setattr(Owner, "_take_timers", take_timers)


PLANS["the_silence_of_an_agent_is_decided_on_while_its_signs_are_unread"] = _with_signs_in_a_blackout


# Inputs ----------------------------------------------------------------------------------------------------------------------


@fault
def a_new_owner_skips_an_input(patch: pytest.MonkeyPatch) -> None:
    honest = takeover._skip_what_is_gone

    async def skip(owners: Sequence[Owner], *others: Any) -> None:
        await honest(owners, *others)
        for owner in owners:
            owner.read = {topic: offset + (offset % 5 == 3) for topic, offset in owner.read.items()}

    patch.setattr(takeover, "_skip_what_is_gone", skip)


@fault
def a_new_owner_reads_its_inputs_from_the_begin(patch: pytest.MonkeyPatch) -> None:
    honest = takeover._skip_what_is_gone

    async def skip(owners: Sequence[Owner], *others: Any) -> None:
        await honest(owners, *others)
        for owner in owners:
            owner.read = dict.fromkeys(owner.read, 0)
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
            self._copied = {TopicPartition(r.topic, r.partition): Committed(r.offset + 1) for r in records}
            await self._commit(subscription)
            await self._copy(records)

    patch.setattr(Ingress, "_turn", turn)


PLANS["ingress_commits_before_its_copies_land"] = _with_ingress_that_dies


@fault
def ingress_gives_a_batch_up_when_the_broker_is_away(patch: pytest.MonkeyPatch) -> None:
    async def copy(self: Ingress, records: Sequence[Record]) -> bool:
        out: list[OutRecord] = [copied for record in records for copied in self._copies(record)]
        with suppress(BrokerUnavailable):
            await self._broker.send(out)
        return True

    patch.setattr(Ingress, "_copy", copy)


PLANS["ingress_gives_a_batch_up_when_the_broker_is_away"] = _with_ingress_that_dies


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

    patch.setattr(owning, "decide", decide_again)


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

    patch.setattr(owning, "decide", decide_again)


@fault
def the_time_out_of_a_wait_does_not_wait_for_events(patch: pytest.MonkeyPatch) -> None:
    honest = timing._timing

    def timing_of(step: StepState) -> Any:
        return ("event_timeout", "nothing") if step.awaits else honest(step)

    patch.setattr(timing, "_timing", timing_of)


def _with_waits_in_a_blackout(plan: Plan) -> Plan:
    return replace(_with_a_blackout(plan), kinds=("awaits", "race"), drawn=0)


PLANS["the_time_out_of_a_wait_does_not_wait_for_events"] = _with_waits_in_a_blackout


def _with_lists(plan: Plan) -> Plan:
    return replace(plan, workflows=20, kinds=("limited", "sheaf"), drawn=0, real_agents=False)


PLANS["an_item_of_a_for_each_counts_twice"] = _with_lists


# Between workflows -----------------------------------------------------------------------------------------------------------


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


# Built-in workflows ----------------------------------------------------------------------------------------------------------


def _with_payments(plan: Plan) -> Plan:
    return replace(plan, workflows=60, kinds=("paid",), drawn=0, real_agents=False)


@fault
def an_alias_takes_every_claim(patch: pytest.MonkeyPatch) -> None:
    def bind(draft: Draft, given: AliasClaimed) -> None:
        draft.add(AliasBound(claimant=given.claimant))

    patch.setattr(forwarding, "_on_claimed", bind)


PLANS["an_alias_takes_every_claim"] = _with_payments


@fault
def a_schedule_does_not_wait_for_its_next_time(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Timers, "arm_schedule", lambda *_: None)


def _with_little_beside_the_schedule(plan: Plan) -> Plan:
    return replace(plan, workflows=1, kinds=("flaky",), drawn=0, routers=1, real_agents=False)


PLANS["a_schedule_does_not_wait_for_its_next_time"] = _with_little_beside_the_schedule


# Limits ----------------------------------------------------------------------------------------------------------------------


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

    patch.setattr(owning, "decide", decide_and_keep)


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

    patch.setattr(owning, "decide", decide_anyhow)


for _name in (
    "a_time_out_gives_no_slot_back",
    "a_new_owner_starts_a_limiter_afresh",
    "a_grant_counts_for_whoever_waits_now",
):
    PLANS[_name] = _with_limits


# Checkpoints -----------------------------------------------------------------------------------------------------------------


@fault
def checkpoints_hold_unconfirmed_state(patch: pytest.MonkeyPatch) -> None:
    honest = checkpoint.save_checkpoint

    def save(owner: Owner, store: Any) -> None:
        owner.dirty = {**owner.dirty, **owner.state.workflows}
        honest(owner, store)

    patch.setattr(router, "save_checkpoint", save)


@fault
def a_checkpoint_misses_what_its_owner_folded(patch: pytest.MonkeyPatch) -> None:
    honest = takeover._move_in

    def move_in(candidate: Any) -> None:
        honest(candidate)
        candidate.owner.dirty = {}

    patch.setattr(takeover, "_move_in", move_in)


@fault
def another_logs_checkpoint_is_written_over(patch: pytest.MonkeyPatch) -> None:
    honest = takeover._Candidate.verify

    def verify(self: Any, first: LogRecord) -> None:
        self.store = None
        honest(self, first)

    patch.setattr(takeover._Candidate, "verify", verify)


PLANS["another_logs_checkpoint_is_written_over"] = _with_short_lives


@fault
def an_announcement_is_remembered_before_the_log_has_it(patch: pytest.MonkeyPatch) -> None:
    honest = Owner._announce

    def announce(self: Owner, batch: Any, record: Record, now_ms: int) -> None:
        honest(self, batch, record, now_ms)
        self.attempted = self._announced

    patch.setattr(Owner, "_announce", announce)


PLANS["an_announcement_is_remembered_before_the_log_has_it"] = _with_slow_failures


# Which routes an event meets -------------------------------------------------------------------------------------------------


def _with_many_changes(plan: Plan) -> Plan:
    weak = replace(plan.weak, latency_s=(0.0, 0.4), rebalance=0.02)
    kinds = ("brittle", "consent", "fan", "flaky", "open", "review")  # of which there are two versions
    return replace(plan, routers=2, workflows=40, mean_life_s=8.0, real_agents=False, weak=weak, kinds=kinds, drawn=0)


@fault
def ingress_matches_with_the_routes_activated_last(patch: pytest.MonkeyPatch) -> None:
    """Whatever the event's time."""
    patch.setattr(activation.Timeline, "place", lambda self, _: len(self._since))


@fault
def ingress_never_looks_for_activations_again(patch: pytest.MonkeyPatch) -> None:
    async def know(self: Definitions, _: int) -> None:
        if not self._until_ms:
            await self.known.refresh()
        self._until_ms = 1

    patch.setattr(Definitions, "_know", know)
    patch.setattr(definitions, "_FOLLOW_EVERY_S", 10_000.0)  # else what calls look at would be there for events too


@fault
def ingress_looks_for_activations_too_seldom(patch: pytest.MonkeyPatch) -> None:
    """As if they took effect ten seconds later than they do."""
    patch.setattr(definitions, "known_until_ms", lambda seen_ms: seen_ms + 10_000)
    patch.setattr(definitions, "SLACK_MS", 10_000)
    patch.setattr(definitions, "_FOLLOW_EVERY_S", 10.0)


@fault
def a_routers_old_file_undoes_what_was_applied(patch: pytest.MonkeyPatch) -> None:
    """Each start makes its own files active, unseen by the judge's clock: they are matched at once."""

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
