"""Decide: what one input brings about, as events. The heart of the router, and pure.

    decide(state, input, route, directory, now) -> events, and the state after them

Everything that a workflow does is decided here: what starts, what is dispatched, retried, skipped, asked, refused, ended. It reads no clock, draws no random
number and does no I/O; a choice that it takes from the directory is recorded in its events, so that replay (`evolve` alone) never needs it again.

What it gives for an input that changes nothing is an event too (`InputDismissed`, `StartRepeated`, `AnswerRefused`, `CommandRefused`), so that each input has its
one decision and can be asked about. Only a timer that no longer fits gives nothing.

How a step moves:

    (waits for its needs) --> running --> succeeded
            |                   |  ^
            |                   v  |
            |                 retrying <---.
            |                   |          | an operator's retry
            |                   v          |
            |                incident -----'
            +--> asking --> succeeded | rejected | incident (a deadline with `on_expiry: incident`)
            +--> skipped (its `if` is false), blocked (a step it needs was rejected), cancelled (the workflow ended)
"""

from collections import deque
from collections.abc import Iterable
from hashlib import sha256
from typing import Any, NamedTuple, assert_never

import msgspec
from jsonschema import Draft202012Validator

from mesh.core import ids
from mesh.core.canonical import digest
from mesh.core.events import (
    AnswerRefused,
    ApprovalClosed,
    ApprovalRequested,
    ApprovalWithdrawn,
    CommandAccepted,
    CommandRefused,
    EffectUndeliverable,
    EndStatus,
    Event,
    IncidentRaised,
    IncidentResolved,
    InputDismissed,
    RetryScheduled,
    StartRepeated,
    StepBlocked,
    StepSkipped,
    TaskDispatched,
    TaskFailed,
    TaskSucceeded,
    Verdict,
    WorkflowEnded,
    WorkflowForgotten,
    WorkflowStarted,
)
from mesh.core.evolve import approval_output, evolve
from mesh.core.inputs import (
    AnswerGiven,
    CommandGiven,
    EventMatched,
    Input,
    ResultReceived,
    TaskUndeliverable,
    TimerDue,
    Undeliverable,
)
from mesh.core.route import AgentWork, ApprovalWork, ExpressionError, Retry, Route, Scope, Step
from mesh.core.state import FINISHED, Directory, StepState, Workflow

__all__ = ["Decided", "decide"]


class Decided(NamedTuple):
    """Events, in order, and the workflow as `evolve` leaves it after them."""

    events: tuple[Event, ...]
    workflow: Workflow | None


def decide(
    workflow: Workflow | None, given: Input, *, route: Route | None, directory: Directory, now_ms: int
) -> Decided:
    """What `given` brings about.

    `route` is the definition that the workflow started with (`given.digest`'s for a start); it may be None where the workflow is not live. `now_ms`: the owner's clock.
    """
    draft = _Draft(workflow, given.workflow_id, route, directory, now_ms)
    match given:
        case ResultReceived():
            _on_result(draft, given)
        case EventMatched():
            _on_event(draft, given)
        case TimerDue():
            _on_timer(draft, given)
        case AnswerGiven():
            _on_answer(draft, given)
        case CommandGiven():
            _on_command(draft, given)
        case TaskUndeliverable():
            _on_task_undeliverable(draft, given)
        case Undeliverable():
            _on_undeliverable(draft, given)
        case _:
            assert_never(given)
    return Decided(tuple(draft.events), draft.workflow)


class _Draft:
    """A decision in the making: the events so far, and the state after them."""

    __slots__ = ("_route", "_scope", "directory", "events", "now_ms", "workflow", "workflow_id")

    def __init__(
        self, workflow: Workflow | None, workflow_id: str, route: Route | None, directory: Directory, now_ms: int
    ) -> None:
        self.workflow = workflow
        self.workflow_id = workflow_id
        self._route = route
        self.directory = directory
        self.now_ms = now_ms
        self.events: list[Event] = []
        self._scope: Scope | None = None

    def add(self, event: Event) -> None:
        self.events.append(event)
        self.workflow = evolve(self.workflow, event, workflow_id=self.workflow_id, at_ms=self.now_ms)
        self._scope = None

    @property
    def live(self) -> Workflow:
        if self.workflow is None:
            raise AssertionError(f"{self.workflow_id} is not live")
        return self.workflow

    @property
    def route(self) -> Route:
        if self._route is None:
            raise AssertionError(f"{self.workflow_id}: deciding on a live workflow needs its route")
        return self._route

    def scope(self) -> Scope:
        if self._scope is None:
            workflow = self.live
            self._scope = {
                "event": workflow.cloud_event,
                "steps": {name: step.output for name, step in workflow.steps.items() if step.status in _HAS_OUTPUT},
                "workflow": {
                    "id": workflow.workflow_id,
                    "run_id": workflow.run_id,
                    "route": workflow.route,
                    "key": workflow.key,
                },
            }
        return self._scope

    def traceparent(self, *parts: str) -> str:
        return f"00-{self.live.trace_id}-{ids.span_id(*parts)}-01"


