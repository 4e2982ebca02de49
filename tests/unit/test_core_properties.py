"""Whatever comes in, in whatever order: the promises of the core as properties of any route and any interleaving.

Results of any task that was ever sent (so late, repeated, of earlier runs and attempts), answers by anybody, timers early and stale, commands, undeliverable effects, and take-overs. `Partition` holds
after each decision that the log's bytes give the very state that was decided on.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace
from one_partition import Partition, agent, approval, as_record, called_route, calling, route

from mesh.codec.effects import effect_id
from mesh.codec.log import decode_log_record
from mesh.core.between import Crossing
from mesh.core.effects import AskApproval, Effect, PublishOutcome, SendInput, SendTask, effects
from mesh.core.events import (
    ApprovalClosed,
    ApprovalRequested,
    Decision,
    Event,
    TaskDispatched,
    TaskSucceeded,
    WorkflowEnded,
    WorkflowForgotten,
    WorkflowStarted,
)
from mesh.core.inputs import (
    CallCancelled,
    CallEnded,
    EventMatched,
    Input,
    ResultReceived,
    TaskError,
    TaskUndeliverable,
    TimerDue,
    TimerKind,
    Undeliverable,
    WorkflowCalled,
)
from mesh.core.replay import is_repeated
from mesh.core.route import Route
from mesh.core.route_compile import compile_route
from mesh.core.state import FINISHED

KEYS = ("k", "l")
SEEN: set[type] = set()
"""The events that draws have led to."""

UNDRAWN = frozenset(
    {"InputParked", "InputAttempted"}  # the owner's, not `decide`'s
    | {"TaskHandedOver", "TaskHeld", "BudgetRaised", "BudgetTimeOver", "StepGivenUp", "StepCancelled", "StepComputed"}
    | {"EventEmitted", "ForEachStarted", "PortionScheduled", "ForEachEnded", "RoundStarted", "CompensationStarted"}
    | {"WaitStarted", "WaitEnded", "EventReceived", "EventKept", "EventUnclaimed"}
    | {"AliasSought", "AliasGranted", "AliasWaived", "AliasReturned", "AliasBound", "AliasRefused", "EventRedirected"}
    | {"ScheduleChanged", "ScheduleFired"}  # test_alias_properties.py has both
)
WAITING = frozenset({"running", "retrying", "asking", "calling", "incident"})
SUB = called_route(
    {"s": agent("x", "${{ event.data }}", on_exhausted="fail", retry={"attempts": 1})},
    closed_retention="1d",
)
QUICK = called_route({"s": agent(**{"if": "false"})}, "quick", closed_retention="1d")
picks = st.integers(0, 2**16)
keys = st.sampled_from(KEYS)
flag = st.booleans()


@st.composite
def conditions(draw: st.DrawFn, needs: list[str], approvals: set[str]) -> str | None:
    """None, or an `if` that is true, false, speaks of a needed step, or can't be evaluated."""
    pool: list[str | None] = [None, None, "true", "false", "event.data.n > 0"]
    for need in needs:
        if need in approvals:
            pool += [f"steps.{need}.verdict == 'approved'", *[f"steps.{need}.verdict == 'rejected'"] * 3]
        else:
            pool += [f"steps.{need} == 1", f"steps.{need}.missing"]
    return draw(st.sampled_from(pool))


@st.composite
def steps(draw: st.DrawFn, name: str, needs: list[str], approvals: set[str]) -> dict[str, Any]:
    step: dict[str, Any] = {"needs": needs}
    condition = draw(conditions(needs, approvals))
    if condition is not None:
        step["if"] = condition
    value: Any = {"of": name}
    if draw(flag) and needs:
        value = f"${{{{ steps.{draw(st.sampled_from(needs))} }}}}"
    kind = draw(st.integers(0, 2))
    if kind == 1:
        more = draw(st.sampled_from([{}, {"timeout": "10s"}, {"on_exhausted": "fail"}]))
        return calling(draw(st.sampled_from(["sub", "quick"])), value, **more, **step)
    if kind == 0:
        approvals.add(name)
        deadline = draw(st.sampled_from(["never", "1s", "1h"]))
        expiry = draw(st.sampled_from(["reject", "approve", "incident"]))
        return approval(payload=value, deadline=deadline, on_expiry=expiry, **step)
    retry = {
        "attempts": draw(st.integers(1, 3)),
        "backoff": draw(st.sampled_from(["0s", "1s"])),
        "non_retryable": ["bad"],
    }
    exhausted = draw(st.sampled_from(["incident", "incident", "fail"]))
    return agent(
        draw(st.sampled_from(["x", "drafter"])), value, retry=retry, on_exhausted=exhausted, timeout="10s", **step
    )


