"""What the tools ask of the read model, as values.

Has every query, one module for each thing that is asked about. They only read, and see the file as
of the last `ReadModel.catch_up`. A list that may be long comes as a `Page`, which knows how many
rows there are in all; without a `limit` it has every row. The command line and the other modules of
`mesh.inspection` call them.

workflow_rows     workflows and their states
step_rows         steps that are under way
timeline          decisions
event_rows        events on the broker
approval_rows     approvals and answers
dead_letter_rows  dead letters
incident_rows     incidents and their causes
mesh_rows         partitions, agents' cards, commands
pause_rows        agents and routes that are paused
"""

from mesh.inspection.read_model.open_steps import OpenStep
from mesh.inspection.read_model.queries.approval_rows import (
    AnswerRow,
    ApprovalRow,
    answer,
    answers_of,
    approval,
    approval_asked,
    approval_request,
    approval_verdict,
    approval_with_ref,
    approvals,
    approvals_containing,
    as_decided,
    closed_approvals,
    last_approval,
)
from mesh.inspection.read_model.queries.dead_letter_rows import (
    UNSETTLED,
    DeadLetterRow,
    LetterFilter,
    count_dead_letters,
    dead_letter,
    dead_letters,
    dead_letters_containing,
)
from mesh.inspection.read_model.queries.event_rows import (
    EventRow,
    count_events,
    events,
    events_beginning,
    events_by_id,
)
from mesh.inspection.read_model.queries.incident_rows import (
    CauseRow,
    IncidentRow,
    causes,
    causes_containing,
    example,
    has_cause,
    incidents,
    incidents_of,
    kinds_of,
    routes_of,
)
from mesh.inspection.read_model.queries.mesh_rows import (
    CardRow,
    CommandRow,
    PartitionRow,
    cards,
    command,
    commands_of,
    count_commands_of,
    partitions,
)
from mesh.inspection.read_model.queries.pause_rows import PauseRow, pauses
from mesh.inspection.read_model.queries.rate_rows import RateRow, rates
from mesh.inspection.read_model.queries.step_rows import (
    Awaited,
    awaited_events,
    count_open_steps,
    count_steps_of_version,
    deadly_steps,
    halted_iterations,
    open_steps,
    open_steps_of,
    overdue_steps,
    running_by_agent,
)
from mesh.inspection.read_model.queries.timeline import (
    TimelineEntry,
    decisions_after,
    decisions_citing,
    decisions_of,
    is_cited,
    row_before_last,
)
from mesh.inspection.read_model.queries.workflow_rows import (
    WorkflowRow,
    count_asking,
    count_by_route,
    count_workflows,
    has_workflow,
    paused_workflows,
    search_attributes,
    workflow_row,
    workflow_state,
    workflows,
    workflows_containing,
)

__all__ = [
    "UNSETTLED",
    "AnswerRow",
    "ApprovalRow",
    "Awaited",
    "CardRow",
    "CauseRow",
    "CommandRow",
    "DeadLetterRow",
    "EventRow",
    "IncidentRow",
    "LetterFilter",
    "OpenStep",
    "PartitionRow",
    "PauseRow",
    "RateRow",
    "TimelineEntry",
    "WorkflowRow",
    "answer",
    "answers_of",
    "approval",
    "approval_asked",
    "approval_request",
    "approval_verdict",
    "approval_with_ref",
    "approvals",
    "approvals_containing",
    "as_decided",
    "awaited_events",
    "cards",
    "causes",
    "causes_containing",
    "closed_approvals",
    "command",
    "commands_of",
    "count_asking",
    "count_by_route",
    "count_commands_of",
    "count_dead_letters",
    "count_events",
    "count_open_steps",
    "count_steps_of_version",
    "count_workflows",
    "dead_letter",
    "dead_letters",
    "dead_letters_containing",
    "deadly_steps",
    "decisions_after",
    "decisions_citing",
    "decisions_of",
    "events",
    "events_beginning",
    "events_by_id",
    "example",
    "halted_iterations",
    "has_cause",
    "has_workflow",
    "incidents",
    "incidents_of",
    "is_cited",
    "kinds_of",
    "last_approval",
    "open_steps",
    "open_steps_of",
    "overdue_steps",
    "partitions",
    "paused_workflows",
    "pauses",
    "rates",
    "routes_of",
    "row_before_last",
    "running_by_agent",
    "search_attributes",
    "workflow_row",
    "workflow_state",
    "workflows",
    "workflows_containing",
]
