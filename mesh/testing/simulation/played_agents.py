"""Agents that are played, well or badly.

They are slow, fail, fall silent, pass their tasks on, and answer twice or late. The seed and the
attempt decide which. Owns what played agents do. `parties` calls it.
"""

import random
from collections.abc import Iterator, Mapping
from itertools import count, takewhile
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from mesh.codec.cards import encode_card
from mesh.codec.tasks import Task, encode_result, encode_sign
from mesh.codec.times import rfc3339
from mesh.core.inputs import HandOver, TaskError
from mesh.core.route import AgentWork
from mesh.core.state import AgentCard
from mesh.core.tool_approvals import Wanted
from mesh.ports import OutRecord, Record
from mesh.testing.simulation.ground import Ground
from mesh.testing.simulation.routes import AGENTS

_CALM_AGENT_S: Final = 0.05


class PlayedAgents:
    """All agents of a run.

    Call `on_task` when a task was delivered, and `on_result` for each result, also of real agents.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._worked: set[str] = set()

    def register(self, outstanding: Mapping[str, int], capabilities: Mapping[str, tuple[str, ...]]) -> None:
        """Say of all agents what they can do, and how many tasks they want to have."""
        for name in AGENTS:
            card = AgentCard(
                name=name,
                version="1",
                topic=self._ground.topics.tasks(name),
                instance="played",
                renewed_at=rfc3339(self._ground.clock.now_ms()),
                capabilities=tuple(what for what, agents in capabilities.items() if name in agents),
                max_outstanding=outstanding.get(name),
            )
            self._ground.send(encode_card(card, topics=self._ground.topics))
            registration = replace(card, instance="", registration=True)
            self._ground.send(encode_card(registration, topics=self._ground.topics))

    def on_task(self, task: Task) -> None:
        """Work on a task. If it is delivered again, chance decides whether to work again."""
        ground, attempt = self._ground, task.attempt_id
        rng = ground.rng if attempt in self._worked else random.Random(f"{ground.seed} {attempt}")  # noqa: S311 - a simulation's chance
        if attempt in self._worked and rng.random() < 0.5:
            return
        self._worked.add(attempt)
        if ground.is_calm:
            ground.later(_CALM_AGENT_S, lambda: self._reply(task, None))
            return
        timeout_s = (task.deadline_at - task.created_at).total_seconds()
        draw = rng.random()
        if draw < 0.06:
            return  # the agent died while it worked on the task
        if task.heartbeat_s is not None:
            self._work_audibly(task, task.heartbeat_s, rng)
            return
        delay_s = rng.choice(
            [0.0, 0.0, rng.uniform(0, 2), rng.uniform(0, timeout_s), timeout_s + rng.uniform(-0.2, 0.2)]
        )
        if draw < 0.12:
            delay_s = timeout_s * rng.uniform(1, 2)
        error = None
        if draw > 0.75:
            error = TaskError(kind="OSError", message="the disk is full", retryable=draw < 0.97)
        ground.later(min(delay_s, 60.0), lambda: self._reply(task, error))

    def _work_audibly(self, task: Task, heartbeat_s: float, rng: random.Random) -> None:
        """Work with signs of life, which may stop early.

        If they stop early, the result may still come.
        """
        start_s, run_s = task.start_timeout_s or 4.0, task.run_timeout_s or 8.0
        begin_s = rng.choice([0.0, 0.0, rng.uniform(0, 2), start_s + rng.uniform(-0.2, 0.2)])
        takes_s = rng.choice([0.0, rng.uniform(0, run_s), rng.uniform(0, run_s), run_s + rng.uniform(-0.2, 0.5)])
        heard_s = rng.choice([takes_s, takes_s, takes_s, rng.uniform(0, takes_s)])
        every_s = rng.choice([heartbeat_s / 3, heartbeat_s / 3, heartbeat_s + rng.uniform(-0.2, 0.05)])
        ends = takes_s == heard_s or rng.random() < 0.5
        error = TaskError(kind="OSError", message="the disk is full") if rng.random() < 0.1 else None
        for at_s in _until(heard_s, start_s / 3):
            self._say(task, "started", begin_s, at_s)
        for at_s in _until(heard_s, every_s):
            self._say(task, "heartbeat", begin_s, at_s)
        if ends:
            self._ground.later(begin_s + takes_s, lambda: self._reply(task, error))

    def _say(self, task: Task, status: Literal["started", "heartbeat"], begin_s: float, at_s: float) -> None:
        """Plan a sign of life, `at_s` after the work begins, which is `begin_s` from now."""
        sign = encode_sign(task, status, agent_version="1", agent_instance="played", duration_ms=round(at_s * 1000, 3))
        self._ground.later(begin_s + at_s, lambda: self._ground.send(sign))

    def _reply(self, task: Task, error: TaskError | None) -> None:
        """Send the result. Of its budget it uses part, all, or more, or does not say."""
        handover = self._to_another(task) if error is None else None
        wanted = self._wants(task) if error is None and handover is None else None
        output = msgspec.json.encode({"by": task.agent, "attempt": task.attempt})
        usage = None
        if task.budget and task.attempt % 3:
            usage = {name: amount * (0.5 if task.attempt % 3 == 1 else 1.25) for name, amount in task.budget.items()}
        self._ground.send(
            encode_result(
                task,
                output=output if error is None and handover is None and wanted is None else None,
                error=error,
                handover=handover,
                approval=wanted,
                agent_version="1",
                agent_instance="played",
                duration_ms=1.0,
                usage=usage,
            )
        )

    def _to_another(self, task: Task) -> HandOver | None:
        """Now and then, hand the task over to another agent.

        Usually it is one that may have the task, and seldom one that may not.

        The choice is the same each time that the attempt is worked on.
        """
        ground = self._ground
        if ground.is_calm:
            return None
        rng = random.Random(f"{ground.seed} {task.attempt_id} over")  # noqa: S311 - as above
        step = ground.repertoire.step_of(task.workflow_id, task.step)
        allowed = step.work.handover if step is not None and isinstance(step.work, AgentWork) else None
        if rng.random() > (0.5 if allowed is not None else 0.01):
            return None
        others = sorted(allowed.to) * 5 if allowed is not None else []
        return HandOver(to=rng.choice([*others, "nobody"]), input={"from": task.agent})

    def _wants(self, task: Task) -> Wanted | None:
        """Now and then, ask for an approval where the agent may; also for one that it has."""
        ground = self._ground
        step = ground.repertoire.step_of(task.workflow_id, task.step)
        if ground.is_calm or step is None or not isinstance(step.work, AgentWork) or step.work.approve is None:
            return None
        rng = random.Random(f"{ground.seed} {task.attempt_id} wants")  # noqa: S311 - as above
        if rng.random() > 0.6:
            return None
        payload = {"amount": rng.choice([1, 2])}
        return Wanted(name=rng.choice(["pay", "ship"]), question="May I?", payload=payload)

    def on_result(self, record: Record) -> None:
        """Send some results and signs of life a second time, after any delay."""
        ground = self._ground
        if ground.rng.random() < (0.02 if ground.is_calm else 0.1):
            again = OutRecord(record.topic, record.key, record.value, record.headers, record.partition)
            ground.later(ground.rng.choice([0.0, 0.3, ground.rng.uniform(0, 20)]), lambda: ground.send(again))


def _until(end_s: float, every_s: float) -> Iterator[float]:
    """Return 0, `every_s`, twice `every_s` and so on, up to `end_s`."""
    return takewhile(lambda at_s: at_s <= end_s, count(0.0, every_s))
