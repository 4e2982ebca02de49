"""Those around the routers: upstream, agents, approvers and operators, each good and bad at what they do by the seed.

Owns their behaviour. They act on what lands at the broker, as real ones do, and what they send lands at once: the faults of the network are met by
the routers' own connections (and by the real agent runtime's, in `world`). While `is_calm` everybody does right, and promptly.
"""

import asyncio
import contextvars
import random
from collections.abc import Callable, Iterator
from itertools import count, takewhile
from typing import Any, Final, Literal

import msgspec

from mesh.adapters.memory import MemoryCluster
from mesh.codec.approvals import ApprovalRequest, decode_request, encode_response
from mesh.codec.cloudevents import from_record, to_record
from mesh.codec.commands import encode_command
from mesh.codec.definitions import encode_activation, encode_definition
from mesh.codec.tasks import Task, decode_task, encode_result, encode_sign
from mesh.core import ids
from mesh.core.inputs import TaskError
from mesh.core.matching import Match, RouteIndex
from mesh.core.route import Route
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import Clock, OutRecord, Record
from mesh.testing.promises import Promises
from mesh.testing.simulation.routes import CALLED, KINDS, UNKNOWN_AGENT, versions

__all__ = ["Parties", "workflows_of"]

_CALM_AGENT_S: Final = 0.05
_SWEEP_S: Final = 5.0
_NOT_STORED: Final = "sha256:" + "0" * 64


