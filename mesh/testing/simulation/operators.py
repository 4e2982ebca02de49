"""Operators: they retry, skip, fail, cancel and pause, and change workflows' and routes' versions.

Once it is calm, they look after everything that is stuck. Owns what operators do. `parties` calls
it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Final

from mesh.codec.definitions import encode_activation, encode_definition
from mesh.core import ids
from mesh.core.events import IncidentRaised
from mesh.core.people import People
from mesh.core.state import StepState, Workflow
from mesh.testing.simulation import people
from mesh.testing.simulation.approvers import Approvers
from mesh.testing.simulation.ground import Ground
from mesh.testing.simulation.routes import AGENTS

_SWEEP_S: Final = 5.0
_PATIENCE_S: Final = 15.0  # how long an operator waits before the same command again
_MISTAKES: Final = 0.3  # of all verdicts
_RELEASES: Final = 0.5  # of all jumps, before it is calm
_NOT_STORED: Final = "sha256:" + "0" * 64
_HELPS_NOT: Final = frozenset({"loop", "timeout", "expression"})
"""Incidents that another try would bring about once more."""


class Operators:
    """All operators of a run.

    Call `on_incident` when a step has become one, `on_verdict` when an approval is closed,
    `migrate_workflows`, `change_routes` and, if wanted, `change_people` and `pause_now_and_then`
    once at the beginning, and `settle` once it is calm.
    `tell`: sends what a step waits for.
    """

    def __init__(self, ground: Ground, approvers: Approvers, tell: Callable[[Workflow, str], None]) -> None:
        self._ground = ground
        self._approvers = approvers
        self._tell = tell
        self._changes_people = False
        self._pauses = False
        self._again_s: dict[str, float] = {}
        self._tried: Counter[tuple[str, str, str]] = Counter()

    def on_incident(self, workflow: str, raised: IncidentRaised) -> None:
        ground, rng = self._ground, self._ground.rng
        if raised.kind == "loop" and not ground.is_calm and rng.random() < 0.7:
            ground.later(rng.uniform(0, 5), lambda: self._correct(workflow, raised.step))
        elif not ground.is_calm and rng.random() < 0.5:
            order = rng.choice(["retry", "retry", "retry", "skip", "fail"])
            step = rng.choice([None, None, raised.step])
            ground.later(rng.uniform(0, 15), lambda: ground.command(order, workflow, step=step))

    def _correct(self, workflow: str, step: str) -> None:
        """Give a loop another version's condition, and have it asked again."""
        ground = self._ground
        version = ground.repertoire.versions[ids.route_of(workflow)][-1]
        ground.send(encode_definition(version, ground.topics))
        ground.command("migrate", workflow, to=version.digest)
        ground.command("retry", workflow, step=step)

    def on_verdict(self, workflow: str, step: str) -> None:
        """Now and then somebody answered by mistake: the approval is to be asked again."""
        ground, rng = self._ground, self._ground.rng
        if not ground.is_calm and rng.random() < _MISTAKES:
            ground.later(rng.choice([0.0, rng.uniform(0, 5)]), lambda: ground.command("retry", workflow, step=step))

    def migrate_workflows(self, for_s: float) -> None:
        """Now and then within `for_s`, move running workflows to another version of their route.

        The version may fit or not.
        """
        for _ in range(self._ground.rng.choice([0, 3, 8])):
            self._ground.later(self._ground.rng.uniform(0, for_s), self._migrate)

    def _migrate(self) -> None:
        ground, rng = self._ground, self._ground.rng
        running = [one for one in ground.promises.workflows() if one.status == "running"]
        if running:
            workflow = rng.choice(running)
            version = rng.choice(ground.repertoire.versions[workflow.route])
            ground.send(encode_definition(version, ground.topics))
            ground.command("migrate", workflow.workflow_id, to=version.digest if rng.random() < 0.9 else _NOT_STORED)

    def change_routes(self, for_s: float) -> None:
        """Make other versions active, or withdraw a route, now and then within `for_s`."""
        for _ in range(self._ground.rng.choice([0, 2, 5, 9])):
            self._ground.later(self._ground.rng.uniform(0, for_s), self._activate)

    def _activate(self) -> None:
        """Change one or two routes at once.

        The very first activation is left to the routers, because their files apply to what was
        published before it.
        """
        ground, rng, repertoire = self._ground, self._ground.rng, self._ground.repertoire
        if ground.promises.timeline.is_empty:
            return
        names = rng.sample(repertoire.kinds, min(len(repertoire.kinds), rng.choice([1, 1, 2])))
        chosen = [rng.choice(repertoire.versions[name]) for name in names]
        routes = {
            route.name: None if rng.random() < 0.15 and route.name not in repertoire.called else route.digest
            for route in chosen
        }
        ground.note("operator", f"activates {routes}")
        ground.promises.counts["activations"] += 1
        record = encode_activation(
            dict(routes),
            topics=ground.topics,
            activation_id=ground.fresh("activation"),
            by="ops",
            at_ms=ground.clock.now_ms(),
        )
        ground.send(*(encode_definition(route, ground.topics) for route in chosen))
        ground.send(record)

    def pause_now_and_then(self, for_s: float) -> None:
        """Within `for_s` hold a workflow, a route or an agent now and then, and let it go on."""
        self._pauses = True
        for _ in range(self._ground.rng.choice([2, 4, 8])):
            self._ground.later(self._ground.rng.uniform(0, for_s), self._pause)

    def _pause(self) -> None:
        ground, rng = self._ground, self._ground.rng
        kind = rng.choice(["agent", "agent", "route", "workflow"])
        workflows = [one.workflow_id for one in ground.promises.workflows() if one.status == "running"]
        name, target = ids.PAUSES, ""
        if kind == "workflow":
            name = rng.choice(workflows) if workflows else ""
        else:
            target = f"{kind}/{rng.choice(AGENTS if kind == 'agent' else ground.repertoire.kinds)}"
        # a pause in which it becomes calm is ended by `sweep`
        if name and not ground.is_calm:
            ground.command("pause", name, target=target)
            ground.later(rng.uniform(0, 15), lambda: self._resume(name, target))

    def _resume(self, name: str, target: str) -> None:
        if not self._ground.is_calm:
            self._ground.command("resume", name, target=target)

    def _resume_all(self) -> None:
        """End each pause that is left, by what some partition or workflow holds."""
        if not self._pauses:
            return
        workflows = list(self._ground.promises.workflows())
        for target in sorted({target for one in workflows if one.pauses for target in one.pauses.paused}):
            if self._is_time_for(target, _SWEEP_S):
                self._ground.command("resume", ids.PAUSES, target=target)
        for one in workflows:
            if one.pause is not None and self._is_time_for(f"{one.workflow_id} paused", _SWEEP_S):
                self._ground.command("resume", one.workflow_id)

    def change_people(self, for_s: float) -> None:
        """Grant and take away roles, now and then within `for_s`; the first version at once."""
        ground, rng = self._ground, self._ground.rng
        people.activate(ground, people.ALL)
        self._changes_people = True
        for _ in range(rng.choice([2, 5, 9])):
            ground.later(rng.uniform(0, for_s), lambda: self._apply_people(rng.choice(people.VERSIONS)))

    def _apply_people(self, version: People) -> None:
        if not self._ground.is_calm:
            people.activate(self._ground, version)
            self._ground.promises.counts["people applied"] += 1

    def release_clocks(self) -> None:
        """Say that the clock is right, some time after a jump, or only once it is calm."""
        if self._ground.rng.random() < _RELEASES:
            self._ground.later(self._ground.rng.uniform(1, 12), self._release)

    def _release(self) -> None:
        partitions = self._ground.promises.partitions()
        for partition in partitions:
            if self._ground.promises.fold(partition).state.hold is not None:
                self._ground.command("release", ids.clock_of(partition, self._ground.partitions))

    # Once it is calm ------------------------------------------------------------------------------

    def settle(self) -> None:
        """Give everybody their own roles back, and look after what is stuck from then on."""
        if self._changes_people:
            people.activate(self._ground, people.ALL)
        self.sweep()

    def sweep(self) -> None:
        """Look after all that is stuck, again and again."""
        self._release()
        self._resume_all()
        for workflow in list(self._ground.promises.workflows()):
            if workflow.status == "running":
                for place, step in workflow.steps.items():
                    self._look_after(workflow, place, step)
        self._ground.later(_SWEEP_S, self.sweep)

    def _look_after(self, workflow: Workflow, place: str, step: StepState) -> None:
        # one command for all items that are stuck
        whole = ids.step_of(place) if ids.is_item(place) else place
        if step.incident is not None and self._is_time_for(f"{workflow.workflow_id}/{whole}", _PATIENCE_S):
            self._resolve(workflow, whole, step.incident.kind)
        elif step.status == "asking" and self._is_time_for(step.task_id, 8 * _SWEEP_S):
            self._approvers.answer(step.task_id, "ben", "approve")
        elif step.status == "waiting" and step.awaits and step.due_at_ms is None:
            self._tell(workflow, step.awaits)

    def _resolve(self, workflow: Workflow, place: str, kind: str) -> None:
        """Retry it, skip it, or give it up, whichever helps.

        A workflow whose undoing keeps failing is cancelled in the end.
        """
        case = (workflow.workflow_id, workflow.run_id, place)
        self._tried[case] += 1
        tried = self._tried[case]
        if tried <= (0 if kind in _HELPS_NOT else 3):
            self._ground.command("retry", workflow.workflow_id, step=place)
        elif tried <= 6:
            self._ground.command("skip", workflow.workflow_id, step=place)
        else:
            self._ground.command("fail" if workflow.ending is None or tried <= 8 else "cancel", workflow.workflow_id)

    def _is_time_for(self, what: str, pause_s: float) -> bool:
        """Whether to do this now. Nobody repeats what may still be on its way."""
        now_s = asyncio.get_running_loop().time()
        is_time = now_s >= self._again_s.get(what, 0.0)
        if is_time:
            self._again_s[what] = now_s + pause_s
        return is_time
