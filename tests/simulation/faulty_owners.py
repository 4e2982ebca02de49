"""Faults put into what owners do with their log, their effects, time and checkpoints.

The architecture forbids each of them.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from faults import PLANS, fault, with_a_blackout
from msgspec.structs import replace

from mesh.adapters.memory import MemoryBroker
from mesh.core.effects import Effect
from mesh.core.events import Decision, LogRecord
from mesh.core.ownership import Epochs, Lost, Ownership
from mesh.core.replay import Attempt, PartitionFold
from mesh.core.state import Workflow
from mesh.errors import BrokerError, BrokerUnavailable
from mesh.ports import Broker, Record
from mesh.services.router import barrier, careful_mode, checkpoint, flight, router, takeover
from mesh.services.router.batch import Flight
from mesh.services.router.careful_mode import PATIENCE
from mesh.services.router.checkpoint import Saving
from mesh.services.router.liveness import Liveness
from mesh.services.router.own_inputs import OwnInputs
from mesh.services.router.owner import Owner
from mesh.services.router.partition_clock import PartitionClock
from mesh.services.router.timers import Timers
from mesh.testing.simulation import Plan


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


def _with_many_take_overs(plan: Plan) -> Plan:
    return replace(plan, workflows=25, mean_life_s=5.0, real_agents=False)


def _with_signs_of_life(plan: Plan) -> Plan:
    return replace(_with_many_take_overs(plan), kinds=("audible",), drawn=0)


def _with_signs_in_a_blackout(plan: Plan) -> Plan:
    return replace(with_a_blackout(plan), kinds=("audible",), drawn=0)


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


# The log is the lock ------------------------------------------------------------------------------


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


# Effects ------------------------------------------------------------------------------------------


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
        self.acknowledge_effects(self.confirmed.offset, had_effects=True)

    patch.setattr(Owner, "confirm", confirm)


@fault
def a_new_owner_starts_its_own_mark(patch: pytest.MonkeyPatch) -> None:
    def owed(_: Any) -> list[tuple[int, Effect]]:
        return []

    patch.setattr(takeover._Candidate, "owed", owed)


@fault
def tasks_of_settled_steps_are_sent_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(takeover, "is_wanted", lambda *_: True)


def _with_a_missing_topic(plan: Plan) -> Plan:
    return replace(plan, kinds=("astray",), drawn=0, real_agents=False)


@fault
def a_failed_send_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(OwnInputs, "offer", lambda *_: None)


@fault
def the_mark_covers_a_failed_send_that_is_not_decided(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(OwnInputs, "hold_back", lambda _, mark: mark)


for _name in ("a_failed_send_is_forgotten", "the_mark_covers_a_failed_send_that_is_not_decided"):
    PLANS[_name] = _with_a_missing_topic


# Time ---------------------------------------------------------------------------------------------


@fault
def timers_wait_for_no_inputs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Owner, "_fires_up_to", lambda self, awaited, now_ms: now_ms)


@fault
def deadlines_do_not_wait_for_ingress(patch: pytest.MonkeyPatch) -> None:
    async def copied(*_: Any) -> bool:
        return True

    patch.setattr(barrier, "_copied", copied)


PLANS["deadlines_do_not_wait_for_ingress"] = with_a_blackout


@fault
def clocks_are_not_corrected(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PartitionClock, "offset_ms", property(lambda _: 0, lambda *_: None), raising=False)


@fault
def timers_are_not_armed_at_a_take_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Timers, "rebuild", lambda *_: None)


@fault
def signs_of_life_are_not_waited_for_at_a_take_over(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Liveness, "rebuild", lambda *_: None)


PLANS["signs_of_life_are_not_waited_for_at_a_take_over"] = _with_signs_of_life


@fault
def a_new_owner_gives_an_attempt_the_rest_of_its_period_alone(patch: pytest.MonkeyPatch) -> None:
    def rebuild(self: Liveness, workflows: Iterable[Workflow], _: int) -> None:
        for workflow in workflows:
            for name, step in workflow.steps.items():
                if step.status == "running":
                    self.watch(workflow, name, step)

    patch.setattr(Liveness, "rebuild", rebuild)


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


# Checkpoints --------------------------------------------------------------------------------------


@fault
def checkpoints_hold_unconfirmed_state(patch: pytest.MonkeyPatch) -> None:
    honest = Saving.__init__

    def make(self: Saving, owner: Owner, store: Any) -> None:
        owner.confirmed.dirty = {**owner.confirmed.dirty, **owner.state.workflows}
        honest(self, owner, store)

    patch.setattr(Saving, "__init__", make)


@fault
def a_checkpoint_counts_before_its_last_portion(patch: pytest.MonkeyPatch) -> None:
    honest = Saving.advance

    def advance(self: Saving, workflows: int | None = None) -> bool:
        done = honest(self, workflows)
        if not done:
            self._store.save(offset=self._offset, epoch_tokens=self._epochs, meta=self._meta)
        return done

    patch.setattr(Saving, "advance", advance)


@fault
def a_checkpoint_misses_what_its_owner_folded(patch: pytest.MonkeyPatch) -> None:
    honest = takeover._move_in

    def move_in(candidate: Any) -> None:
        honest(candidate)
        candidate.owner.confirmed.dirty = {}

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
def a_checkpoint_that_is_ahead_of_the_log_is_used(patch: pytest.MonkeyPatch) -> None:
    def verify(self: Any, first: LogRecord) -> None:
        until, self.until = self.until, 10**9
        honest(self, first)
        self.until = until

    honest = takeover._Candidate.verify
    patch.setattr(takeover._Candidate, "verify", verify)


PLANS["a_checkpoint_that_is_ahead_of_the_log_is_used"] = _with_short_lives


@fault
def one_death_on_an_announced_input_sets_it_aside(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(careful_mode, "PATIENCE", 1)


def _with_deadly_inputs(plan: Plan) -> Plan:
    return replace(plan, deadly=4, workflows=12, drawn=0, real_agents=False, blackout_at_s=None, jumps=())


PLANS["one_death_on_an_announced_input_sets_it_aside"] = _with_deadly_inputs


@fault
def an_announcement_is_remembered_before_the_log_has_it(patch: pytest.MonkeyPatch) -> None:
    honest = Owner._announce

    def announce(self: Owner, batch: Any, record: Record, now_ms: int) -> None:
        honest(self, batch, record, now_ms)
        self.confirmed.attempted = Attempt(record.topic, record.offset, PATIENCE)

    patch.setattr(Owner, "_announce", announce)


PLANS["an_announcement_is_remembered_before_the_log_has_it"] = lambda plan: replace(
    _with_slow_failures(plan), deadly=4, workflows=6, drawn=0
)
