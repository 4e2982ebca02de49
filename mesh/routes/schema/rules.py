"""The rules that join several keys of a mapping, as far as a JSON Schema can say them.

The compiler has all such rules of the route language, with messages; these only help editors. Each
is found by the name of the table that it belongs to.
"""

from typing import Any, Final, get_args

from mesh.core.limits import AGENT
from mesh.core.route import OnExpiry
from mesh.routes.keys import AGENT_KINDS, BUDGET, KINDS, LIMIT, STEP
from mesh.routes.step_keys import EVENT_ONLY


def _one_of(*kinds: str) -> list[Any]:
    return [{"required": [kind]} for kind in kinds]


def _not_for(kind: str | None) -> dict[str, bool]:
    """The keys of tasks and calls that another kind of step does not take."""
    return {
        name: False
        for name, key in STEP.keys.items()
        if key.of and name not in KINDS and (kind is None or kind not in key.of)
    }


# A limit can't have the name under which agents' own limits are kept.
LIMIT_NAME: Final = {"not": {"const": AGENT}}

RULES: Final[dict[str, dict[str, Any]]] = {
    "route": {
        "dependencies": {"on_repeat": ["on"]},
        "if": {"properties": {"on": {"required": ["schedule"]}}, "required": ["on"]},
        "then": {"properties": {"key": False, "on_repeat": False}},
    },
    "on": {
        "oneOf": _one_of("type", "schedule"),
        "dependencies": {"if": ["type"], "timezone": ["schedule"]},
    },
    "budget": {
        "anyOf": _one_of(*(key for key in BUDGET.keys if key not in {"on_exhausted", "role", "deadline"})),
        "if": {"required": ["on_exhausted"], "properties": {"on_exhausted": {"const": "ask"}}},
        "then": {"required": ["role"]},
        "else": {"properties": {"role": False, "deadline": False}},
    },
    "limits": {"anyOf": _one_of(*LIMIT.keys)},
    "step": {
        "oneOf": _one_of(*KINDS),
        "dependencies": {"end": {"properties": {"alias": False}}},
        "if": {"anyOf": _one_of(*AGENT_KINDS)},
        "then": {"required": ["input"]},
        "else": {
            "if": {"required": ["workflow"]},
            "then": {"required": ["input"], "properties": _not_for("workflow")},
            "else": {
                "if": {"required": ["approval"]},
                "then": {"properties": _not_for("approval")},
                "else": {"properties": _not_for(None)},
            },
        },
    },
    "needs": {
        "oneOf": [{"required": ["any"]}, {"required": ["count", "of"]}, {"required": ["first_of"]}],
        "dependencies": {"count": ["of"], "of": ["count"]},
    },
    "approval": {
        "anyOf": [
            *_one_of("role", "people"),
            {"required": ["quorum"], "properties": {"quorum": {"type": "array"}}},
        ],
        "not": {"required": ["role", "people"]},
        "dependencies": {"rejects": ["choices"]},
        "if": {"required": ["choices"]},
        "else": {"properties": {"on_expiry": {"enum": list(get_args(OnExpiry))}}},
    },
    "working": {"oneOf": _one_of("working", "working_days")},
    "quorum": {"oneOf": _one_of("role", "people")},
    "to": {"oneOf": _one_of("role", "people")},
    "addressee": {"oneOf": _one_of("agent", "role", "people")},
    "not": {"oneOf": _one_of("voters_of", "people")},
    "undo": {"oneOf": _one_of(*AGENT_KINDS)},
    "wait": {
        "oneOf": _one_of("until", "event"),
        "dependencies": {key: ["event"] for key in EVENT_ONLY} | {"alias": ["event", "key"]},
    },
    "end": {
        "if": {"properties": {"status": {"const": "completed"}}},
        "else": {"properties": {"output": False}},
    },
}