_HAS_OUTPUT = frozenset({"succeeded", "skipped", "rejected"})


# Starting ------------------------------------------------------------------------------------------------------------


def _on_event(draft: _Draft, given: EventMatched) -> None:
    event = given.cloud_event
    run = ids.run_id(event["source"], event["id"])
    refusal = _repeats(draft.workflow, run, draft.route)
    if refusal:
        draft.add(StartRepeated(event_source=event["source"], event_id=event["id"], reason=refusal))
        return
    trace, parent = _trace_of(event, given.workflow_id, run)
    draft.add(
        WorkflowStarted(
            route=given.route,
            digest=given.digest,
            run_id=run,
            key=given.key,
            cloud_event=event,
            trace_id=trace,
            parent_span_id=parent,
            closed_retention_s=draft.route.closed_retention_s,
        )
    )
    _go_on(draft, draft.route.steps)


def _repeats(workflow: Workflow | None, run: str, route: Route) -> str:
    """Why a start for this id changes nothing; empty if it does."""
    if workflow is None:
        return ""
    if workflow.run_id == run:
        return "the same event started this run"
    if workflow.status == "running":
        return f"run {workflow.run_id} is still going"
    if route.on_repeat == "ignore":
        return f"run {workflow.run_id} ended as {workflow.status}, and the route says on_repeat: ignore"
    return ""


def _trace_of(event: dict[str, Any], workflow_id: str, run: str) -> tuple[str, str | None]:
    """The upstream's trace and span if it sent a W3C traceparent, else a trace of the run's own."""
    parts = str(event.get("traceparent", "")).split("-")
    if len(parts) == 4 and len(parts[1]) == 32 and len(parts[2]) == 16:  # noqa: PLR2004 - W3C Trace Context, section 3.2
        return parts[1], parts[2]
    return ids.trace_id(workflow_id, run), None


# Going on: which steps can act now, and what they do --------------------------------------------------------------------


def _go_on(draft: _Draft, candidates: Iterable[str]) -> None:
    """Let every candidate act whose needs are settled, and then those that need what was settled by that; end the workflow if all is done."""
    route = draft.route
    todo = deque(candidates)
    while todo:
        name = todo.popleft()
        if name not in draft.live.steps and _act(draft, route.steps[name]):
            todo.extend(route.dependents[name])
    _end_if_done(draft)


def _act(draft: _Draft, step: Step) -> bool:
    """Begin or settle one step if it can be. True if it was settled at once (skipped or blocked)."""
    steps = draft.live.steps
    for need in step.needs:
        state = steps.get(need)
        if state is None or state.status not in FINISHED:
            return False
        if state.status not in _SATISFIES and not (state.status == "rejected" and _takes(step, need)):
            draft.add(StepBlocked(step=step.name, reason=f"needs {need}, which was {state.status}"))
            return True
    try:
        return _begin(draft, step)
    except ExpressionError as error:
        draft.add(IncidentRaised(step=step.name, kind="expression", message=str(error)))
        return False


_SATISFIES = frozenset({"succeeded", "skipped"})


def _takes(step: Step, approval: str) -> bool:
    """Whether the step's `if` speaks of the approval, and so takes its rejection into its own hands."""
    if step.condition is None:
        return False
    whole = f"steps.{approval}"
    return any(path == whole or path.startswith(whole + ".") for path in step.condition.paths)


def _begin(draft: _Draft, step: Step) -> bool:
    if step.condition is not None and not step.condition.is_true(draft.scope()):
        output = None
        if isinstance(step.work, ApprovalWork):
            output = approval_output("skipped", step.work.payload.render(draft.scope()))
        draft.add(StepSkipped(step=step.name, reason=f"{step.condition.source} is false", output=output))
        return True
    if isinstance(step.work, AgentWork):
        _dispatch(draft, step.name, step.work, step.work.input.render(draft.scope()), _why(step), attempt=1)
    else:
        _ask(draft, step.name, step.work, _why(step))
    return False


