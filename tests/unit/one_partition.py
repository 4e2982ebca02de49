"""One partition's owner without a broker, for tests of the core.

Inputs go in, decisions go into a log of bytes, and the state after them is kept.
"""

from collections import deque
from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import msgspec

from mesh.codec.log import decode_log_record, encode_decision, encode_owner_changed
from mesh.codec.state import canonical_workflow, decode_meta, decode_workflow, encode_meta, encode_workflow
from mesh.core import ids
from mesh.core import inputs as inp
from mesh.core.crossings import Crossing, crossings
from mesh.core.decide import Decided, decide
from mesh.core.effects import Effect, SendInput, effects
from mesh.core.events import Cause, Decision, Event, LogRecord, OwnerChanged, TasksWithdrawn
from mesh.core.forks import Fork
from mesh.core.pauses import paused_by
from mesh.core.replay import PartitionFold, replay, settle
from mesh.core.route import Route
from mesh.core.state import AgentCard, Directory, PartitionState, StepState, Workflow
from mesh.core.tool_approvals import Wanted
from mesh.ports import OutRecord, Record
from mesh.routes.compiler import compile_route
from mesh.services.router.releasing import Releasing
from mesh.services.router.timers import rate_due_at_ms

START_MS = 1_763_900_000_000
SOURCE = "/orders"
PEOPLE = Directory(
    roles={"ana": frozenset({"maintainer"}), "bo": frozenset({"reader"})},
    agents={
        "drafter": AgentCard(
            name="drafter",
            version="1",
            topic="mesh.tasks.drafter",
            output_schema={"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        )
    },
)

_E = TypeVar("_E")


def agent(name: str = "x", value: Any = 1, **more: Any) -> dict[str, Any]:
    return {"agent": name, "input": value, **more}


def approval(**more: Any) -> dict[str, Any]:
    """An approval step; what belongs to the step and not to the question is taken out of it."""
    step: dict[str, Any] = {key: more.pop(key) for key in ("needs", "if", "repeat") if key in more}
    return {**step, "approval": {"ask": "Good?", "payload": {"n": 1}, "role": "maintainer", **more}}


def calling(name: str = "sub", value: Any = "${{ event.data }}", **more: Any) -> dict[str, Any]:
    return {"workflow": name, "input": value, **more}


def called_route(steps: dict[str, Any], name: str = "sub", **more: Any) -> Route:
    """No event starts it."""
    return compile_route({"route": name, "steps": steps, **more})


def route(steps: dict[str, Any], **more: Any) -> Route:
    name = more.pop("route", "r")
    return compile_route({"route": name, "on": {"type": "t"}, "key": "${{ event.subject }}", "steps": steps, **more})


def scheduled(steps: dict[str, Any], cron: str, timezone: str = "UTC", **more: Any) -> Route:
    """It starts by itself."""
    return compile_route({"route": "r", "on": {"schedule": cron, "timezone": timezone}, "steps": steps, **more})


def as_record(out: OutRecord, offset: int) -> Record:
    return Record(out.topic, out.partition or 0, offset, START_MS, out.key, out.value, out.headers)


def as_saved(state: PartitionState) -> PartitionState:
    """The state as a checkpoint gives it back."""
    workflows = {name: decode_workflow(encode_workflow(one)) for name, one in state.workflows.items()}
    return decode_meta(encode_meta(state)).state(workflows)


def only(found: Sequence[object], kind: type[_E]) -> _E:
    """The one value of this kind."""
    [one] = [value for value in found if isinstance(value, kind)]
    return one


def names(events: Sequence[Event]) -> list[str]:
    """Without what follows of itself: which attempts are not wanted any more."""
    return [type(event).__name__ for event in events if not isinstance(event, TasksWithdrawn)]


_SLOT_KINDS: dict[type, str] = {
    inp.SlotWanted: "slot_wanted",
    inp.SlotGiven: "slot_given",
    inp.SlotReturned: "slot_returned",
    inp.SlotDenied: "slot_denied",
}


class Partition:
    """`give` decides one input, as the router's owner does, and writes the decision down.

    All other methods make inputs for it.
    """

    def __init__(self, *routes: Route, directory: Directory = PEOPLE) -> None:
        self.routes = {one.digest: one for one in routes}
        newest = {one.name: one.digest for one in routes}
        self.directory = msgspec.structs.replace(directory, routes=newest)
        self.state = PartitionState()
        self.now_ms = START_MS
        self.log: list[OutRecord] = []
        self.decisions: list[Decision] = []
        self.read = {"mesh.inbox": 0, "mesh.results": 0}
        self.sources = {"mesh.events": 0, "mesh.approvals.responses": 0, "mesh.commands": 0}
        self.token = ""
        self.follower = PartitionFold(0)
        self.take_over("one")

    # The owner ------------------------------------------------------------------------------------

    def take_over(self, token: str) -> None:
        self.token = token
        change = OwnerChanged(token=token, owner=f"router-{token}", partitions=1, format_level=1, at_ms=self.now_ms)
        self._append(encode_owner_changed(change, topic="mesh.log", partition=0))

    def give(self, given: inp.Input) -> tuple[Event, ...]:
        workflow = self.state.workflows.get(given.workflow_id)
        decided = decide(
            workflow,
            given,
            route=self.route_for(given, workflow),
            directory=self.directory,
            now_ms=self.now_ms,
            target=self.routes.get(given.to) if isinstance(given, inp.CommandGiven) else None,
            pauses=paused_by(self.state.workflows.get(ids.PAUSES)),
        )
        if decided.events or not isinstance(given, inp.TimerDue):
            self._write(given, decided)
        return decided.events

    def route_for(self, given: inp.Input, workflow: Workflow | None) -> Route | None:
        """As little as the router gives: none where the workflow is not live."""
        if isinstance(given, inp.EventMatched | inp.WorkflowCalled | inp.ScheduledStart):
            return self.routes[given.digest]
        if workflow and workflow.status == "running":
            return self.routes[workflow.digest]
        return self.routes[given.digest] if isinstance(given, inp.EventOffered) else None

    def _write(self, given: inp.Input, decided: Decided) -> None:
        cause = self.cause_of(given)
        if cause.topic:
            self.read[cause.topic] += 1
        decision = Decision(
            epoch=self.token,
            workflow_id=given.workflow_id,
            at_ms=self.now_ms,
            cause=cause,
            positions=dict(self.read),
            mark=len(self.log),
            events=decided.events,
            sequence=self.state.sequence if crossings(decided.events) else 0,
        )
        self.decisions.append(decision)
        settle(self.state, decision, decided.workflow)
        self._append(encode_decision(decision, topic="mesh.log", partition=0))

    def _append(self, out: OutRecord) -> None:
        """Who reads the log up to here has the very state that the next input is decided on."""
        offset = len(self.log)
        self.log.append(out)
        self.follower.apply(offset, decode_log_record(as_record(out, offset)))
        assert self.follower.state == self.state

    def cause_of(self, given: inp.Input) -> Cause:
        match given:
            case inp.ResultReceived():
                name = ids.attempt_id(given.task_id, given.attempt)
                return Cause(
                    kind="result", id=name, topic="mesh.results", partition=0, offset=self.read["mesh.results"]
                )
            case inp.TimerDue():
                return Cause(kind="timer", id=f"{given.workflow_id}/{given.kind}/{given.due_at_ms}")
            case inp.TaskUndeliverable():
                return Cause(kind="undeliverable", id=ids.attempt_id(given.task_id, given.attempt))
            case inp.Undeliverable():
                return Cause(kind="undeliverable", id=given.effect_id)
            case inp.EventMatched() | inp.EventOffered():
                kind, name = "event", str(given.cloud_event["id"])
            case inp.AnswerGiven() | inp.AnswerGiven2() | inp.AnswerUnreadable():
                kind, name = "answer", given.answer_id
            case inp.CommandGiven() | inp.CommandUnreadable():
                kind, name = "command", given.command_id
            case inp.WorkflowCalled():
                kind, name = "call", str(given.cloud_event["id"])
            case inp.CallEnded():
                kind, name = "call_ended", ids.attempt_id(given.task_id, given.attempt)
            case inp.CallCancelled():
                kind, name = "call_cancelled", ids.attempt_id(given.caller.task_id, given.caller.attempt)
            case inp.SlotWanted() | inp.SlotGiven() | inp.SlotReturned() | inp.SlotDenied():
                kind, name = _SLOT_KINDS[type(given)], ids.attempt_id(given.task_id, given.attempt)
            case _:
                kind, name = _cause_of_built_in(given)
        return Cause(
            kind=kind,
            id=name,
            topic="mesh.inbox",
            partition=0,
            offset=self.read["mesh.inbox"],
            at_ms=given.source_at_ms,
            source_topic=given.source_topic,
            source_partition=given.source_partition,
            source_offset=given.source_offset,
            source_index=given.source_index,
            receipt_by_place=kind in {"answer", "command"},
        )

    # What there is to see -------------------------------------------------------------------------

    def workflow(self, key: str = "k") -> Workflow:
        return self.state.workflows[self.id_of(key)]

    def step(self, name: str, key: str = "k") -> StepState:
        return self.workflow(key).steps[name]

    def effects(self) -> list[Effect]:
        """Of the last decision."""
        return effects(self.decisions[-1])

    def crossing(self) -> list[Crossing]:
        """What the last decision tells other workflows, as the receiver gets it.

        This partition's own log is its source.
        """
        told = [effect.input for effect in self.effects() if isinstance(effect, SendInput)]
        return [msgspec.structs.replace(one, source_topic="mesh.log", source_partition=0) for one in told]

    def pass_on(self) -> None:
        """Give what the last decision tells other workflows.

        Then give what that makes them tell others, as long as there is anything.
        """
        for one in self.crossing():
            self.give(one)
            self.pass_on()

    def deliver(self) -> None:
        """The same, in the order in which it was sent."""
        todo = deque(self.crossing())
        while todo:
            self.give(todo.popleft())
            todo.extend(self.crossing())

    def records(self) -> list[tuple[int, LogRecord]]:
        """The log, read back from its bytes."""
        return [(offset, decode_log_record(as_record(out, offset))) for offset, out in enumerate(self.log)]

    def check_replay(self) -> None:
        """The log gives the very state that was decided on.

        It does so from its first record, and from a fold on the way.
        """
        records = self.records()
        check_equal(replay(records), self.state)
        half = PartitionFold(0)
        for offset, record in records[: len(records) // 2]:
            half.apply(offset, record)
        resumed = PartitionFold(
            0,
            state=as_saved(half.state),
            epochs=half.epochs,
            next_offset=half.next_offset,
        )
        for offset, record in records[half.next_offset :]:
            resumed.apply(offset, record)
        check_equal(resumed.state, self.state)

    # Inputs ---------------------------------------------------------------------------------------

    def id_of(self, key: str = "k") -> str:
        """The id of the first route's workflow with this key; a whole id is given back as it is."""
        return key if ":" in key else ids.workflow_id(next(iter(self.routes.values())).name, key)

    def _inbox(self, topic: str, at_ms: int | None) -> dict[str, Any]:
        self.sources[topic] += 1
        offset = self.sources[topic] - 1
        at_ms = self.now_ms if at_ms is None else at_ms
        return {"source_topic": topic, "source_partition": 0, "source_offset": offset, "source_at_ms": at_ms}

    def start(self, key: str = "k", *, event_id: str = "e1", data: Any = None, **extension: str) -> tuple[Event, ...]:
        """An event for the first route that was given; `digest` names another version."""
        digest = extension.pop("digest", next(iter(self.routes)))
        event = {"specversion": "1.0", "id": event_id, "source": SOURCE, "type": "t", "subject": key}
        return self.give(
            inp.EventMatched(
                workflow_id=self.id_of(key),
                route=self.routes[digest].name,
                digest=digest,
                key=key,
                cloud_event={**event, **extension, "data": data},
                **self._inbox("mesh.events", None),
            )
        )

    def offer(
        self,
        kind: str,
        key: str = "k",
        *,
        event_id: str = "o1",
        data: Any = None,
        at_ms: int | None = None,
        **attributes: str,
    ) -> tuple[Event, ...]:
        """Offer an event that a step of this workflow may wait for.

        `at_ms`: when the broker took it; now without it.
        """
        event = {"specversion": "1.0", "id": event_id, "source": SOURCE, "type": kind, **attributes, "data": data}
        first = next(iter(self.routes.values()))
        return self.give(
            inp.EventOffered(
                workflow_id=self.id_of(key),
                route=first.name,
                digest=first.digest,
                key=key,
                cloud_event=event,
                **self._inbox("mesh.events", at_ms),
            )
        )

    def task_id(self, step: str, key: str = "k") -> str:
        """Of what is under way at this place, or was last; before it begins, of its first round."""
        state = self.workflow(key).steps.get(step)
        if state is not None and state.task_id:
            return state.task_id
        return ids.task_id(self.id_of(key), self.workflow(key).run_id, step)

    def succeed(
        self,
        step: str,
        output: Any = "done",
        *,
        attempt: int = 0,
        key: str = "k",
        usage: dict[str, float] | None = None,
    ) -> tuple[Event, ...]:
        """`attempt` 0: the newest."""
        return self.give(
            inp.ResultReceived(
                task_id=self.task_id(step, key),
                attempt=attempt or self.step(step, key).attempt,
                workflow_id=self.id_of(key),
                status="succeeded",
                output=output,
                agent_version="1.0",
                agent_instance="host-1",
                duration_ms=12.5,
                usage=usage or {"tokens": 7.0},
            )
        )

    def hand_over(self, step: str, to: str, value: Any = None, *, key: str = "k") -> tuple[Event, ...]:
        return self.give(
            inp.ResultReceived(
                task_id=self.task_id(step, key),
                attempt=self.step(step, key).attempt,
                workflow_id=self.id_of(key),
                status="handed_over",
                handover=inp.HandOver(to=to, input=value),
            )
        )

    def want(
        self,
        step: str,
        name: str = "pay",
        payload: Any = None,
        *,
        question: str = "May I?",
        payload_schema: dict[str, Any] | None = None,
        key: str = "k",
        usage: dict[str, float] | None = None,
    ) -> tuple[Event, ...]:
        """The step's agent wants a call approved."""
        return self.give(
            inp.ResultReceived(
                task_id=self.task_id(step, key),
                attempt=self.step(step, key).attempt,
                workflow_id=self.id_of(key),
                status="approval_wanted",
                approval=Wanted(name=name, question=question, payload=payload, payload_schema=payload_schema),
                agent_version="1.0",
                agent_instance="host-1",
                usage=usage,
            )
        )

    def fail(
        self, step: str, *, kind: str = "Boom", retryable: bool = True, attempt: int = 0, key: str = "k"
    ) -> tuple[Event, ...]:
        return self.give(
            inp.ResultReceived(
                task_id=self.task_id(step, key),
                attempt=attempt or self.step(step, key).attempt,
                workflow_id=self.id_of(key),
                status="failed",
                error=inp.TaskError(kind=kind, message="it broke", retryable=retryable),
            )
        )

    def interrupt(self, step: str, *, by: str = "host-1", key: str = "k") -> tuple[Event, ...]:
        """Report that the process `by` died over the attempt under way."""
        return self.give(
            inp.ResultReceived(
                task_id=self.task_id(step, key),
                attempt=self.step(step, key).attempt,
                workflow_id=self.id_of(key),
                status="interrupted",
                agent_instance=by,
            )
        )

    def answer(
        self,
        step: str = "review",
        decision: Literal["approve", "reject"] = "approve",
        *,
        by: str = "ana",
        key: str = "k",
        at_ms: int | None = None,
        approval_id: str | None = None,
        **more: Any,
    ) -> tuple[Event, ...]:
        source = self._inbox("mesh.approvals.responses", at_ms)
        return self.give(
            inp.AnswerGiven(
                workflow_id=self.id_of(key),
                approval_id=approval_id or self.task_id(step, key),
                answer_id=f"mesh.approvals.responses/0/{source['source_offset']}",
                decision=decision,
                by=by,
                **more,
                **source,
            )
        )

    def vote(
        self,
        by: str,
        decision: inp.AnswerKind = "approve",
        *,
        step: str = "review",
        key: str = "k",
        at_ms: int | None = None,
        **more: Any,
    ) -> tuple[Event, ...]:
        """An answer to an approval of version 2, to the payload as it is now.

        With a `proof` it is signed, and its owner has checked that.
        """
        source = self._inbox("mesh.approvals.responses", at_ms)
        state = self.workflow(key).steps[step]
        said = {"answer_id": f"answer-{source['source_offset']}", "digest": state.digest, "approval_id": state.task_id}
        kind = inp.CheckedAnswer if "proof" in more else inp.AnswerGiven2
        return self.give(kind(workflow_id=self.id_of(key), decision=decision, by=by, **{**said, **more}, **source))

    def say(self, by: str, decision: inp.PersonalKind, **more: Any) -> tuple[Event, ...]:
        """Something that a person says of themself."""
        source = self._inbox("mesh.approvals.responses", None)
        said: dict[str, Any] = {"answer_id": f"answer-{source['source_offset']}", "approval_id": ""}
        return self.give(
            inp.AnswerGiven2(workflow_id=ids.person_id(by), decision=decision, by=by, **said, **more, **source)
        )

    def order(
        self,
        command: Literal["extend", "reassign", "void"],
        *,
        step: str = "review",
        key: str = "k",
        at_ms: int | None = None,
        approval_id: str = "",
        **about: Any,
    ) -> tuple[Event, ...]:
        """An operator's order about the step's approval."""
        source = self._inbox("mesh.commands", at_ms)
        return self.give(
            inp.CommandGiven(
                workflow_id=self.id_of(key),
                command_id=f"c{source['source_offset']}",
                command=command,
                by="op",
                order=inp.ApprovalOrder(approval_id=approval_id or self.task_id(step, key), **about),
                **source,
            )
        )

    def pause(self, target: str, command: Literal["pause", "resume"] = "pause") -> tuple[Event, ...]:
        """Pause or resume an agent or a route (`mesh.core.pauses`)."""
        source = self._inbox("mesh.commands", None)
        return self.give(
            inp.CommandGiven(
                workflow_id=ids.PAUSES,
                command_id=f"c{source['source_offset']}",
                command=command,
                by="op",
                reason="look first",
                target=target,
                **source,
            )
        )

    def release(self) -> list[Event]:
        """Let all go on that lifted pauses had held, as the owner does.

        What that makes workflows tell each other is passed on.
        """
        releasing = Releasing()
        releasing.begin(self.state.workflows[ids.PAUSES], self.state.workflows.values(), self.now_ms)
        found: list[Event] = []
        while (due_ms := releasing.next_due_at_ms()) is not None:
            self.now_ms = max(self.now_ms, due_ms)
            for timer in releasing.pop_due(due_ms, limit=100):
                found += self.give(timer)
                self.pass_on()
        return found

    def command(
        self,
        command: Literal["cancel", "retry", "skip", "fail", "complete", "pause", "resume", "fork", "erase"],
        *,
        step: str | None = None,
        key: str = "k",
        reason: str = "",
        task_input: Any = msgspec.UNSET,
        output: Any = msgspec.UNSET,
        operation: str = "",
        keys: tuple[str, ...] = (),
    ) -> tuple[Event, ...]:
        source = self._inbox("mesh.commands", None)
        return self.give(
            inp.CommandGiven(
                workflow_id=self.id_of(key),
                command_id=f"c{source['source_offset']}",
                command=command,
                by="op",
                reason=reason,
                step=step,
                task_input=task_input,
                output=output,
                operation=operation,
                keys=keys,
                **source,
            )
        )

    def fork(
        self,
        key: str,
        step: str,
        about: Fork,
        *,
        to: Route | None = None,
        task_input: Any = msgspec.UNSET,
        operation: str = "",
    ) -> tuple[Event, ...]:
        """Order a fork, or (`about.into`) tell of one."""
        source = self._inbox("mesh.commands", None)
        return self.give(
            inp.CommandGiven(
                workflow_id=self.id_of(key),
                command_id=f"c{source['source_offset']}",
                command="fork",
                by="op",
                reason="another price",
                step=step,
                to="" if to is None else to.digest,
                task_input=task_input,
                fork=about,
                operation=operation,
                **source,
            )
        )

    def migrate(self, to: Route | str, *, key: str = "k") -> tuple[Event, ...]:
        """Order the workflow to go over to another version.

        `to`: a route that was given to the partition, or a digest.
        """
        source = self._inbox("mesh.commands", None)
        return self.give(
            inp.CommandGiven(
                workflow_id=self.id_of(key),
                command_id=f"c{source['source_offset']}",
                command="migrate",
                by="op",
                to=to if isinstance(to, str) else to.digest,
                **source,
            )
        )

    def rate(self, limiter: str) -> tuple[Event, ...]:
        """Let time pass until one more is within the limiter's rate, and tell it so."""
        due = rate_due_at_ms(self.workflow(limiter))
        assert due is not None
        self.now_ms = max(self.now_ms, due)
        return self.give(inp.TimerDue(due_at_ms=due, workflow_id=limiter, kind="rate"))

    def wait(self, step: str = "", key: str = "k") -> tuple[Event, ...]:
        """Let time pass until the step's own time has come, and give the timer to it.

        Without a step: until the workflow is due to be forgotten.
        """
        workflow = self.workflow(key)
        due = workflow.steps[step].due_at_ms if step else workflow.forget_at_ms
        assert due is not None
        self.now_ms = max(self.now_ms, due)
        kinds: dict[str, inp.TimerKind] = {
            "running": "task_timeout",
            "retrying": "retry",
            "asking": "approval_deadline",
            "calling": "call_timeout",
            "waiting": "event_timeout" if step and workflow.steps[step].awaits else "wait",
            "iterating": "portion",
        }
        kind = kinds[workflow.steps[step].status] if step else "forget"
        return self.give(
            inp.TimerDue(due_at_ms=due, workflow_id=self.id_of(key), kind=kind, step=step, run_id=workflow.run_id)
        )

    def wait_budget(self, key: str = "k") -> tuple[Event, ...]:
        """Let time pass until the budget's time is over, and tell it so."""
        workflow = self.workflow(key)
        due = workflow.expires_at_ms
        assert due is not None
        self.now_ms = max(self.now_ms, due)
        return self.give(
            inp.TimerDue(due_at_ms=due, workflow_id=self.id_of(key), kind="budget_time", run_id=workflow.run_id)
        )

    def fall_silent(
        self, step: str, kind: inp.TimerKind, due_ms: int | None = None, key: str = "k"
    ) -> tuple[Event, ...]:
        """The owner has heard no sign of life in time.

        `due_ms` is counted from the dispatch; by default it is one whole period.
        """
        workflow, state = self.workflow(key), self.step(step, key)
        if due_ms is None:
            period_s = state.periods.of(kind) if state.periods else None
            assert period_s is not None
            due_ms = int(period_s * 1000)
        due = state.since_ms + due_ms
        self.now_ms = max(self.now_ms, due)
        timer = inp.TimerDue(due_at_ms=due, workflow_id=self.id_of(key), kind=kind, step=step, run_id=workflow.run_id)
        return self.give(timer)

    def set_schedule(
        self, *, digest: str = "", since_ms: int | None = None, by: str = "router-one"
    ) -> tuple[Event, ...]:
        """A router tells of the schedule of the first route, or of another version of it."""
        digest = digest or next(iter(self.routes))
        told = self.routes[digest]
        source = self._inbox("mesh.commands", None)
        return self.give(
            inp.ScheduleSet(
                workflow_id=ids.schedule_id(told.name),
                set_id=f"set-{source['source_offset']}",
                route=told.name,
                digest=digest,
                schedule=told.on.schedule if told.on else None,
                since_ms=self.now_ms if since_ms is None else since_ms,
                by=by,
                **source,
            )
        )

    def fire(self, route: str = "r", *, late_ms: int = 0) -> tuple[Event, ...]:
        """Let time pass until the schedule's next time has come, and some more, and tell it so."""
        name = ids.schedule_id(route)
        plan = self.state.workflows[name].plan
        assert plan is not None
        assert plan.next_at_ms is not None
        self.now_ms = max(self.now_ms, plan.next_at_ms + late_ms)
        return self.give(inp.TimerDue(due_at_ms=plan.next_at_ms, workflow_id=name, kind="schedule"))

    def offer_by_alias(
        self, kind: str, name: str, value: str, *, event_id: str = "o1", data: Any = None, digest: str = ""
    ) -> tuple[Event, ...]:
        """An event for whichever workflow of the first route, or of another, has this alias."""
        event = {"specversion": "1.0", "id": event_id, "source": SOURCE, "type": kind, "data": data}
        first = self.routes[digest or next(iter(self.routes))]
        return self.give(
            inp.EventOffered(
                workflow_id=ids.alias_id(first.name, name, value),
                route=first.name,
                digest=first.digest,
                key=value,
                cloud_event=event,
                **self._inbox("mesh.events", None),
            )
        )


def _cause_of_built_in(
    given: inp.ScheduleSet
    | inp.ScheduledStart
    | inp.AliasClaimed
    | inp.AliasAnswered
    | inp.AliasReleased
    | inp.EventForwarded,
) -> tuple[str, str]:
    match given:
        case inp.ScheduledStart():
            return "scheduled_start", str(given.cloud_event["id"])
        case inp.ScheduleSet():
            return "schedule", given.set_id
        case inp.EventForwarded():
            return "forwarded_event", str(given.kept.cloud_event["id"])
        case inp.AliasClaimed():
            return "claim", ids.attempt_id(given.claimant.task_id, given.claimant.attempt)
        case inp.AliasAnswered():
            return "claim_answered", ids.attempt_id(given.claimant.task_id, given.claimant.attempt)
        case inp.AliasReleased():
            return "alias_released", f"{given.claimant}/{given.run_id}"


def check_equal(one: PartitionState, other: PartitionState) -> None:
    assert one.workflows.keys() == other.workflows.keys()
    for name, workflow in one.workflows.items():
        assert workflow == other.workflows[name]
        assert canonical_workflow(workflow) == canonical_workflow(other.workflows[name])
    assert (one.positions, one.watermarks) == (other.positions, other.watermarks)
    assert (one.mark, one.sequence) == (other.mark, other.sequence)


class Quick(Partition):
    """For large states: it does not compare the state with the log's fold after each decision."""

    def _append(self, out: OutRecord) -> None:
        self.log.append(out)