@st.composite
def routes(draw: st.DrawFn) -> Route:
    """Any route of up to five steps: every rule of the language that bears on what is decided."""
    found: dict[str, Any] = {}
    approvals: set[str] = set()
    asks_first = draw(flag)  # and all that follows needs the answer
    if asks_first:
        found["s0"] = approval(deadline="1h")
        approvals.add("s0")
    for number in range(len(found), draw(st.integers(1, 5))):
        needs = draw(st.lists(st.sampled_from(sorted(found)), unique=True, max_size=3)) if found else []
        if asks_first and "s0" not in needs:
            needs.append("s0")
        found[f"s{number}"] = draw(steps(f"s{number}", needs, approvals))
    more: dict[str, Any] = {
        "on_repeat": draw(st.sampled_from(["ignore", "new_run_after_end"])),
        "closed_retention": "1d",
    }
    if draw(flag):
        more["output"] = draw(st.sampled_from(["${{ steps.s0 }}", "${{ event.data.missing }}", {"n": 1}]))
    return route(found, **more)


class Core(RuleBasedStateMachine):
    p: Partition

    @initialize(one=routes(), another=routes())
    def begin(self, one: Route, another: Route) -> None:
        longer = compile_route({**one.definition, "steps": {**one.definition["steps"], "z": agent("later")}})
        self.versions = (one, longer, another)
        self.p = Partition(one, SUB, QUICK, longer, another)
        self.told: list[Crossing] = []  # what was sent to other workflows, in order
        self.heard = 0  # so many of them
        self.sequence = 0
        self.tasks: list[SendTask] = []
        self.questions: list[AskApproval] = []
        self.succeeded: Counter[str] = Counter()  # by task id
        self.closed: Counter[str] = Counter()  # by approval id
        self.sent: Counter[str] = Counter()  # by attempt id
        self.outcomes: Counter[str] = Counter()  # by run
        self.counted = (self.succeeded, self.closed, self.sent, self.outcomes)
        self.over: set[str] = set()  # workflows that have ended, until they start again

    # Inputs ----------------------------------------------------------------------------------------------------------

    def given(self, make: Callable[[], tuple[Event, ...]]) -> None:
        """Each input gives one decision, a stale timer none; then all that a decision must keep."""
        before = len(self.p.decisions)
        events = make()
        assert len(self.p.decisions) - before <= 1
        if events:
            self.check(self.p.decisions[-1])

    def give(self, given: Input) -> None:
        self.given(lambda: self.p.give(given))

    @rule(key=keys, event=st.sampled_from(["e1", "e2", "e3"]), n=st.integers(0, 1))
    def start(self, key: str, event: str, n: int) -> None:
        self.given(lambda: self.p.start(key, event_id=event, data={"n": n}))

    @precondition(lambda self: self.tasks)
    @rule(
        pick=picks,
        success=flag,
        output=st.sampled_from([0, 1, {"text": "x"}, None]),
        error=st.sampled_from(["slow", "bad"]),
    )
    def result(self, pick: int, success: bool, output: Any, error: str) -> None:
        """Of any task that was ever sent."""
        task = self.tasks[-1 - pick % len(self.tasks)]
        self.give(result_of(task, success=success, output=output, error=error))

    @precondition(lambda self: self.tasks)
    @rule(pick=picks, attempt=st.integers(0, 9), step=st.sampled_from(["s0", "s1", "nosuch"]), key=keys, stray=flag)
    def foreign_result(self, pick: int, attempt: int, step: str, key: str, stray: bool) -> None:
        """Of an attempt, a step or a workflow that it does not fit."""
        task = self.tasks[pick % len(self.tasks)]
        task_id = f"{task.workflow_id}/{task.run_id}/{step}" if stray else task.task_id
        found = replace(task, workflow_id=self.p.id_of(key), task_id=task_id, attempt=attempt)
        self.give(result_of(found, success=True, output=1, error=""))

    @precondition(lambda self: self.questions)
    @rule(
        pick=picks,
        decision=st.sampled_from(["approve", "reject"]),
        by=st.sampled_from(["ana", "ana", "bo"]),
        late_ms=st.sampled_from([0, -1_000, 10_000]),
        more=st.sampled_from([{}, {}, {"payload": {"text": "edit"}}, {"payload": 5}, {"digest": "sha256:no"}]),
    )
    def answer(self, pick: int, decision: Any, by: str, late_ms: int, more: dict[str, Any]) -> None:
        question = self.questions[-1 - pick % len(self.questions)]
        key, at = question.workflow_id.partition(":")[2], self.p.now_ms + late_ms
        name = question.approval_id
        self.given(lambda: self.p.answer("", decision, by=by, key=key, at_ms=at, approval_id=name, **more))

    @rule(
        key=keys,
        command=st.sampled_from(["retry", "retry", "retry", "cancel", 1, 2]),
        step=st.sampled_from([None, None, "s0", "z"]),
    )
    def command(self, key: str, command: Any, step: str | None) -> None:
        """A number: go over to another version, one that has a step more or any other."""
        if isinstance(command, int):
            self.given(lambda: self.p.migrate(self.versions[command], key=key))
        else:
            self.given(lambda: self.p.command(command, key=key, step=step))

    @rule(pick=picks)
    def due_timer(self, pick: int) -> None:
        """Time passes until one of the times in the state has come."""
        found = [
            (key, name)
            for key in self.p.state.workflows
            if (workflow := self.p.state.workflows.get(self.p.id_of(key)))
            for name in (
                *[n for n, s in workflow.steps.items() if s.due_at_ms],
                *([""] if workflow.forget_at_ms else []),
            )
        ]
        if found:
            key, name = found[pick % len(found)]
            self.given(lambda: self.p.wait(name, key))

    @rule(
        key=keys,
        kind=st.sampled_from(get_args(TimerKind)),
        step=st.sampled_from(["s0", "s1", "s2"]),
        offset_ms=st.sampled_from([-20_000, 0, 500, 20_000]),
        of_run=flag,
    )
    def stray_timer(self, key: str, kind: TimerKind, step: str, offset_ms: int, of_run: bool) -> None:
        """One that may be early, late, of another kind, or of another run."""
        workflow = self.p.state.workflows.get(self.p.id_of(key))
        run = workflow.run_id if workflow and of_run else "0ther000"
        due = self.p.now_ms + offset_ms
        step = "" if kind == "forget" else step
        self.give(TimerDue(due_at_ms=due, workflow_id=self.p.id_of(key), kind=kind, step=step, run_id=run))

    @precondition(lambda self: self.tasks)
    @rule(pick=picks)
    def lost_task(self, pick: int) -> None:
        task = self.tasks[pick % len(self.tasks)]
        self.give(
            TaskUndeliverable(
                workflow_id=task.workflow_id, task_id=task.task_id, attempt=task.attempt, code="gone", message="gone"
            )
        )

    @precondition(lambda self: self.heard < len(self.told))
    @rule(most=st.sampled_from([1, 2, 9, 9]))
    def hear(self, most: int) -> None:
        self.listen(most)

    def listen(self, most: int) -> None:
        """What one workflow told another arrives, in order."""
        for _ in range(most):
            if self.heard < len(self.told):
                self.heard += 1
                given = self.told[self.heard - 1]
                assert not is_repeated(self.p.state, given)
                self.give(given)

    @precondition(lambda self: self.heard)
    @rule(pick=picks)
    def hear_again(self, pick: int) -> None:
        assert is_repeated(self.p.state, self.told[pick % self.heard])

    @precondition(lambda self: self.heard < len(self.told))
    @rule()
    def squat(self) -> None:
        """Somebody's event takes the id of a workflow that is about to be called."""
        called = self.told[self.heard]
        if isinstance(called, WorkflowCalled):
            event = {"specversion": "1.0", "id": "e", "source": "/s", "type": "t", "data": {}}
            self.give(
                EventMatched(
                    workflow_id=called.workflow_id,
                    route="sub",
                    digest=SUB.digest,
                    key=called.key,
                    cloud_event=event,
                    **self.p._inbox("mesh.events", None),
                )
            )
            self.listen(1)

    @precondition(lambda self: self.told)
    @rule()
    def lost_call(self) -> None:
        """What can't be sent is never heard."""
        if self.heard < len(self.told):
            lost = self.told.pop()
            name = effect_id(SendInput(workflow_id="", input=lost))
            assert isinstance(lost, WorkflowCalled | CallCancelled | CallEnded)
            sender = lost.called if isinstance(lost, CallEnded) else lost.caller.workflow_id
            self.give(Undeliverable(workflow_id=sender, effect_id=name, topic="t", code="gone", message="gone"))

    @precondition(lambda self: self.questions)
    @rule(pick=picks)
    def lost_question(self, pick: int) -> None:
        question = self.questions[pick % len(self.questions)]
        name, workflow = question.approval_id, question.workflow_id
        self.give(Undeliverable(workflow_id=workflow, effect_id=name, topic="t", code="gone", message="gone"))

    @rule(ms=st.sampled_from([1, 900, 15_000]))
    def time_passes(self, ms: int) -> None:
        self.p.now_ms += ms

    @rule()
    def take_over(self) -> None:
        """And what the one before had on the wire lands too, and is inert."""
        if self.p.decisions:
            late = self.p.log[-1]
            self.p.take_over(f"t{len(self.p.log)}")
            if isinstance(decode_log_record(as_record(late, 0)), Decision):
                self.p._append(late)

    # What must hold ------------------------------------------------------------------------------------------------------

    def check(self, decision: Decision) -> None:
        sends = effects(decision)
        read_back = decode_log_record(as_record(self.p.log[-1], 0))
        assert read_back == decision
        assert isinstance(read_back, Decision)
        assert effects(read_back) == sends
        for effect in sends:
            self.note(effect)
        for event in decision.events:
            SEEN.add(type(event))
            self.check_event(decision, event)
        assert all(count == 1 for counts in self.counted for count in counts.values())

    def note(self, effect: Effect) -> None:
        match effect:
            case SendTask():
                self.tasks.append(effect)
            case AskApproval():
                self.questions.append(effect)
            case SendInput():
                sent = replace(effect.input, source_topic="mesh.log", source_partition=0)
                assert sent.source_offset == self.sequence, "a place in the sequence was left out, or taken twice"
                self.sequence += 1
                self.told.append(sent)
            case PublishOutcome():
                self.outcomes[f"{effect.workflow_id}/{effect.run_id}"] += 1
            case _:
                pass

    def check_event(self, decision: Decision, event: Event) -> None:
        name = decision.workflow_id
        match event:
            case WorkflowStarted():
                self.over.discard(name)
            case WorkflowEnded():
                assert name not in self.over, "it ended twice"
                assert event is decision.events[-1], "something was decided after the end"
                self.over.add(name)
            case WorkflowForgotten():
                self.forget(name)
            case TaskDispatched():
                assert name not in self.over, "a task was dispatched after the end"
                assert not self.succeeded[event.task_id], "a finished step was dispatched again"
                self.sent[f"{event.task_id}/{event.attempt}"] += 1
            case ApprovalRequested():
                assert name not in self.over, "a question was asked after the end"
                assert not self.closed[event.approval_id], "a closed question was asked again"
            case TaskSucceeded():
                self.succeeded[event.task_id] += 1
            case ApprovalClosed():
                self.closed[event.approval_id] += 1
                assert event.expired or event.role in self.p.directory.roles[event.by], "nobody was entitled to this"
            case _:
                pass

    def forget(self, workflow_id: str) -> None:
        """A forgotten id starts afresh, and may meet the same event again."""
        for counts in self.counted:
            for old in [old for old in counts if old.startswith(f"{workflow_id}/")]:
                del counts[old]

    @invariant()
    def no_workflow_is_stuck(self) -> None:
        """One that runs waits for something that can come; one that has ended waits for nothing."""
        for workflow in self.p.state.workflows.values():
            waiting = [step for step in workflow.steps.values() if step.status not in FINISHED]
            assert bool(waiting) == (workflow.status == "running")
            for step in waiting:
                assert step.status in WAITING
                assert (step.incident is not None) == (step.status == "incident")
                assert step.due_at_ms is not None or step.status in {"asking", "calling", "incident"}

    def teardown(self) -> None:
        if hasattr(self, "p"):
            self.p.check_replay()


def result_of(task: SendTask, *, success: bool, output: Any, error: str) -> ResultReceived:
    return ResultReceived(
        task_id=task.task_id,
        attempt=task.attempt,
        workflow_id=task.workflow_id,
        status="succeeded" if success else "failed",
        output=output if success else None,
        error=None if success else TaskError(kind=error, message="it broke"),
    )


@pytest.mark.no_cover  # it says nothing of branches, and tracing doubles its time
def test_the_promises_hold_whatever_comes_in() -> None:
    SEEN.clear()
    run_state_machine_as_test(Core, settings=settings(max_examples=400, stateful_step_count=40))
    unseen = {event.__name__ for event in set(get_args(Event)) - SEEN} - UNDRAWN
    assert not unseen, "the draws no longer reach all that can be decided"


@pytest.mark.slow
def test_the_promises_hold_whatever_comes_in_for_longer() -> None:
    run_state_machine_as_test(Core, settings=settings(max_examples=3_000, stateful_step_count=60))