def _why(step: Step) -> str:
    needs = f"{', '.join(step.needs)} done" if step.needs else "the workflow started"
    return f"{needs}, and {step.condition.source}" if step.condition else needs


def _dispatch(
    draft: _Draft, name: str, work: AgentWork, value: Any, reason: str, *, attempt: int, budget_from: int = 1
) -> None:
    workflow = draft.live
    task = ids.task_id(workflow.workflow_id, workflow.run_id, name)
    draft.add(
        TaskDispatched(
            step=name,
            task_id=task,
            attempt=attempt,
            agent=work.agent,
            input=value,
            due_at_ms=draft.now_ms + int(work.timeout_s * 1000),
            traceparent=draft.traceparent(task, str(attempt)),
            reason=reason,
            retry_budget_from=budget_from,
        )
    )


def _ask(draft: _Draft, name: str, work: ApprovalWork, reason: str) -> None:
    workflow, scope = draft.live, draft.scope()
    payload = work.payload.render(scope)
    approval = ids.approval_id(workflow.workflow_id, workflow.run_id, name)
    draft.add(
        ApprovalRequested(
            step=name,
            approval_id=approval,
            question=str(work.ask.render(scope)),
            payload=payload,
            digest=digest(payload),
            role=work.role,
            on_expiry=work.on_expiry,
            traceparent=draft.traceparent(approval),
            reason=reason,
            deadline_at_ms=None if work.deadline_s is None else draft.now_ms + int(work.deadline_s * 1000),
            payload_schema=_payload_schema(work, draft.directory),
        )
    )


def _payload_schema(work: ApprovalWork, directory: Directory) -> dict[str, Any] | None:
    if work.payload_schema is not None or work.payload_from is None:
        return work.payload_schema
    card = directory.agents.get(work.payload_from)
    return card.output_schema if card else None


# Ending --------------------------------------------------------------------------------------------------------------


def _end_if_done(draft: _Draft) -> None:
    workflow, route = draft.live, draft.route
    if workflow.status != "running":
        return
    if len(workflow.steps) < len(route.steps) or any(s.status not in FINISHED for s in workflow.steps.values()):
        return
    refused = [name for name, step in workflow.steps.items() if step.status == "rejected" and not _taken(draft, name)]
    if refused:
        _end(draft, "rejected", _rejection(workflow.steps[refused[0]], refused[0]))
        return
    try:
        output = _output(draft)
    except ExpressionError as error:
        _end(draft, "failed", f"all steps are done, but the route's output could not be made: {error}")
        return
    _end(draft, "completed", "all steps are done", output)


def _taken(draft: _Draft, approval: str) -> bool:
    """Whether a step took this approval's rejection and ran."""
    route, steps = draft.route, draft.live.steps
    return any(_takes(route.steps[d], approval) and steps[d].status in _RAN for d in route.dependents[approval])


_RAN = frozenset({"succeeded", "rejected"})


def _rejection(step: StepState, name: str) -> str:
    by = step.output["by"] or "its deadline"
    why = step.output["reason"]
    return f"{name} was rejected by {by}" + (f": {why}" if why else "")


def _output(draft: _Draft) -> Any:
    route = draft.route
    if route.output is not None:
        return route.output.render(draft.scope())
    leaves = [name for name in route.steps if not route.dependents[name]]
    return {name: draft.live.steps[name].output for name in leaves}


def _end(draft: _Draft, status: EndStatus, reason: str, output: Any = None) -> None:
    workflow = draft.live
    for name, step in workflow.steps.items():
        if step.status == "asking":
            draft.add(ApprovalWithdrawn(step=name, approval_id=step.task_id, reason=f"the workflow {status}: {reason}"))
    draft.add(
        WorkflowEnded(
            status=status,
            reason=reason,
            run_id=workflow.run_id,
            traceparent=draft.traceparent(workflow.workflow_id, workflow.run_id),
            output=output,
            forget_at_ms=draft.now_ms + int(workflow.closed_retention_s * 1000),
        )
    )


# Results -------------------------------------------------------------------------------------------------------------


class _Turned(NamedTuple):
    """Why an input does not count."""

    code: str
    message: str


