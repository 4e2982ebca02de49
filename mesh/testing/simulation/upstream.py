"""Upstream: the events that start workflows, and those that steps wait for.

They come repeated, early, late or never, and with rubbish beside them. Owns what is published.
`parties` calls it.
"""

from functools import partial
from typing import Any

from mesh.codec.times import rfc3339
from mesh.core import ids
from mesh.core.events import WaitStarted
from mesh.core.route import ApprovalWork
from mesh.core.state import Workflow
from mesh.ports import OutRecord
from mesh.testing.simulation.approvers import Approvers
from mesh.testing.simulation.ground import Ground


class Upstream:
    """All upstream systems of a run.

    Call `publish` once for each workflow, and `on_wait` when a step has begun to wait for an event.
    """

    def __init__(self, ground: Ground, approvers: Approvers) -> None:
        self._ground = ground
        self._approvers = approvers

    def publish(self, number: int, for_s: float) -> None:
        """Send one event at some time within `for_s`, perhaps twice.

        Perhaps something that nobody wants goes with it.
        """
        ground, rng = self._ground, self._ground.rng
        kind = rng.choice(ground.repertoire.kinds)
        subject, at_s = f"n{number}", rng.uniform(0, for_s)
        due_ms = ground.clock.now_ms() + 1000 * (at_s + rng.uniform(-1, 12))
        event = {
            "specversion": "1.0",
            "id": f"event-{number}",
            "source": "/sim",
            "type": f"sim.{kind}",
            "subject": subject,
            "data": {
                "n": number,
                "odd": number % 2 == 1,
                "list": [*range(number % 5)],
                "due": rfc3339(int(due_ms)),
            },
        }
        workflow = ids.workflow_id(kind, subject)
        ground.later(at_s, lambda: ground.publish(event))
        if not ground.repertoire.is_brief(kind) and rng.random() < 0.3:
            ground.later(at_s + rng.choice([0.0, 0.01, rng.uniform(0, 10)]), lambda: ground.publish(event))
        if rng.random() < 0.1:
            other = {**event, "id": f"event-{number}-again"}
            ground.later(at_s + rng.uniform(0, 20), lambda: ground.publish(other))
        if rng.random() < 0.1:
            ground.later(at_s, lambda: ground.publish({**event, "id": f"unwanted-{number}", "type": "sim.unwanted"}))
        if rng.random() < 0.1:
            ground.later(at_s, lambda: ground.send(OutRecord(ground.topics.events, None, b"not an event")))
        if rng.random() < 0.08:
            ground.later(at_s + rng.uniform(0, 25), lambda: ground.command("cancel", workflow))
        run = ids.run_id("/sim", f"event-{number}")
        for name, step in ground.repertoire.versions[kind][0].steps.items():
            if isinstance(step.work, ApprovalWork) and rng.random() < 0.2:
                self._approvers.expect(ids.approval_id(workflow, run, name), at_s + rng.uniform(0, 3))
        for what in ground.repertoire.awaited_by(kind):
            self._publish_awaited(event, what, at_s)
        if ground.repertoire.versions[kind][0].looped:
            self._publish_bursts(event, ground.repertoire.awaited_by(kind), at_s)

    def _publish_awaited(self, event: dict[str, Any], what: str, at_s: float) -> None:
        """Send what a step waits for, whether it waits at that time or not; perhaps twice."""
        ground, rng = self._ground, self._ground.rng
        told = {**event, "id": f"{event['id']}-{what}", "type": what}
        for _ in range(rng.choice([0, 0, 1, 2])):
            ground.later(at_s + rng.choice([rng.uniform(-3, 0), rng.uniform(0, 25)]), lambda: ground.publish(told))

    def _publish_bursts(self, event: dict[str, Any], awaited: tuple[str, ...], at_s: float) -> None:
        """Of what a loop waits for, several at once, at whatever moment of a round."""
        ground, rng = self._ground, self._ground.rng
        for what in awaited:
            burst_s = at_s + rng.uniform(0, 20)
            for _ in range(rng.choice([0, 2, 4])):
                told = {**event, "id": ground.fresh("burst"), "type": what}
                ground.later(burst_s + rng.choice([0.0, 0.01]), partial(ground.publish, told))

    def on_wait(self, workflow: Workflow, wait: WaitStarted) -> None:
        """Send what the step waits for: in time, near the time-out, too late, or never."""
        ground, rng = self._ground, self._ground.rng
        left_s = 20.0
        if wait.due_at_ms is not None:
            left_s = (wait.due_at_ms - ground.clock.now_ms()) / 1000
        for _ in range(1 if ground.is_calm else rng.choice([0, 1, 1, 2])):
            at_s = rng.choice([rng.uniform(0, left_s), left_s + rng.uniform(-0.3, 0.05), left_s + rng.uniform(0, 5)])
            ground.later(at_s, lambda: self.tell(workflow, wait.awaits))

    def tell(self, workflow: Workflow, awaited: str) -> None:
        """Send what a step of this workflow waits for, by key or by alias."""
        ground, data = self._ground, workflow.cloud_event.get("data")
        subject = workflow.key
        event = {"id": ground.fresh("told"), "source": "/sim", "type": awaited, "subject": subject, "data": data}
        ground.publish({"specversion": "1.0", **event})
