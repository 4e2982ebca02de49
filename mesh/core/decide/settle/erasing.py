"""An operator's `erase`: the keys of a private workflow are deleted, and with them its payloads.

The command names the keys, which its sender has from the topic of keys: a decision knows none. It
may come for a workflow that is forgotten, and again for one that is erased: what came to it since
is sealed with a key of its own.
"""

from typing import cast

from mesh.core.decide.draft import Draft
from mesh.core.decide.settle.refusing import accept_command, refuse_command
from mesh.core.events import EndStatus, PayloadsErased
from mesh.core.inputs import CommandGiven
from mesh.core.state import Workflow


def on_erase(draft: Draft, given: CommandGiven) -> None:
    workflow = draft.workflow
    if workflow is not None and workflow.status in ("running", "expected", "standing"):
        refuse_command(draft, given, "running", f"{given.workflow_id} has not ended: cancel it first")
    elif workflow is not None and not workflow.private:
        message = f"{given.workflow_id} began under a version of its route without `private: true`: it is not sealed"
        refuse_command(draft, given, "not_private", message)
    elif not given.keys:
        refuse_command(draft, given, "no_keys", f"no key of {given.workflow_id} is left: nothing of it can be read")
    elif not given.reason:
        refuse_command(draft, given, "no_reason", "an erasure needs a reason: it is all that people can read later")
    else:
        accept_command(draft, given)
        draft.add(_erased(given, workflow))


def _erased(given: CommandGiven, workflow: Workflow | None) -> PayloadsErased:
    if workflow is None:
        return PayloadsErased(by=given.by, reason=given.reason, keys=given.keys)
    event = workflow.cloud_event
    return PayloadsErased(
        by=given.by,
        reason=given.reason,
        keys=given.keys,
        run_id=workflow.run_id,
        route=workflow.route,
        digest=workflow.digest,
        key=workflow.key,
        status=cast("EndStatus", workflow.status),
        started_at_ms=workflow.started_at_ms,
        ended_at_ms=workflow.ended_at_ms or 0,
        forget_at_ms=workflow.forget_at_ms or 0,
        trace_id=workflow.trace_id,
        earlier_runs=workflow.earlier_runs,
        event_id=str(event.get("id", "")),
        event_source=str(event.get("source", "")),
        event_type=str(event.get("type", "")),
    )
