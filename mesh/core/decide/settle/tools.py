"""Approvals of single calls: an agent wants one, and goes on with the verdict.

The question is an approval of version 2, at a place of its own below the step. The step waits
meanwhile as `suspended`, with no task out. Whatever ends the step ends the question too
(`mesh.core.decide.begin.undo`).
"""

from typing import Any, Final

from msgspec.structs import replace

from mesh.core import ids
from mesh.core.decide.begin.approval import ask
from mesh.core.decide.begin.instants import CalendarLacks
from mesh.core.decide.begin.task import agent_work, dispatch
from mesh.core.decide.begin.undo import cancel_step
from mesh.core.decide.draft import Draft
from mesh.core.events import ApprovalClosed, ApprovalWanted, IncidentRaised
from mesh.core.inputs import ResultReceived
from mesh.core.json_values import digest, text_of
from mesh.core.route import ExpressionError, Scope, ToolTerms
from mesh.core.schemas import why_unfit
from mesh.core.state import StepState
from mesh.core.tool_approvals import (
    LARGEST_SCHEMA,
    LONGEST_QUESTION,
    NAME_RULE,
    ToolState,
    Wanted,
    is_tool_name,
    verdict_on,
)

REFUSED: Final = "approval_refused"
"""The kind of the failure of an attempt that wants what it can't have."""


def terms_for(draft: Draft, place: str, step: StepState, wanted: Wanted) -> ToolTerms | str:
    """The terms on which this is asked; or why it can't be."""
    terms = agent_work(draft, place).approve
    if terms is None:
        return "the route lets the agent of this step ask for no approval: write `approve: {role: ...}` there"
    return _why_refused(terms, step.tools or ToolState(), wanted) or terms


def _why_refused(terms: ToolTerms, tools: ToolState, wanted: Wanted) -> str:
    if not is_tool_name(wanted.name):
        return f"{wanted.name[:60]!r} is no name of an approval: {NAME_RULE}"
    if not wanted.question.strip() or len(wanted.question) > LONGEST_QUESTION:
        return f"the question must be a text of at most {LONGEST_QUESTION:,} characters"
    if verdict_on(tools.verdicts, wanted.name, digest(wanted.payload)) is not None:
        return f"{wanted.name} has its verdict for this payload: the task has it in `approvals`"
    if tools.asked >= terms.limit:
        return f"the task has asked for {tools.asked} approvals, and its route allows {terms.limit}"
    return _why_no_schema(wanted)


def _why_no_schema(wanted: Wanted) -> str:
    """Why edits can't be held to the agent's schema; empty if they can, or there is none."""
    schema = wanted.payload_schema
    if schema is None:
        return ""
    if len(text_of(schema).encode("utf-8", "surrogatepass")) > LARGEST_SCHEMA:
        return f"its payload_schema may have at most {LARGEST_SCHEMA:,} bytes"
    # what was asked must be possible, and a schema that can't be used lets nothing pass
    return why_unfit(schema, wanted.payload, "the payload that it asks for", at="payload")


def want(draft: Draft, place: str, given: ResultReceived, wanted: Wanted, terms: ToolTerms) -> None:
    """End the attempt, and ask."""
    draft.add(
        ApprovalWanted(
            step=place,
            task_id=given.task_id,
            attempt=given.attempt,
            name=wanted.name,
            digest=digest(wanted.payload),
            agent_version=given.agent_version,
            agent_instance=given.agent_instance,
            duration_ms=given.duration_ms,
            usage=given.usage,
        )
    )
    _ask(draft, ids.tool_place(place, wanted.name), terms, wanted, f"{draft.live.steps[place].agent} wants it")


class _Given:
    """A template of what an agent gave: nothing in it is an expression."""

    paths: frozenset[str] = frozenset()

    def __init__(self, value: Any) -> None:
        self.source = value

    def render(self, scope: Scope) -> Any:  # noqa: ARG002 - as all templates have it
        return self.source


def _ask(draft: Draft, place: str, terms: ToolTerms, wanted: Wanted, reason: str) -> None:
    # who writes the route has the last word on what people may make of it
    schema = wanted.payload_schema if terms.asks.payload_schema is None else terms.asks.payload_schema
    work = replace(terms.asks, ask=_Given(wanted.question), payload=_Given(wanted.payload), payload_schema=schema)
    try:
        ask(draft, place, work, reason)
    # before its base class, or an operator would look for a fault in an expression
    except CalendarLacks as error:
        draft.add(IncidentRaised(step=place, kind="calendar", message=str(error)))
    except ExpressionError as error:
        draft.add(IncidentRaised(step=place, kind="expression", message=str(error)))


def on_tool_verdict(draft: Draft, closed: ApprovalClosed) -> None:
    """Send the task again, with the verdict."""
    by = closed.by or "its deadline"
    _go_on(draft, ids.asker_of(closed.step), f"{closed.step} was {closed.verdict} by {by}")


def want_again(draft: Draft, place: str, by: str) -> None:
    """Send the task again without a verdict: its agent will ask once more, on the terms of now."""
    reason = f"retried by {by}"
    # first: as long as it is open the agent would find it so
    cancel_step(draft, place, reason)
    _go_on(draft, ids.asker_of(place), reason)


def _go_on(draft: Draft, place: str, reason: str) -> None:
    step = draft.live.steps[place]
    dispatch(
        draft,
        place,
        agent_work(draft, place),
        step.input,
        reason,
        attempt=step.attempt + 1,
        budget_from=step.retry_budget_from,
        agent=step.agent,
        hop=step.hop,
    )
