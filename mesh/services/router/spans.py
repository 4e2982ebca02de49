"""Spans of confirmed decisions: the router's part of a run's trace.

Owns which decision closes which span. It must not be asked before the log has the decision, and
decides nothing. Each span's id was fixed when it was opened, by the event that the log holds
(`mesh.observability` draws the tree). So nothing is kept open here: a span is emitted whole at its
end, from the state before the decision.

    WorkflowEnded                     the run, beneath the upstream's span
    TaskSucceeded, TaskFailed         the attempt, dispatch to result
    ApprovalClosed, ApprovalWithdrawn the approval, question to verdict

What took longer than `LONG_MS` is two spans: `<name>` where it began, and `<name> ended`, which
links to it and has the outcome.

A process that dies between confirming and emitting loses those spans, and no more. Called by
`flight`, and only if there is a tracer.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

from mesh.core import ids, traces
from mesh.core.events import (
    ApprovalClosed,
    ApprovalWithdrawn,
    Decision,
    TaskFailed,
    TaskSucceeded,
    WorkflowEnded,
)
from mesh.core.inputs import AnswerGiven, AnswerGiven2, Input
from mesh.core.state import StepState, Workflow
from mesh.core.topics import Topics
from mesh.observability import Attributes, SpanKind, Tracer, record_span

LONG_MS: Final = 3_600_000
"""A span of a day hides what happened in it: from here on only its two ends are spans."""


class Traced(NamedTuple):
    """A decision, with what its spans are made of: the input, and the workflow before and after."""

    decision: Decision
    given: Input
    before: Workflow | None
    after: Workflow | None


class RouterSpans:
    """Emits spans for one router."""

    def __init__(self, tracer: Tracer, topics: Topics) -> None:
        self._tracer = tracer
        self._topics = topics

    def record(self, confirmed: Iterable[Traced]) -> None:
        """Emit what these decisions closed; the log has them."""
        for traced in confirmed:
            self._record(traced)

    def _record(self, traced: Traced) -> None:
        decision, before, after = traced.decision, traced.before, traced.after
        running = {name: step for name, step in before.steps.items() if step.status == "running"} if before else {}
        for event in decision.events:
            match event:
                case TaskSucceeded() | TaskFailed():
                    # taken out: the end of the workflow, if it is in the same
                    # decision, must not close it again
                    step = running.pop(event.step, None)
                    if before is not None and step is not None:
                        self._attempt(before, event.step, step, decision.at_ms, event)
                case ApprovalClosed() | ApprovalWithdrawn():
                    asked = before.steps.get(event.step) if before else None
                    if before is not None and asked is not None and asked.status == "asking":
                        self._approval(before, event, asked, decision.at_ms, traced.given)
                case WorkflowEnded():
                    if after is None:
                        continue
                    for name, step in running.items():
                        self._attempt(after, name, step, decision.at_ms, event)
                    self._run(after, event, decision.at_ms)
                case _:
                    pass

    def _attempt(
        self,
        workflow: Workflow,
        name: str,
        step: StepState,
        at_ms: int,
        event: TaskSucceeded | TaskFailed | WorkflowEnded,
    ) -> None:
        """The attempt that was out, ended by its result, its time-out, or the workflow's end."""
        attempt = ids.attempt_id(step.task_id, step.attempt)
        topic = self._topics.tasks(step.agent)
        attributes: dict[str, str | int | float | bool] = {
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": topic,
            "messaging.message.id": attempt,
            "mesh.attempt": step.attempt,
            "gen_ai.agent.name": step.agent,
        }
        error = None
        match event:
            case TaskSucceeded():
                attributes["gen_ai.agent.version"] = event.agent_version
            case TaskFailed():
                attributes |= {"gen_ai.agent.version": event.agent_version, "error.type": event.kind}
                error = f"{event.kind}: {event.message}"
            case WorkflowEnded():
                attributes["error.type"] = "withdrawn"
                error = f"the workflow {event.status} before its result: {event.reason}"
        self._emit(
            workflow,
            f"send {topic}",
            (step.task_id, str(step.attempt)),
            (step.since_ms, at_ms),
            attributes={**attributes, "mesh.step": name},
            kind="producer",
            error=error,
        )

    def _approval(
        self, workflow: Workflow, event: ApprovalClosed | ApprovalWithdrawn, step: StepState, at_ms: int, given: Input
    ) -> None:
        topic = self._topics.requests
        attributes: dict[str, str | int | float | bool] = {
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": topic,
            "messaging.message.id": event.approval_id,
            "mesh.step": event.step,
            "mesh.approval.role": step.role,
        }
        if isinstance(event, ApprovalClosed):
            attributes |= {
                "mesh.approval.verdict": event.verdict,
                "mesh.approval.expired": event.expired,
                "mesh.approval.edited": event.edited,
            }
        else:
            attributes["mesh.approval.verdict"] = "withdrawn"
        answered = (
            given.traceparent
            if isinstance(given, AnswerGiven | AnswerGiven2) and isinstance(event, ApprovalClosed)
            else None
        )
        self._emit(
            workflow,
            f"send {topic}",
            (event.approval_id,),
            (step.since_ms, at_ms),
            attributes=attributes,
            kind="producer",
            links=(answered,) if answered else (),
        )

    def _run(self, workflow: Workflow, event: WorkflowEnded, at_ms: int) -> None:
        """The whole run.

        A failure is an error. A rejection, or an operator's cancel, is a normal end.
        """
        self._record_ends(
            f"invoke_workflow {workflow.route}",
            event.traceparent,
            workflow.parent_span_id,
            (workflow.started_at_ms, at_ms),
            attributes={
                "gen_ai.operation.name": "invoke_workflow",
                "gen_ai.workflow.name": workflow.route,
                "messaging.message.conversation_id": workflow.workflow_id,
                "mesh.run_id": workflow.run_id,
                "mesh.workflow.status": event.status,
            },
            error=event.reason if event.status == "failed" else None,
        )

    def _emit(
        self,
        workflow: Workflow,
        name: str,
        opened_by: tuple[str, ...],
        times_ms: tuple[int, int],
        *,
        attributes: Attributes,
        kind: SpanKind,
        links: tuple[str, ...] = (),
        error: str | None = None,
    ) -> None:
        """A span beneath the run's, with the id that the event `opened_by` these parts promised."""
        self._record_ends(
            name,
            f"00-{workflow.trace_id}-{ids.span_id(*opened_by)}-{traces.flags(workflow)}",
            ids.span_id(workflow.workflow_id, workflow.run_id),
            times_ms,
            attributes={**attributes, "messaging.message.conversation_id": workflow.workflow_id},
            kind=kind,
            links=links,
            error=error,
        )

    def _record_ends(
        self,
        name: str,
        traceparent: str,
        parent_span_id: str | None,
        times_ms: tuple[int, int],
        *,
        attributes: Attributes,
        kind: SpanKind = "internal",
        links: tuple[str, ...] = (),
        error: str | None = None,
    ) -> None:
        """One span, or a span for each end of what took long."""
        start_ms, end_ms = times_ms
        if end_ms - start_ms > LONG_MS:
            # first what others have for their parent: the id that was promised
            record_span(
                self._tracer,
                name=name,
                traceparent=traceparent,
                parent_span_id=parent_span_id,
                start_ms=start_ms,
                end_ms=start_ms,
                attributes=attributes,
                kind=kind,
            )
            version, trace_id, span_id, flags = traceparent.split("-")
            name, start_ms, links = f"{name} ended", end_ms, (traceparent, *links)
            traceparent = f"{version}-{trace_id}-{ids.span_id(span_id, 'ended')}-{flags}"
        record_span(
            self._tracer,
            name=name,
            traceparent=traceparent,
            parent_span_id=parent_span_id,
            start_ms=start_ms,
            end_ms=end_ms,
            attributes=attributes,
            kind=kind,
            links=links,
            error=error,
        )
