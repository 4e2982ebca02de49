"""What a call of `Context.approve` comes to: the verdict that its task brought, or the question.

Apart from `mesh.agent.context`, because it needs JSON and pydantic, which `import mesh` does not.
"""

from typing import Any

import msgspec
from pydantic_core import to_jsonable_python

from mesh.agent.approval import Verdict
from mesh.core.json_values import digest
from mesh.core.tool_approvals import NAME_RULE, ToolVerdict, Wanted, is_tool_name, verdict_on
from mesh.errors import NonRetryable


def verdict_or_question(
    verdicts: tuple[ToolVerdict, ...],
    name: str,
    ask: str,
    payload: Any,
    payload_schema: dict[str, Any] | None = None,
) -> Verdict | Wanted:
    """Raises `NonRetryable` for a name or a payload that no question can have."""
    if not is_tool_name(name):
        raise NonRetryable(f"{name!r} is no name for ctx.approve: {NAME_RULE}", kind="approval_invalid")
    value = _as_json(name, payload)
    found = verdict_on(verdicts, name, digest(value))
    if found is None:
        return Wanted(name=name, question=ask, payload=value, payload_schema=payload_schema)
    is_edited = found.payload is not msgspec.UNSET
    return Verdict(
        approved=found.verdict == "approved",
        payload=found.payload if is_edited else value,
        choice=found.choice,
        by=found.by,
        reason=found.reason,
        edited=is_edited,
        expired=found.expired,
        form=found.form,
        approval_id=found.approval_id,
    )


def _as_json(name: str, payload: Any) -> Any:
    """The payload as JSON has it, as a reader of the record finds it."""
    try:
        return to_jsonable_python(payload, by_alias=True)
    except Exception as error:
        message = f"the payload of {name} can't be written as JSON: {type(error).__name__}: {error}"
        raise NonRetryable(message, kind="approval_invalid") from error