class Parties:
    """`plays_agents` false: real agent runtimes do, and only results are sent again here."""

    def __init__(
        self,
        cluster: MemoryCluster,
        promises: Promises,
        *,
        topics: Topics,
        clock: Clock,
        seed: int,
        plays_agents: bool,
        note: Callable[[str, str], None],
    ) -> None:
        self.is_calm = False
        self._cluster = cluster
        self._promises = promises
        self._topics = topics
        self._clock = clock
        self._seed = seed
        self._plays_agents = plays_agents
        self._note = note
        self._rng = random.Random(f"parties {seed}")  # noqa: S311 - a simulation's chance
        self._context = contextvars.copy_context()
        self._ids = 0
        self._asked: set[str] = set()
        self._worked: set[str] = set()
        self._incidents_seen = 0
        self._answer_again_s: dict[str, float] = {}
        self._versions: dict[str, list[Route]] = {}
        for route in versions():
            self._versions.setdefault(route.name, []).append(route)

    # What happens ----------------------------------------------------------------------------------------------------

    def landed(self, record: Record) -> None:
        """React to what the broker has taken; the promises have seen it already."""
        topics = self._topics
        if record.topic == topics.requests:
            self._on_request(decode_request(record))
        elif record.topic == topics.results:
            self._on_result(record)
        elif record.topic == topics.log:
            self._on_log()
        elif record.topic.startswith(topics.tasks("")):
            task = decode_task(record)
            if self._plays_agents or task.agent == UNKNOWN_AGENT:
                self._on_task(task)

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        """In the context of nobody's process: these parties outlive routers."""
        asyncio.get_running_loop().call_later(delay_s, action, context=self._context)

    def _send(self, *records: OutRecord) -> None:
        batches, failures = self._cluster.sort(records)
        assert not failures
        for at, batch in batches.items():
            self._cluster.land(at, batch)

    def _fresh(self, what: str) -> str:
        self._ids += 1
        return f"{what}-{self._ids}"

    # Upstream --------------------------------------------------------------------------------------------------------

    def publish(self, number: int, for_s: float) -> None:
        """Send one event at some time within `for_s`, perhaps again, perhaps with something that nobody wants beside it."""
        rng = self._rng
        kind = rng.choice(KINDS)
        subject = f"n{number}"
        event = {
            "specversion": "1.0",
            "id": f"event-{number}",
            "source": "/sim",
            "type": f"sim.{kind}",
            "subject": subject,
            "data": {"n": number, "odd": number % 2 == 1},
        }
        at_s = rng.uniform(0, for_s)
        self._later(at_s, lambda: self._publish(event))
        if kind != "brief" and rng.random() < 0.3:
            self._later(at_s + rng.choice([0.0, 0.01, rng.uniform(0, 10)]), lambda: self._publish(event))
        if rng.random() < 0.1:
            other = {**event, "id": f"event-{number}-again"}
            self._later(at_s + rng.uniform(0, 20), lambda: self._publish(other))
        if rng.random() < 0.1:
            self._later(at_s, lambda: self._publish({**event, "id": f"unwanted-{number}", "type": "sim.unwanted"}))
        if rng.random() < 0.1:
            self._later(at_s, lambda: self._send(OutRecord(self._topics.events, None, b"not an event")))
        if kind == "paid":
            self._settle(event, number, at_s)
        run = ids.run_id("/sim", f"event-{number}")
        if kind in {"review", "consent", "escalate"} and rng.random() < 0.2:
            approval = ids.approval_id(ids.workflow_id(kind, subject), run, "agree" if kind == "consent" else "review")
            self._later(at_s + rng.uniform(0, 3), lambda: self._answer(approval, "ana", "approve", early=True))
        if rng.random() < 0.08:
            workflow = ids.workflow_id(kind, subject)
            self._later(at_s + rng.uniform(0, 25), lambda: self._command("cancel", workflow))

    def _settle(self, event: dict[str, Any], number: int, at_s: float) -> None:
        """The payment is settled: long before, long after, twice, or never."""
        rng = self._rng
        settled = {**event, "id": f"settled-{number}", "type": "sim.settled"}
        for _ in range(rng.choice([0, 1, 1, 2])):
            self._later(max(0.0, at_s + rng.uniform(-5, 15)), lambda: self._publish(settled))

    def _publish(self, event: dict[str, Any]) -> None:
        self._send(to_record(event, topic=self._topics.events))

    # Agents ----------------------------------------------------------------------------------------------------------

    def _on_task(self, task: Task) -> None:
        """A task was delivered. Delivered again, it is worked on again or known, by chance."""
        attempt = task.attempt_id
        rng = self._rng if attempt in self._worked else random.Random(f"{self._seed} {attempt}")  # noqa: S311 - as above
        if attempt in self._worked and rng.random() < 0.5:
            return
        self._worked.add(attempt)
        if self.is_calm:
            self._later(_CALM_AGENT_S, lambda: self._reply(task, None))
            return
        timeout_s = (task.deadline_at - task.created_at).total_seconds()
        draw = rng.random()
        if draw < 0.06:
            return  # it died over it
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
        self._later(min(delay_s, 60.0), lambda: self._reply(task, error))

    def _work_audibly(self, task: Task, heartbeat_s: float, rng: random.Random) -> None:
        """It begins at some time, is heard of at some distance for as long as it runs, or falls silent before; then its result may come all the same."""
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
            self._later(begin_s + takes_s, lambda: self._reply(task, error))

    def _say(self, task: Task, status: Literal["started", "heartbeat"], begin_s: float, at_s: float) -> None:
        """A sign of life, `at_s` after its begin, which is `begin_s` from now."""
        sign = encode_sign(task, status, agent_version="1", agent_instance="played", duration_ms=round(at_s * 1000, 3))
        self._later(begin_s + at_s, lambda: self._send(sign))

    def _reply(self, task: Task, error: TaskError | None) -> None:
        output = msgspec.json.encode({"by": task.agent, "attempt": task.attempt})
        self._send(
            encode_result(
                task,
                output=output if error is None else None,
                error=error,
                agent_version="1",
                agent_instance="played",
                duration_ms=1.0,
            )
        )

    def _on_result(self, record: Record) -> None:
        """Some results come twice, and some signs of life, at any distance."""
        if self._rng.random() < (0.02 if self.is_calm else 0.1):
            again = OutRecord(record.topic, record.key, record.value, record.headers, record.partition)
            self._later(self._rng.choice([0.0, 0.3, self._rng.uniform(0, 20)]), lambda: self._send(again))

    # Approvers -------------------------------------------------------------------------------------------------------

    def _on_request(self, request: ApprovalRequest) -> None:
        if request.approval_id in self._asked and self._rng.random() < 0.8:
            return
        self._asked.add(request.approval_id)
        rng, role = self._rng, request.role
        entitled = "ben" if role == "lead" else rng.choice(["ana", "ben"])
        if self.is_calm:
            self._later(0.2, lambda: self._answer(request.approval_id, entitled, "approve"))
            return
        left_s = 30.0
        if request.deadline_at_ms is not None:
            left_s = max(0.0, (request.deadline_at_ms - self._clock.now_ms()) / 1000)
        for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
            at_s = rng.choice([rng.uniform(0, left_s), left_s - rng.uniform(0, 0.3), left_s + rng.uniform(-0.005, 0.3)])
            self._plan_answer(request, entitled, max(0.0, at_s))

    def _plan_answer(self, request: ApprovalRequest, entitled: str, at_s: float) -> None:
        rng = self._rng
        by = rng.choice([entitled, entitled, entitled, "eve", "nobody"])
        decision = rng.choice(["approve", "approve", "reject"])
        digest = rng.choice([request.digest, None, request.digest, "sha256:" + "0" * 64])
        payload = rng.choice([msgspec.UNSET, msgspec.UNSET, {"draft": "better"}, {"other": 1}])
        self._later(at_s, lambda: self._answer(request.approval_id, by, decision, digest=digest, payload=payload))

    def _answer(
        self,
        approval: str,
        by: str,
        decision: Any,
        *,
        digest: str | None = None,
        payload: Any = msgspec.UNSET,
        early: bool = False,
    ) -> None:
        self._note("approver", f"{by} answers {decision} to {approval}" + (" before it is asked" if early else ""))
        record = encode_response(
            topics=self._topics,
            approval_id=approval,
            decision=decision,
            by=by,
            answer_id=self._fresh("answer"),
            at_ms=self._clock.now_ms(),
            digest=digest,
            payload=payload,
        )
        self._send(record)
        if self._rng.random() < 0.1:
            self._send(record)

    # Operators -------------------------------------------------------------------------------------------------------

    def _on_log(self) -> None:
        raised = sum(n for name, n in self._promises.counts.items() if name.startswith("incident"))
        if raised == self._incidents_seen:
            return
        self._incidents_seen = raised
        if not self.is_calm and self._rng.random() < 0.5:
            workflow = self._promises.effective[-1][2].workflow_id
            self._later(self._rng.uniform(0, 15), lambda: self._command("retry", workflow))

    def _command(self, command: Any, workflow: str, to: str = "") -> None:
        self._note("operator", f"{command} {workflow} {to}".strip())
        self._send(
            encode_command(
                topics=self._topics,
                command=command,
                workflow_id=workflow,
                by="ops",
                command_id=self._fresh("command"),
                at_ms=self._clock.now_ms(),
                to=to,
            )
        )

    def migrate_workflows(self, for_s: float) -> None:
        """Move workflows that run to another version of their route, whether that fits or not, now and then within `for_s`."""
        for _ in range(self._rng.choice([0, 3, 8])):
            self._later(self._rng.uniform(0, for_s), self._migrate)

    def _migrate(self) -> None:
        running = [one for one in self._promises.workflows() if one.status == "running"]
        if running:
            workflow = self._rng.choice(running)
            version = self._rng.choice(self._versions[workflow.route])
            self._send(encode_definition(version, self._topics))
            to = version.digest if self._rng.random() < 0.9 else _NOT_STORED
            self._command("migrate", workflow.workflow_id, to)

    def change_routes(self, for_s: float) -> None:
        """Make other versions active, or withdraw a route, now and then within `for_s`."""
        for _ in range(self._rng.choice([0, 2, 5, 9])):
            self._later(self._rng.uniform(0, for_s), self._activate)

    def _activate(self) -> None:
        """One or two routes at once. The first of all is left to the routers, whose files hold for what was published before them."""
        if self._promises.timeline.is_empty:
            return
        rng = self._rng
        chosen = [rng.choice(self._versions[name]) for name in rng.sample(KINDS, rng.choice([1, 1, 2]))]
        routes = {
            route.name: None if rng.random() < 0.15 and route.name not in CALLED else route.digest for route in chosen
        }
        self._note("operator", f"activates {routes}")
        self._promises.counts["activations"] += 1
        record = encode_activation(
            dict(routes),
            topics=self._topics,
            activation_id=self._fresh("activation"),
            by="ops",
            at_ms=self._clock.now_ms(),
        )
        self._send(*(encode_definition(route, self._topics) for route in chosen))
        self._send(record)

    def calm_down(self) -> None:
        """From here on everybody does right; what is stuck is looked after until all is done."""
        self.is_calm = True
        self._sweep()

    def _is_time_for(self, approval: str) -> bool:
        """People don't answer again while their first answer may be on its way."""
        now_s = asyncio.get_running_loop().time()
        is_time = now_s >= self._answer_again_s.get(approval, 0.0)
        if is_time:
            self._answer_again_s[approval] = now_s + 8 * _SWEEP_S
        return is_time

    def _sweep(self) -> None:
        for workflow in list(self._promises.workflows()):
            if workflow.status != "running":
                continue
            if any(step.status == "incident" for step in workflow.steps.values()):
                self._command("retry", workflow.workflow_id)
            for step in workflow.steps.values():
                if step.status == "asking" and self._is_time_for(step.task_id):
                    self._answer(step.task_id, "ben", "approve")
        self._later(_SWEEP_S, self._sweep)


def _until(end_s: float, every_s: float) -> Iterator[float]:
    """0 and each further `every_s`, up to `end_s`."""
    return takewhile(lambda at_s: at_s <= end_s, count(0.0, every_s))


def workflows_of(record: Record, index: RouteIndex) -> set[str] | None:
    """The workflows that a record of the events' topic starts; None where it must become a dead letter."""
    try:
        return {match.workflow_id for match in index.match(from_record(record)) if isinstance(match, Match)}
    except MalformedRecord:
        return None