def _running(draft: _Draft, task: str, attempt: int, *, success: bool) -> tuple[str, StepState] | _Turned:
    """The step that waits for this attempt.

    A success of an earlier attempt counts as long as the step is not settled: the work is done, under the same idempotency key. A failure counts for the attempt under way alone.
    """
    parsed = ids.parse_step_id(task)
    workflow = draft.workflow
    if parsed is None or workflow is None:
        return _Turned("unknown", f"no workflow knows task {task}")
    if parsed.run_id != workflow.run_id:
        return _Turned("late", f"task {task} is of an earlier run; the run is {workflow.run_id}")
    if workflow.status != "running":
        return _Turned("closed", f"the workflow had ended: {workflow.status}")
    step = workflow.steps.get(parsed.step)
    if step is None or step.task_id != task or attempt > step.attempt:
        return _Turned("unknown", f"task {task}, attempt {attempt}, was never dispatched")
    waits = step.status == "running" and attempt == step.attempt
    if waits or (success and step.status in {"running", "retrying"}):
        return parsed.step, step
    return _Turned("repeated", f"task {task}, attempt {attempt}, counts no more: the step is {step.status}")


def _on_result(draft: _Draft, given: ResultReceived) -> None:
    found = _running(draft, given.task_id, given.attempt, success=given.status == "succeeded")
    if isinstance(found, _Turned):
        draft.add(InputDismissed(code=found.code, message=found.message))
        return
    name, _ = found
    if given.status == "succeeded":
        draft.add(
            TaskSucceeded(
                step=name,
                task_id=given.task_id,
                attempt=given.attempt,
                output=given.output,
                agent_version=given.agent_version,
                agent_instance=given.agent_instance,
                duration_ms=given.duration_ms,
                usage=given.usage,
            )
        )
        _go_on(draft, draft.route.dependents[name])
        return
    error = given.error
    _fail(
        draft,
        TaskFailed(
            step=name,
            task_id=given.task_id,
            attempt=given.attempt,
            kind=error.kind if error else "unknown",
            message=error.message if error else "the agent gave no reason",
            retryable=error.retryable if error else True,
            agent_version=given.agent_version,
            agent_instance=given.agent_instance,
            duration_ms=given.duration_ms,
        ),
    )


def _on_task_undeliverable(draft: _Draft, given: TaskUndeliverable) -> None:
    found = _running(draft, given.task_id, given.attempt, success=False)
    if isinstance(found, _Turned):
        draft.add(InputDismissed(code=found.code, message=found.message))
        return
    name, step = found
    message = f"the task for agent {step.agent} could not be sent: {given.message}"
    draft.add(
        TaskFailed(
            step=name,
            task_id=given.task_id,
            attempt=given.attempt,
            kind="undeliverable",
            message=message,
            retryable=False,
        )
    )
    draft.add(IncidentRaised(step=name, kind="undeliverable", message=message))


def _fail(draft: _Draft, failed: TaskFailed) -> None:
    """Record a failed attempt and what follows of it: another attempt, an incident, or the end."""
    draft.add(failed)
    work = _agent_work(draft, failed.step)
    step = draft.live.steps[failed.step]
    retry, made = work.retry, failed.attempt - step.retry_budget_from + 1
    retryable = failed.retryable and failed.kind not in retry.non_retryable
    if retryable and made < retry.attempts:
        due = draft.now_ms + _backoff_ms(retry, made, ids.attempt_id(failed.task_id, failed.attempt))
        draft.add(RetryScheduled(step=failed.step, attempt=failed.attempt + 1, due_at_ms=due))
        return
    tried = f"attempt {made} of {retry.attempts}" if retryable else "trying again would not help"
    message = f"{failed.kind}: {failed.message} ({tried})"
    if work.on_exhausted == "fail":
        _end(draft, "failed", f"{failed.step}: {message}")
    else:
        kind = "exhausted" if retryable else "non_retryable"
        draft.add(IncidentRaised(step=failed.step, kind=kind, message=message))


def _agent_work(draft: _Draft, name: str) -> AgentWork:
    work = draft.route.steps[name].work
    if not isinstance(work, AgentWork):
        raise TypeError(f"step {name} of {draft.workflow_id} has attempts, but its route gives it no agent")
    return work


def _backoff_ms(retry: Retry, made: int, attempt: str) -> int:
    """Milliseconds until the next attempt; the jitter is a function of the attempt's id."""
    wait_s = min(retry.max_backoff_s, retry.backoff_s * retry.factor ** min(made - 1, 64))
    draw = int.from_bytes(sha256(attempt.encode()).digest()[:4], "big") / 2**32
    return int(wait_s * (1 - retry.jitter * draw) * 1000)


