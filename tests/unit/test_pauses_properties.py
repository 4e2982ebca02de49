"""Pauses of agents and routes, between all else that can come, on drawn routes.

What is paused begins nothing, whatever comes; and once all have resumed, each workflow waits for
something that can come, as if nothing had been paused.
"""

from typing import Any

import pytest
from drawn_routes import Drawn, routes
from draws import draws
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule, run_state_machine_as_test
from run_ledger import check_account, check_items, check_liveness
from test_core_properties import Core

from mesh.core import ids
from mesh.core.decide.begin import portion as begin_portion
from mesh.core.events import Decision, PauseLifted, PauseSet, SlotRequested, TaskDispatched
from mesh.core.pauses import route_target
from mesh.core.state import Workflow
from mesh.services.router.releasing import Releasing
from mesh.testing.promises.rules import BEGINS

TARGETS = ("agent/x", "agent/x", "agent/y", "route/r", "route/sub")


class Paused(Core):
    @initialize(drawn=routes(), n=st.integers(0, 1), whom=st.sampled_from(TARGETS))
    def begin(self, drawn: Drawn, n: int, whom: str) -> None:
        super().begin(drawn, starts=False, n=n)
        self.order(whom, "pause")
        self.start("k", "e1", n, [1, 2, 3, 4])

    @rule(whom=st.sampled_from(TARGETS), command=st.sampled_from(["pause", "resume"]))
    def order(self, whom: str, command: Any) -> None:
        self.given(lambda: self.p.pause(whom, command))

    @rule(most=st.sampled_from([1, 2, 99]))
    def go_on(self, most: int) -> None:
        """The owner wakes what was held; with few at once, another may take over in between."""
        holder = self.p.state.workflows.get(ids.PAUSES)
        if holder is not None:
            releasing = Releasing()
            releasing.begin(holder, self.p.state.workflows.values(), self.p.now_ms)
            for timer in list(releasing.pop_due(self.p.now_ms, limit=most)):
                self.give(timer)

    def check_run(self, before: Workflow | None, decision: Decision) -> None:
        super().check_run(before, decision)
        paused = getattr(self, "paused", set[str]())
        for event in decision.events:
            if isinstance(event, PauseSet):
                paused.add(event.target)
            elif isinstance(event, PauseLifted):
                paused.remove(event.target)
            elif isinstance(event, BEGINS):
                assert route_target(ids.route_of(decision.workflow_id)) not in paused, f"{event} begins"
            if isinstance(event, TaskDispatched | SlotRequested):
                assert f"agent/{event.agent}" not in paused, f"{event} goes out"
        self.paused = paused

    @invariant()
    def no_workflow_is_stuck(self) -> None:
        holder = self.p.state.workflows.get(ids.PAUSES)
        held = holder.pauses if holder is not None else None
        for workflow in self.p.state.workflows.values():
            if workflow is not holder:
                route = self.p.routes[workflow.digest]
                if held is None or not (held.paused or held.releasing):
                    check_liveness(workflow, route)
                check_items(workflow, route)
                check_account(workflow)

    def teardown(self) -> None:
        if hasattr(self, "p"):
            for target in sorted(getattr(self, "paused", ())):
                self.order(target, "resume")
            self.go_on(99)
            super().teardown()


def test_what_is_paused_begins_nothing_and_nothing_is_stuck_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(begin_portion, "PORTION", 2)
    run_state_machine_as_test(Paused, settings=settings(max_examples=draws(25), stateful_step_count=40, deadline=None))
