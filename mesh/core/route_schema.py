"""The JSON Schema of a route document, for editors: completion, hovers and red lines while a file is written.

Owns no rule: names, keys, bounds, choices and defaults are taken from `route_compile`, which stays the judge (a schema can't know whether a step exists or an expression
parses). It promises one direction: what `compile_route` takes, the schema takes. A key that the compiler learns must get its line in a table here, or the schema can't be made.
`mesh routes schema` prints it, and docs/route.schema.json is held to it by a test.
"""

from typing import Any, Final, get_args

from mesh.core import route_compile as language
from mesh.core import route_problems as problems
from mesh.core.route import OnExhausted, OnExpiry, OnRepeat, Retry

__all__ = ["DIALECT", "route_schema"]

DIALECT: Final = "http://json-schema.org/draft-07/schema#"  # the newest that editors' YAML support covers as a whole
_Schema = dict[str, Any]
_Shapes = dict[str, _Schema]

_TEXT: Final[_Schema] = {"type": "string", "pattern": r"\S"}
_EXPRESSION: Final[_Schema] = {"type": "string", "pattern": r"^(?!\s*\$\{\{)[\s\S]*\S"}
_SAMPLES: Final = ("30s", "5m", "24h", "7d")


def route_schema() -> _Schema:
    """The schema of one document. Raises `KeyError` where the compiler knows a key that no table here describes, or the other way round."""
    return {
        "$schema": DIALECT,
        "title": "Route",
        "description": "Which events start a workflow, and who works on it in which order (docs/routes.md).",
        **_mapping(language.ROUTE_KEYS, _route(), required=("route", "on", "steps")),
    }


def _mapping(keys: tuple[str, ...], shapes: _Shapes, *, required: tuple[str, ...] = ()) -> _Schema:
    if set(keys) != shapes.keys():
        raise KeyError(f"the compiler and the schema know different keys: {sorted(set(keys) ^ shapes.keys())}")
    mapping: _Schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {key: shapes[key] for key in keys},
    }
    return {**mapping, "required": list(required)} if required else mapping


# The tables ---------------------------------------------------------------------------------------------------------------------------


def _route() -> _Shapes:
    return {
        "route": {
            **_name(language._NAME.pattern),  # noqa: SLF001 - the grammar has one home, and this is its mirror
            "description": "The route's name: one route of a name, and the first part of its workflows' ids.",
        },
        "on": {
            **_mapping(language.TRIGGER_KEYS, _trigger(), required=("type",)),
            "description": "Which events start a workflow.",
        },
        "key": {
            **_TEXT,
            "description": "What the workflow is about: a template on `event`. Without it, the event's source and id.",
            "examples": ["${{ event.subject }}"],
        },
        "on_repeat": {
            **_choice(get_args(OnRepeat)),
            "description": "What a start means whose id had a workflow that has ended.",
        },
        "closed_retention": {
            **_duration(language.CLOSED_RETENTION_S),
            "description": "How long the id of an ended workflow is remembered.",
        },
        "steps": {
            "type": "object",
            "description": "The steps by name. Those without `needs` start at once.",
            "minProperties": 1,
            "propertyNames": _name(language._STEP.pattern),  # noqa: SLF001 - as above
            "additionalProperties": _step(),
        },
        "output": {
            "description": "A template: the data of the outcome. Without it, the outputs of the steps that nobody needs."
        },
    }


def _trigger() -> _Shapes:
    return {
        "type": {
            **_TEXT,
            "description": "The CloudEvents type.",
            "examples": ["com.github.issues.opened"],
        },
        "if": {
            **_EXPRESSION,
            "description": "A guard: an expression on `event`. False: the route lets the event pass.",
        },
    }


def _step() -> _Schema:
    step = _mapping(language.STEP_KEYS, _step_keys())
    foreign = ("agent", *language.AGENT_KEYS)
    return {
        **step,
        "if": {"required": ["approval"]},
        "then": {"properties": dict.fromkeys(foreign, False)},
        "else": {"required": ["agent", "input"]},
    }


