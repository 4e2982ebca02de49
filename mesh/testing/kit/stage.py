"""The stage: reads what a mesh writes, lets the cast play, and keeps what happened.

Owns what a test can see. It is outside of the mesh, and must reach it by the broker's port alone.
It reads the log, the tasks and what people are sent. It writes results, answers, events and
commands, as agents, people and upstream systems do. So it is the same on every broker.

Order: tasks of one workflow are answered in the order in which the log dispatched them, whatever
order their topics deliver them in, so that one test always gives the same log. (Async agents, and
replies that come later, keep no such order.) Across workflows there is only the broker's order.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine, Iterator, Mapping
from math import inf
from typing import Any, Final, Protocol

import msgspec
from msgspec.structs import replace

from mesh import defaults
from mesh.codec.approvals import ApprovalRequest, Personal, Receipt, decode_receipt, decode_request, encode_response
from mesh.codec.cards import encode_card
from mesh.codec.log import decode_log_record
from mesh.codec.outcomes import Outcome, decode_outcome
from mesh.codec.tasks import Task, decode_task, encode_result, encode_sign
from mesh.core.effects import AskApproval, PublishOutcome, SendTask, effects
from mesh.core.events import Decision, WorkflowEnded, WorkflowStarted
from mesh.core.evolve import evolve
from mesh.core.ids import attempt_id
from mesh.core.inputs import HandOver, PersonalKind, TaskError
from mesh.core.replay import PartitionFold
from mesh.core.state import FINISHED, AgentCard, Workflow
from mesh.core.tool_approvals import Wanted
from mesh.core.topics import Topics
from mesh.ports import Broker, Clock, OutRecord, Reader, Record, TopicPartition, TopicSpec
from mesh.services.agent_runtime.call import Answer as Made
from mesh.services.agent_runtime.cards import card_of, registration_of
from mesh.services.agent_runtime.limits import too_large
from mesh.services.agent_runtime.replies import fits
from mesh.services.vault import Vault
from mesh.testing.kit.cast import PlayedAgent, PlayedPerson, Question
from mesh.testing.kit.errors import KitError, is_for_the_test, unknown
from mesh.testing.kit.scripts import Answer, Reply, Silence, Works
from mesh.testing.transcript import stand

__tracebackhide__ = is_for_the_test

_POLL_S: Final = 5.0
_TASK_PARTITIONS: Final = defaults.TASK_PARTITIONS
_CARD_LASTS_S: Final = 10 * 365 * 86_400.0


class Heard(msgspec.Struct, frozen=True):
    """A decision as the log has it, and the state of its workflow then.

    `act`: the number of the test's act that it followed.
    """

    decision: Decision
    stand: str
    act: int


class _Spawn(Protocol):
    def __call__(self, coroutine: Coroutine[Any, Any, None], /) -> asyncio.Task[None]: ...


class Stage:
    """The stage of one test. `broker`: a connection of its own.

    `spawn` starts what takes time. Errors in here are kept in `faults`, for the test.
    """

    def __init__(self, broker: Broker, topics: Topics, clock: Clock, spawn: _Spawn) -> None:
        self.faults: list[BaseException] = []
        self.agents: dict[str, PlayedAgent] = {}
        self.people: dict[str, PlayedPerson] = {}
        self.heard: list[Heard] = []
        self.act = 0
        self.receipts: dict[str, Receipt] = {}  # by answer
        self.receipt_records: list[Record] = []  # of answers and of commands, as they came
        self.outcomes: dict[tuple[str, str], Outcome] = {}  # by workflow and run
        self.questions: dict[str, Question] = {}  # by approval
        # approvals that scripts will answer, once for each answer
        self.promised: list[str] = []
        self.positions: dict[TopicPartition, int] = {}
        self._vault = Vault(broker, topics)
        # by workflow and run: what expressions see as `steps`
        self.outputs: dict[tuple[str, str], dict[str, Any]] = {}
        self.published: dict[str, Mapping[str, Any]] = {}
        self.topics = topics
        self.broker = broker
        self._clock = clock
        self._spawn = spawn
        self._folds: dict[int, PartitionFold] = {}
        # attempts to answer, by workflow, in the log's order
        self._queues: dict[str, deque[str]] = defaultdict(deque)
        self._tasks: dict[str, Task] = {}  # that have arrived
        self._arrived_at_ms: dict[str, int] = {}  # when the broker took them
        self._serving: set[str] = set()
        self._requests: dict[str, ApprovalRequest] = {}
        # what the log says has been sent, and has not arrived
        self._owed: set[tuple[str, str]] = set()
        self._arrived: set[tuple[str, str]] = set()
        self._numbers: dict[str, int] = defaultdict(int)
        self._reader: Reader | None = None
        self._on: dict[str, Callable[[Record], None]] = {
            topics.log: self._on_log,
            topics.requests: self._on_request,
            topics.receipts: self._on_receipt,
            topics.command_receipts: self.receipt_records.append,
            topics.outcomes: self._on_outcome,
        }

    # Reading --------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Create the agents' topics, send their cards, and start to read what the mesh writes."""
        agents = [self.topics.tasks(name) for name in self.agents]
        await self.broker.create_topics([TopicSpec(topic, _TASK_PARTITIONS) for topic in agents])
        await self.send([encode_card(card, topics=self.topics) for card in self._cards()])
        there = await self.broker.topics()
        for topic in (*self._on, *agents):
            for number in range(there[topic].partitions):
                self.positions.setdefault(TopicPartition(topic, number), 0)

    def _cards(self) -> Iterator[AgentCard]:
        """The cards of those agents of which the mesh must know more than the name.

        A real agent's card has the form of its output. Cards also go out for agents with
        capabilities (with their registrations) and for those that limit how many tasks they want.
        """
        for played in self.agents.values():
            if played.real is None and not played.capabilities and played.max_outstanding is None:
                continue
            card = replace(self._card(played), capabilities=played.capabilities, max_outstanding=played.max_outstanding)
            yield card
            if played.capabilities:
                yield registration_of(card)

    def _card(self, played: PlayedAgent) -> AgentCard:
        """A card that lasts longer than any test."""
        if played.real is None:
            topic = self.topics.tasks(played.name)
            return AgentCard(
                name=played.name, version="test", topic=topic, instance="test", expires_after_s=_CARD_LASTS_S
            )
        now_ms = self._clock.now_ms()
        return card_of(played.real, topics=self.topics, instance="test", now_ms=now_ms, expires_after_s=_CARD_LASTS_S)

    async def watch(self) -> None:
        """Read without end, from where the last reading stopped."""
        reader = await self.broker.reader()
        try:
            reader.assign(self.positions)
            while True:
                for record in await self._vault.open(await reader.poll(max_records=500, timeout_s=_POLL_S)):
                    self._take(record)
        finally:
            await reader.close()

    def _take(self, record: Record) -> None:
        self.positions[TopicPartition(record.topic, record.partition)] = record.offset + 1
        try:
            self._on.get(record.topic, self._on_task)(record)
        except Exception as error:  # noqa: BLE001 - the test must hear of it, whatever it is
            self.faults.append(error)

    def _on_log(self, record: Record) -> None:
        fold = self._folds.setdefault(record.partition, PartitionFold(record.partition))
        logged = decode_log_record(record)
        before = fold.state.workflows.get(logged.workflow_id) if isinstance(logged, Decision) else None
        # inert decisions and mere marks are nothing that a test should see
        if not fold.apply(record.offset, logged) or not isinstance(logged, Decision) or not logged.events:
            return
        workflow = fold.state.workflows.get(logged.workflow_id)
        self.heard.append(Heard(logged, stand(workflow), self.act))
        self._keep_outputs(before, logged)
        for effect in effects(logged):
            match effect:
                case SendTask():
                    attempt = attempt_id(effect.task_id, effect.attempt)
                    self._check_agent(effect)
                    self._owe("task", attempt)
                    self._queues[logged.workflow_id].append(attempt)
                    self._go_on(logged.workflow_id)
                case AskApproval():
                    self._owe("question", effect.approval_id)
                    self._ask(effect.approval_id)
                case PublishOutcome():
                    self._owe("outcome", f"{logged.workflow_id}/{effect.run_id}")
                case _:
                    pass

    def _keep_outputs(self, workflow: Workflow | None, decision: Decision) -> None:
        """Keep the outputs of the steps as they were before the end, which drops all payloads."""
        for event in decision.events:
            if isinstance(event, WorkflowEnded):
                break
            workflow = evolve(workflow, event, workflow_id=decision.workflow_id, at_ms=decision.at_ms)
        if workflow is not None and workflow.status == "running":
            self.outputs[workflow.workflow_id, workflow.run_id] = {
                name: step.output for name, step in workflow.steps.items() if step.status in FINISHED
            }

    def _check_agent(self, task: SendTask) -> None:
        if task.agent not in self.agents:
            raise KitError(
                f"{task.workflow_id} has its step {task.step} for "
                + unknown("the agent", task.agent, list(self.agents))
                + f", and nobody plays it: mesh_kit.agent({task.agent!r}, ...) before the event is published"
            )

    def _owe(self, kind: str, name: str) -> None:
        if (kind, name) not in self._arrived:
            self._owed.add((kind, name))

    def _arrive(self, kind: str, name: str) -> bool:
        """Note that this is here. False if it was here before."""
        # it may come before the log's decision is read here, so both orders are noted
        self._owed.discard((kind, name))
        is_new = (kind, name) not in self._arrived
        self._arrived.add((kind, name))
        return is_new

    # What there is to see -------------------------------------------------------------------------

    def workflows(self) -> list[Workflow]:
        return [workflow for fold in self._folds.values() for workflow in fold.state.workflows.values()]

    def workflow(self, workflow_id: str) -> Workflow | None:
        return next((one for one in self.workflows() if one.workflow_id == workflow_id), None)

    def begun_by(self, event_id: str) -> dict[str, str]:
        """The workflows that this event came to, each with the run that it began or found there."""
        found: dict[str, str] = {}
        for decision in (heard.decision for heard in self.heard):
            if decision.cause.kind == "event" and decision.cause.id == event_id:
                workflow = self.workflow(decision.workflow_id)
                begun = [event.run_id for event in decision.events if isinstance(event, WorkflowStarted)]
                found.setdefault(decision.workflow_id, begun[0] if begun else workflow.run_id if workflow else "")
        return found

    def raise_fault(self) -> None:
        """Raise the first error from in here that was not raised yet."""
        if self.faults:
            raise self.faults.pop(0)

    def is_idle(self) -> bool:
        """Whether all that the log has sent is here, and everybody who can answer at once has."""
        return not self._owed and not self._serving and not any(self._queues.values())

    # Agents ---------------------------------------------------------------------------------------

    def _on_task(self, record: Record) -> None:
        task = decode_task(record)
        if self._arrive("task", task.attempt_id):
            self._tasks[task.attempt_id] = task
            self._arrived_at_ms[task.attempt_id] = record.timestamp_ms
            self._go_on(task.workflow_id)

    def _go_on(self, workflow_id: str) -> None:
        """Serve the workflow's tasks, if its next one is here and none is being served."""
        queue = self._queues[workflow_id]
        if queue and queue[0] in self._tasks and workflow_id not in self._serving:
            self._serving.add(workflow_id)
            self._spawn(self._serve(workflow_id))

    async def _serve(self, workflow_id: str) -> None:
        queue = self._queues[workflow_id]
        try:
            # in the log's order: a task that is here waits for those that were dispatched before it
            while queue and queue[0] in self._tasks:
                await self._begin(self._tasks.pop(queue.popleft()))
        except Exception as error:  # noqa: BLE001 - the test must hear of it, whatever it is
            self.faults.append(error)
        finally:
            self._serving.discard(workflow_id)
        self._go_on(workflow_id)

    async def _begin(self, task: Task) -> None:
        agent = self.agents[task.agent]
        reply = agent.next_reply(task)
        if isinstance(reply, Silence):
            return
        if isinstance(reply, Works):
            await self._say_begun(task)
            self._spawn(self._sign(task, reply.lives_s))
            return
        if reply.after_s or agent.is_slow(reply):
            await self._say_begun(task)
            self._spawn(self._reply_later(agent, task, reply))
        else:
            await self._reply(agent, task, reply)

    async def _reply_later(self, agent: PlayedAgent, task: Task, reply: Reply) -> None:
        signing = self._spawn(self._sign(task, inf))
        try:
            await asyncio.sleep(0.0 if isinstance(reply, Silence | Works) else reply.after_s)
            await self._reply(agent, task, reply)
        except Exception as error:  # noqa: BLE001 - the test must hear of it, whatever it is
            self.faults.append(error)
        finally:
            signing.cancel()

    async def _say_begun(self, task: Task) -> None:
        """Give the first sign of life, if the route asks for any: before time goes on."""
        if _period_s(task) is not None:
            await self._send_sign(task, 0.0, is_heartbeat=False)

    async def _sign(self, task: Task, lives_s: float) -> None:
        """Give further signs of life for `lives_s`, as the agents' runtime does.

        There are none unless the route asks for them, and they end when the task's time is over.
        """
        period_s = _period_s(task)
        if period_s is None:
            return
        lives_s = min(lives_s, (task.deadline_at - task.created_at).total_seconds())
        try:
            await self._sign_every(period_s / 3, task, lives_s)
        except Exception as error:  # noqa: BLE001 - the test must hear of it, whatever it is
            self.faults.append(error)

    async def _sign_every(self, every_s: float, task: Task, lives_s: float) -> None:
        now_s = asyncio.get_running_loop().time
        began_s, worked_s = now_s(), 0.0
        while True:
            await asyncio.sleep(every_s)
            # on a busy machine more has passed than was slept
            worked_s = max(worked_s + every_s, now_s() - began_s)
            if worked_s > lives_s:
                return
            await self._send_sign(task, worked_s, is_heartbeat=task.heartbeat_s is not None)

    async def _send_sign(self, task: Task, worked_s: float, *, is_heartbeat: bool) -> None:
        sign = encode_sign(
            task,
            "heartbeat" if is_heartbeat else "started",
            agent_version="test",
            agent_instance="test",
            duration_ms=worked_s * 1000,
        )
        await self.send([sign])

    async def _reply(self, agent: PlayedAgent, task: Task, reply: Reply) -> None:
        usage: dict[str, float] = {}
        arrived_ms = self._arrived_at_ms.get(task.attempt_id, 0)
        answer = await agent.answer(task, reply, usage, clock=self._clock, arrived_ms=arrived_ms)
        if answer is None:
            return
        result = _result(task, answer, usage)
        limit = self.broker.max_record_bytes
        if not isinstance(answer, TaskError) and not fits(result, answer, limit):
            result = _result(task, too_large(result.size_bytes(), limit), usage)
        await self.send([result])

    # People ---------------------------------------------------------------------------------------

    def _on_request(self, record: Record) -> None:
        request = decode_request(record)
        if self._arrive("question", request.approval_id):
            self._requests[request.approval_id] = request
            self._ask(request.approval_id)

    def _ask(self, approval_id: str) -> None:
        """Let people answer a question once it is both in the log and here."""
        request = self._requests.get(approval_id)
        step = self._step_asking(approval_id, request.workflow_id) if request else None
        if request is None or step is None or approval_id in self.questions:
            return
        question = Question(
            workflow_id=request.workflow_id,
            step=step,
            approval_id=approval_id,
            question=request.question,
            payload=request.payload,
            role=request.role,
            payload_schema=request.payload_schema,
            deadline_at=request.deadline_at,
            terms=request.terms,
        )
        self.questions[approval_id] = question
        for person in self.people.values():
            answer = person.next_answer(question) if person.may_answer(question) else None
            if answer is not None:
                self.promised.append(approval_id)
                self._spawn(self._answer_later(approval_id, person.name, answer))
                # the first answer is the verdict
                if question.terms is None:
                    return

    def _step_asking(self, approval_id: str, workflow_id: str) -> str | None:
        workflow = self.workflow(workflow_id)
        steps = workflow.steps.items() if workflow else ()
        return next((name for name, step in steps if step.task_id == approval_id), None)

    async def _answer_later(self, approval_id: str, by: str, answer: Answer) -> None:
        try:
            await asyncio.sleep(answer.after_s)
            await self.answer(approval_id, by, answer)
        except Exception as error:  # noqa: BLE001 - the test must hear of it, whatever it is
            self.faults.append(error)
        finally:
            self.promised.remove(approval_id)

    async def answer(self, approval_id: str, by: str, answer: Answer) -> str:
        """Send an answer. Returns its id, under which the receipt will come."""
        answer_id = self.fresh("answer")
        question = self.questions[approval_id]
        digest = answer.digest or None
        if question.terms is not None and digest is None:
            workflow = self.workflow(question.workflow_id)
            digest = workflow.steps[question.step].digest if workflow is not None else None
        record = encode_response(
            topics=self.topics,
            approval_id=approval_id,
            decision=answer.decision,
            by=by,
            answer_id=answer_id,
            at_ms=self._clock.now_ms(),
            digest=digest,
            reason=answer.reason,
            payload=answer.payload,
            choice=answer.choice,
            form=answer.form,
            text=answer.text,
            to=answer.to,
            question=answer.question,
            on_behalf=answer.on_behalf,
        )
        await self.send([record])
        return answer_id

    async def say(self, decision: PersonalKind, by: str, personal: Personal, to: str = "") -> str:
        """Send what a person says of themself. Returns its id, as `answer` does."""
        answer_id = self.fresh("answer")
        about: dict[str, Any] = {"by": by, "to": to, "personal": personal, "answer_id": answer_id}
        at_ms = self._clock.now_ms()
        record = encode_response(topics=self.topics, approval_id="", decision=decision, at_ms=at_ms, **about)
        await self.send([record])
        return answer_id

    def _on_receipt(self, record: Record) -> None:
        receipt = decode_receipt(record)
        self.receipt_records.append(record)
        if receipt.answer_id:
            self.receipts[receipt.answer_id] = receipt

    def _on_outcome(self, record: Record) -> None:
        outcome = decode_outcome(record)
        self._arrive("outcome", f"{outcome.workflow_id}/{outcome.run_id}")
        self.outcomes[outcome.workflow_id, outcome.run_id] = outcome

    # Writing --------------------------------------------------------------------------------------

    def fresh(self, what: str) -> str:
        self._numbers[what] += 1
        return f"{what}-{self._numbers[what]}"

    async def send(self, records: list[OutRecord]) -> None:
        failures = await self.broker.send(records)
        if failures:
            raise KitError(f"the broker takes no record for {records[failures[0].index].topic}: {failures[0].message}")

    def open_steps(self, workflow: Workflow) -> dict[str, Any]:
        return {name: step for name, step in workflow.steps.items() if step.status not in FINISHED}


def _period_s(task: Task) -> float | None:
    """How often the route wants a sign of life at least; None: it asks for none."""
    return task.heartbeat_s or task.start_timeout_s or task.run_timeout_s


def _result(task: Task, answer: Made, usage: dict[str, float]) -> OutRecord:
    return encode_result(
        task,
        output=answer if isinstance(answer, bytes) else None,
        error=answer if isinstance(answer, TaskError) else None,
        handover=answer if isinstance(answer, HandOver) else None,
        approval=answer if isinstance(answer, Wanted) else None,
        agent_version="test",
        agent_instance="test",
        duration_ms=0.0,
        usage=usage or None,
    )