# Timers --------------------------------------------------------------------------------------------------------------


def _on_timer(draft: _Draft, given: TimerDue) -> None:
    workflow = draft.workflow
    if workflow is None or workflow.run_id != given.run_id:
        return
    if given.kind == "forget":
        if workflow.forget_at_ms is not None and workflow.forget_at_ms <= given.due_at_ms:
            draft.add(WorkflowForgotten())
        return
    step = workflow.steps.get(given.step)
    if workflow.status != "running" or step is None or step.due_at_ms is None or step.due_at_ms > given.due_at_ms:
        return
    match step.status:
        case "running":
            _time_out(draft, given.step, step)
        case "retrying":
            _retry(draft, given.step, step)
        case "asking":
            _expire(draft, given.step, step)
        case _:
            raise AssertionError(f"{given.step} is {step.status} and yet has a time")


def _time_out(draft: _Draft, name: str, step: StepState) -> None:
    waited_s = (draft.now_ms - step.since_ms) / 1000
    message = f"no result of agent {step.agent} after {waited_s:.1f} s"
    _fail(
        draft,
        TaskFailed(
            step=name, task_id=step.task_id, attempt=step.attempt, kind="timeout", message=message, retryable=True
        ),
    )


def _retry(draft: _Draft, name: str, step: StepState, *, anew: bool = False) -> None:
    """The next attempt; with `anew` the count of attempts begins again."""
    work = _agent_work(draft, name)
    attempt = step.attempt + 1
    budget_from = attempt if anew else step.retry_budget_from
    reason = f"attempt {attempt - budget_from + 1} of {work.retry.attempts}, after {step.error}"
    _dispatch(draft, name, work, step.input, reason, attempt=attempt, budget_from=budget_from)


def _expire(draft: _Draft, name: str, step: StepState) -> None:
    if step.on_expiry == "incident":
        message = f"nobody with role {step.role} answered by the deadline"
        draft.add(IncidentRaised(step=name, kind="expired", message=message))
        return
    verdict: Verdict = "approved" if step.on_expiry == "approve" else "rejected"
    reason = f"no answer by the deadline; on_expiry: {step.on_expiry}"
    _close(
        draft,
        ApprovalClosed(
            step=name, approval_id=step.task_id, verdict=verdict, payload=step.input, reason=reason, expired=True
        ),
    )


# Answers -------------------------------------------------------------------------------------------------------------


def _on_answer(draft: _Draft, given: AnswerGiven) -> None:
    found = _asking(draft, given)
    refusal = found if isinstance(found, AnswerRefused) else _refusal(draft, given, found[1])
    if refusal is not None:
        draft.add(refusal)
        return
    assert not isinstance(found, AnswerRefused)  # noqa: S101 - for the type checker: a refusal has returned
    name, step = found
    edited = given.decision == "approve" and given.payload is not msgspec.UNSET and given.payload != step.input
    _close(
        draft,
        ApprovalClosed(
            step=name,
            approval_id=given.approval_id,
            verdict="approved" if given.decision == "approve" else "rejected",
            payload=given.payload if edited else step.input,
            by=given.by,
            role=step.role,
            answer_id=given.answer_id,
            reason=given.reason,
            edited=edited,
        ),
    )


def _close(draft: _Draft, closed: ApprovalClosed) -> None:
    draft.add(closed)
    route = draft.route
    dependents = route.dependents[closed.step]
    if closed.verdict == "rejected" and not any(_takes(route.steps[d], closed.step) for d in dependents):
        _end(draft, "rejected", _rejection(draft.live.steps[closed.step], closed.step))
        return
    _go_on(draft, dependents)


def _asking(draft: _Draft, given: AnswerGiven) -> tuple[str, StepState] | AnswerRefused:
    """The step that waits for this answer."""
    parsed, workflow = ids.parse_step_id(given.approval_id), draft.workflow
    step = workflow.steps.get(parsed.step) if parsed and workflow and workflow.run_id == parsed.run_id else None
    if parsed is None or step is None or step.task_id != given.approval_id or step.agent:
        return _refused(given, "unknown", f"no approval {given.approval_id} was asked, or its memory has ended")
    if step.status == "asking":
        return parsed.step, step
    if step.status == "incident":
        return _refused(given, "late", "its deadline has passed, and an operator has it now", closed=True)
    verdict = {"succeeded": "approved", "rejected": "rejected"}.get(step.status, "")
    return _refused(given, "closed", f"it is closed: {verdict or step.status}", verdict=verdict, closed=True)