def _step_keys() -> _Shapes:
    step = _name(language._STEP.pattern)  # noqa: SLF001 - as above
    return {
        "needs": {
            "description": "The steps that must be done first: a name, or a list of names.",
            "anyOf": [step, {"type": "array", "items": step, "uniqueItems": True}],
        },
        "if": {**_EXPRESSION, "description": "An expression. False: the step is skipped, and those who need it go on."},
        "agent": {**_name(language._NAME.pattern), "description": "The agent that does the work."},  # noqa: SLF001 - as above
        "input": {"description": "A template: what the agent gets."},
        "timeout": {**_duration(language.TIMEOUT_S), "description": "From dispatch to result."},
        "retry": {
            **_mapping(language.RETRY_KEYS, _retry()),
            "description": "How often and when a failed attempt is made again.",
        },
        "on_exhausted": {
            **_choice(get_args(OnExhausted)),
            "description": "When no attempt is left: an operator decides, or the workflow fails.",
        },
        "approval": {
            **_mapping(language.APPROVAL_KEYS, _approval(), required=("ask", "payload", "role")),
            "description": "A question to a person.",
        },
    }


def _retry() -> _Shapes:
    usual = Retry()
    kind: _Schema = {"type": "string", "minLength": 1}
    return {
        "attempts": {
            "type": "integer",
            "minimum": 1,
            "maximum": language.MAX_ATTEMPTS,
            "default": usual.attempts,
            "description": "All of them, the first too.",
        },
        "backoff": {**_duration(usual.backoff_s, zero=True), "description": "The wait before the second attempt."},
        "factor": {
            "type": "number",
            "minimum": 1,
            "maximum": 100,
            "default": usual.factor,
            "description": "Each further wait is so many times as long.",
        },
        "max_backoff": {**_duration(usual.max_backoff_s, zero=True), "description": "The longest wait."},
        "jitter": {
            "type": "number",
            "minimum": 0,
            "maximum": 0.99,
            "default": usual.jitter,
            "description": "Up to this part is taken off each wait.",
        },
        "non_retryable": {
            "description": "Error kinds that end the attempts at once: a list, or one.",
            "anyOf": [{"type": "string"}, {"type": "array", "items": kind}],
        },
    }


def _approval() -> _Shapes:
    return {
        "ask": {**_TEXT, "description": "The question, a template.", "examples": ["Post this reply?"]},
        "payload": {"description": "What is to be approved, a template.", "examples": ["${{ steps.draft }}"]},
        "role": {
            **_TEXT,
            "description": "Who may answer (approvers.yaml says who has it).",
            "examples": ["maintainer"],
        },
        "deadline": {
            "description": "A duration, or `never`.",
            "anyOf": [_duration(None), {"const": language._NEVER}],  # noqa: SLF001 - as above
            "default": language._NEVER,  # noqa: SLF001 - as above
        },
        "on_expiry": {**_choice(get_args(OnExpiry)), "description": "What the deadline means, if nobody has answered."},
        "payload_schema": {
            "type": "object",
            "description": "A JSON Schema that edits must meet. Without it, where `payload` is exactly `${{ steps.NAME }}`, that agent's output schema.",
        },
    }


# Values -------------------------------------------------------------------------------------------------------------------------------


def _name(pattern: str) -> _Schema:
    return {"type": "string", "pattern": f"^{pattern}$", "maxLength": problems.NAME_LENGTH}


def _choice(choices: tuple[str, ...]) -> _Schema:
    """The first is the default, as in `Part.choice`."""
    return {"enum": list(choices), "default": choices[0]}


def _duration(default_s: float | None, *, zero: bool = False) -> _Schema:
    some = "" if zero else "(?=.*[1-9])"
    schema: _Schema = {
        "type": "string",
        "pattern": f"^{some}{problems._DURATION.pattern}$",  # noqa: SLF001 - as above
        "examples": list(_SAMPLES),
    }
    return schema if default_s is None else {**schema, "default": _written(default_s)}


def _written(seconds: float) -> str:
    """A duration as one would write it: the largest unit that divides it."""
    units = problems._UNITS_S  # noqa: SLF001 - as above
    unit = max((name for name in units if seconds % units[name] == 0), key=lambda name: units[name], default="s")
    return f"{seconds / units[unit]:g}{unit}"
