"""Faults in what pauses hold, and in what goes on after them."""

from collections.abc import Iterator
from typing import Any

import pytest
from faults import PLANS, fault
from msgspec.structs import replace

from mesh.core.decide import progress
from mesh.core.decide.begin import task as begin_task
from mesh.core.decide.draft import Draft
from mesh.core.decide.settle import limit as settle_limit
from mesh.core.inputs import CommandGiven, InboxInput
from mesh.services.router import releasing
from mesh.services.router.copies import Copies
from mesh.services.router.decider import Decider
from mesh.services.router.releasing import Releasing
from mesh.testing.simulation import Plan


def with_pauses(plan: Plan) -> Plan:
    return replace(plan, pauses=True, workflows=20, mean_life_s=5.0)


@fault
def a_task_goes_to_an_agent_that_is_paused(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(begin_task, "why_paused", lambda draft, *_: draft.why_paused())


@fault
def a_granted_slot_does_not_ask_whether_the_agent_is_paused(patch: pytest.MonkeyPatch) -> None:
    honest = begin_task.dispatch

    def hasty(draft: Draft, *about: Any, **more: Any) -> None:
        pauses = draft.pauses
        if more.get("beyond"):
            draft.pauses = {}
        honest(draft, *about, **more)
        draft.pauses = pauses

    patch.setattr(settle_limit, "dispatch", hasty)


@fault
def the_steps_of_a_paused_route_begin(patch: pytest.MonkeyPatch) -> None:
    def is_going(draft: Draft) -> bool:
        workflow = draft.workflow
        is_live = workflow is not None and workflow.status == "running" and workflow.ending is None
        return is_live and draft.live.pause is None

    patch.setattr(progress, "is_going", is_going)


@fault
def what_was_held_is_never_woken(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Releasing, "begin", lambda *_: None)


@fault
def a_new_owner_does_not_go_on_with_a_release(patch: pytest.MonkeyPatch) -> None:
    def begin(self: Decider, state: Any) -> None:
        self.state = state
        self.deadlines.timers.rebuild(state.workflows.values())

    patch.setattr(Decider, "begin", begin)
    # slow enough for a router to die meanwhile
    patch.setattr(releasing, "_PORTION", 1)
    patch.setattr(releasing, "_EVERY_MS", 2_000)


@fault
def one_partition_alone_hears_of_a_resumption(patch: pytest.MonkeyPatch) -> None:
    honest = Copies._from_command

    def first(self: Copies, record: Any) -> Iterator[InboxInput]:
        for given in honest(self, record):
            if not (isinstance(given, CommandGiven) and given.command == "resume" and given.source_index):
                yield given

    patch.setattr(Copies, "_from_command", first)


for name in (
    "a_task_goes_to_an_agent_that_is_paused",
    "a_granted_slot_does_not_ask_whether_the_agent_is_paused",
    "the_steps_of_a_paused_route_begin",
    "what_was_held_is_never_woken",
    "a_new_owner_does_not_go_on_with_a_release",
    "one_partition_alone_hears_of_a_resumption",
):
    PLANS[name] = with_pauses