def _refusal(draft: _Draft, given: AnswerGiven, step: StepState) -> AnswerRefused | None:
    """Why this answer to an open approval does not count; None if it does."""
    if step.due_at_ms is not None and given.source_at_ms > step.due_at_ms:
        return _refused(given, "late", "it reached the broker after the deadline")
    if step.role not in draft.directory.roles.get(given.by, frozenset()):
        return _refused(given, "role", f"{given.by or 'nobody'} does not have the role {step.role}")
    if given.digest is not None and given.digest != step.digest:
        return _refused(given, "digest", f"it answers another payload: the one that was asked has {step.digest}")
    if given.decision == "approve" and given.payload is not msgspec.UNSET and step.payload_schema is not None:
        problem = next(Draft202012Validator(step.payload_schema).iter_errors(given.payload), None)
        if problem is not None:
            where = problem.json_path.replace("$", "payload", 1)
            return _refused(given, "schema", f"the edited payload does not fit: {where}: {problem.message[:300]}")
    return None


def _refused(given: AnswerGiven, code: str, message: str, *, verdict: str = "", closed: bool = False) -> AnswerRefused:
    return AnswerRefused(
        approval_id=given.approval_id,
        answer_id=given.answer_id,
        code=code,
        message=message,
        by=given.by,
        verdict=verdict,
        closed=closed,
    )


# Operators -----------------------------------------------------------------------------------------------------------


def _on_command(draft: _Draft, given: CommandGiven) -> None:
    workflow = draft.workflow
    if workflow is None:
        _refuse(draft, given, "unknown", f"no workflow {given.workflow_id}: `mesh workflows` lists them")
    elif workflow.status != "running":
        _refuse(draft, given, "ended", f"the workflow has ended: {workflow.status}")
    elif given.command == "cancel":
        _accept(draft, given)
        _end(draft, "cancelled", f"cancelled by {given.by}" + (f": {given.reason}" if given.reason else ""))
    else:
        _on_retry(draft, given, workflow)


def _on_retry(draft: _Draft, given: CommandGiven, workflow: Workflow) -> None:
    if given.step is not None and given.step not in draft.route.steps:
        _refuse(draft, given, "unknown_step", f"the route has no step {given.step}: {', '.join(draft.route.steps)}")
        return
    stuck = [n for n, s in workflow.steps.items() if s.status == "incident" and given.step in {None, n}]
    if not stuck:
        _refuse(draft, given, "no_incident", f"{given.step or 'no step'} has an incident to retry")
        return
    _accept(draft, given)
    for name in stuck:
        step = draft.live.steps[name]
        if draft.live.status != "running":
            break
        draft.add(IncidentResolved(step=name, action="retry", by=given.by))
        _begin_again(draft, name, step)
    _end_if_done(draft)


def _begin_again(draft: _Draft, name: str, step: StepState) -> None:
    if step.attempt:
        _retry(draft, name, step, anew=True)
        return
    try:
        settled = _begin(draft, draft.route.steps[name])
    except ExpressionError as error:
        draft.add(IncidentRaised(step=name, kind="expression", message=str(error)))
        return
    if settled:
        _go_on(draft, draft.route.dependents[name])


def _accept(draft: _Draft, given: CommandGiven) -> None:
    draft.add(CommandAccepted(command_id=given.command_id, command=given.command, by=given.by, reason=given.reason))


def _refuse(draft: _Draft, given: CommandGiven, code: str, message: str) -> None:
    draft.add(
        CommandRefused(command_id=given.command_id, command=given.command, code=code, message=message, by=given.by)
    )


def _on_undeliverable(draft: _Draft, given: Undeliverable) -> None:
    draft.add(EffectUndeliverable(effect_id=given.effect_id, topic=given.topic, code=given.code, message=given.message))
    workflow, parsed = draft.workflow, ids.parse_step_id(given.effect_id)
    if workflow is None or parsed is None or parsed.run_id != workflow.run_id:
        return
    step = workflow.steps.get(parsed.step)
    if step is not None and step.status == "asking":
        message = f"the approval request could not be sent: {given.message}"
        draft.add(IncidentRaised(step=parsed.step, kind="undeliverable", message=message))
