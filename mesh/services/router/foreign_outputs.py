"""Outputs of agents that do not check their outputs themselves, held against their cards.

The runtime of this package lets no output out that is not what its agent declares. An agent in
another language may. Without this, the next step's agent would refuse its input, and be blamed.

Owns the rule. It is applied to a result before it is decided on, so the log has a failed attempt.
"""

from msgspec.structs import replace

from mesh.core import ids
from mesh.core.inputs import ResultReceived, TaskError
from mesh.core.schemas import why_unfit
from mesh.core.state import Directory, PartitionState


def held_to_card(given: ResultReceived, state: PartitionState, directory: Directory) -> ResultReceived:
    """The result, or the failure that it is if its output is not what the agent's card promises.

    Replicas whose cards differ promise one of several outputs; any of them will do.
    """
    if not directory.promised or given.status != "succeeded":
        return given
    agent = _agent_of(given, state)
    problems = []
    for schema in directory.promised.get(agent, ()):
        problem = why_unfit(schema, given.output, "the output", at="output")
        if not problem:
            return given
        problems.append(problem)
    if not problems:
        return given
    message = f"agent {agent} gave an output that is not what its card promises: {problems[0]}"
    error = TaskError(kind="output_invalid", message=message, retryable=False)
    return replace(given, status="failed", output=None, error=error)


def _agent_of(given: ResultReceived, state: PartitionState) -> str:
    """The agent that the task went to."""
    parsed, workflow = ids.parse_step_id(given.task_id), state.workflows.get(given.workflow_id)
    step = workflow.steps.get(parsed.step) if workflow is not None and parsed is not None else None
    return step.agent if step is not None else given.agent
