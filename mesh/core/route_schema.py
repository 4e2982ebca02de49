"""The JSON Schema of a route document, for editors: completion, hovers and red lines while a file is written.

Owns no rule: names, keys, bounds, choices and defaults are taken from `route_compile`, which stays the judge (a schema can't know whether a step exists or an expression
parses). It promises one direction: what `compile_route` takes, the schema takes. A key that the compiler learns must get its line in a table here, or the schema can't be made.
`mesh routes schema` prints it, and docs/route.schema.json is held to it by a test.
"""

from typing import Any, Final, get_args

from mesh.core import route_compile as language
from mesh.core import route_kinds as kinds
from mesh.core import route_limits as limits
from mesh.core import route_problems as problems
from mesh.core.limits import AGENT
from mesh.core.route import HandOver, OnExhausted, OnExpiry, OnLimit, OnRepeat, OnTimeout, Retry
from mesh.core.schedules import Schedule

__all__ = ["DIALECT", "route_schema"]

DIALECT: Final = "http://json-schema.org/draft-07/schema#"  # the newest that editors' YAML support covers as a whole
_Schema = dict[str, Any]
_Shapes = dict[str, _Schema]

_TEXT: Final[_Schema] = {"type": "string", "pattern": r"\S"}
_EXPRESSION: Final[_Schema] = {"type": "string", "pattern": r"^(?!\s*\$\{\{)[\s\S]*\S"}
_LIST: Final[_Schema] = {"type": ["string", "array"]}
_SAMPLES: Final = ("30s", "5m", "24h", "7d")


def route_schema() -> _Schema:
    """The schema of one document. Raises `KeyError` where the compiler knows a key that no table here describes, or the other way round."""
    return {
        "$schema": DIALECT,
        "title": "Route",
        "description": "Which events start a workflow, and who works on it in which order (docs/routes.md).",
        **_mapping(language.ROUTE_KEYS, _route(), required=("route", "steps")),
        "dependencies": {"on_repeat": ["on"]},
        "if": {"properties": {"on": {"required": ["schedule"]}}, "required": ["on"]},
        "then": {"properties": {"key": False, "on_repeat": False}},
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
            **_mapping(language.TRIGGER_KEYS, _trigger()),
            "oneOf": [{"required": ["type"]}, {"required": ["schedule"]}],
            "dependencies": {"if": ["type"], "timezone": ["schedule"]},
            "description": "Which events start a workflow, or which times. Without it none do: steps of other routes call it.",
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
        "keep_events": {
            **_duration(language.KEEP_EVENTS_S),
            "description": "How long an event that a step will wait for is kept, if it comes before the workflow starts.",
        },
        "budget": {
            **_mapping(kinds.BUDGET_KEYS, _budget()),
            "anyOf": [{"required": [limit]} for limit in ("tokens", "usd", "hops", "time")],
            "if": {"required": ["on_exhausted"], "properties": {"on_exhausted": {"const": "ask"}}},
            "then": {"required": ["role"]},
            "else": {"properties": {"role": False, "deadline": False}},
            "description": "What a run may spend.",
        },
        "limits": {
            "type": "object",
            "description": "Limits by name. Routes that name the same one share it, over all routers.",
            "minProperties": 1,
            "propertyNames": {**_name(limits.NAME.pattern), "not": {"const": AGENT}},
            "additionalProperties": {
                **_mapping(limits.LIMIT_KEYS, _limit()),
                "minProperties": 1,
            },
        },
        "priority": {
            "description": "Higher goes first where tasks wait for the slot of a limit: a number, or a template on `event` that gives one.",
            "anyOf": [{"type": "number"}, {"type": "string", "minLength": 1}],
            "default": 0,
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
        "schedule": {
            **_TEXT,
            "description": "The times that start a workflow, as cron has it: minute, hour, day of the month, month, day of the week.",
            "examples": ["0 9 * * 1-5"],
        },
        "timezone": {
            **_TEXT,
            "description": "On whose clocks, by the name of the IANA time zone database.",
            "default": Schedule(cron="").timezone,
            "examples": ["Europe/Berlin"],
        },
    }


def _step() -> _Schema:
    step = _mapping(language.STEP_KEYS, _step_keys())
    foreign = dict.fromkeys(language.AGENT_KEYS, False)
    not_called: _Schema = {key: False for key in language.AGENT_KEYS if key not in language.CALL_KEYS}
    return {
        **step,
        "oneOf": [{"required": [kind]} for kind in language.KINDS],
        "dependencies": {"end": {"properties": {"alias": False}}},
        "if": {"anyOf": [{"required": [kind]} for kind in language.AGENT_KINDS]},
        "then": {"required": ["input"]},
        "else": {
            "if": {"required": ["workflow"]},
            "then": {"required": ["input"], "properties": not_called},
            "else": {"properties": foreign},
        },
    }


def _step_keys() -> _Shapes:
    step = _name(language._STEP.pattern)  # noqa: SLF001 - as above
    return {
        "needs": {
            "description": "The steps that must be done first: a name, a list of names, or how many of a list.",
            "anyOf": [step, {"type": "array", "items": step, "uniqueItems": True}, _join(step)],
        },
        "if": {**_EXPRESSION, "description": "An expression. False: the step is skipped, and those who need it go on."},
        **_step_keys_of_agent(),
        "on_exhausted": {
            **_choice(get_args(OnExhausted)),
            "description": "When no attempt is left: an operator decides, the workflow fails, or it continues without this step.",
        },
        "for_each": {
            "description": "The step's work for each item of a list; `item` and `index` are there in its input.",
            "anyOf": [
                {**_LIST, "examples": ["${{ event.data.files }}"]},
                _mapping(kinds.FOR_EACH_KEYS, _for_each(), required=("items",)),
            ],
        },
        "reserve": {
            **_mapping(kinds.RESERVE_KEYS, _reserve()),
            "description": "What each attempt may take of the budget; of a workflow, what it may spend in all.",
        },
        "limit": {
            "description": "Which of the route's limits each attempt is under; with a key, one of its own for each value.",
            "anyOf": [
                _name(limits.NAME.pattern),
                _mapping(limits.STEP_LIMIT_KEYS, _step_limit(), required=("name",)),
            ],
        },
        "handover": {
            **_mapping(kinds.HANDOVER_KEYS, _handover(), required=("to",)),
            "description": "To whom the agent may pass the task on.",
        },
        "undo": {
            **_mapping(language.UNDO_KEYS, _undo(), required=("input",)),
            "oneOf": [{"required": [kind]} for kind in language.AGENT_KINDS],
            "description": "What undoes the step, if the workflow ends any way but completed.",
        },
        "wait": {
            "description": "Wait for so long, until a time, or for an event.",
            "anyOf": [
                _duration(None),
                {
                    **_mapping(kinds.WAIT_KEYS, _wait(step)),
                    "oneOf": [{"required": ["until"]}, {"required": ["event"]}],
                    "dependencies": {key: ["event"] for key in kinds._EVENT_ONLY} | {"alias": ["event", "key"]},  # noqa: SLF001 - as above
                },
            ],
        },
        "value": {"description": "A template: the step's output, and nobody is asked."},
        "emit": {
            **_mapping(kinds.EMIT_KEYS, _emit(), required=("type",)),
            "description": "A CloudEvent goes out to the events topic.",
        },
        "end": {
            "description": "The workflow ends here; what is still under way is cancelled.",
            "anyOf": [
                {"enum": list(kinds.END_STATUSES)},
                {
                    **_mapping(kinds.END_KEYS, _end(), required=("status",)),
                    "if": {"properties": {"status": {"const": "completed"}}},
                    "else": {"properties": {"output": False}},
                },
            ],
        },
        "repeat": {
            **_mapping(kinds.REPEAT_KEYS, _repeat(step), required=("until", "limit")),
            "description": "A loop: when this step is done and `until` is false, everything from `from` on is done again.",
        },
        "alias": {
            **_TEXT,
            "description": "A template: once the step has succeeded, events that wait for this alias find the workflow by it.",
            "examples": ["${{ steps.charge.payment_id }}"],
        },
        "approval": {
            **_mapping(language.APPROVAL_KEYS, _approval(), required=("ask", "payload", "role")),
            "description": "A question to a person.",
        },
    }


def _step_keys_of_agent() -> _Shapes:
    return {
        "agent": {**_name(language._NAME.pattern), "description": "The agent that does the work."},  # noqa: SLF001 - as above
        "capability": {
            **_name(language._NAME.pattern),  # noqa: SLF001 - as above
            "description": "A contract: whichever agent is registered for it does the work.",
            "examples": ["translate"],
        },
        "input": {"description": "A template: what the agent gets, or the `event.data` of the called workflow."},
        "timeout": {
            **_duration(language.TIMEOUT_S),
            "description": "From dispatch to result; of a workflow, from call to end, and by default without end.",
        },
        "workflow": {
            **_name(language._NAME.pattern),  # noqa: SLF001 - as above
            "description": "The route that is called: the step is a whole workflow of it.",
        },
        "start_timeout": {**_duration(None), "description": "From dispatch until an agent has begun it."},
        "run_timeout": {**_duration(None), "description": "From its begin to its result."},
        "heartbeat": {
            **_duration(None),
            "description": "The longest silence of the agent while it runs; then it is taken for dead, and the attempt has failed.",
        },
        "retry": {
            **_mapping(language.RETRY_KEYS, _retry()),
            "description": "How often and when a failed attempt is made again.",
        },
    }


def _join(step: _Schema) -> _Schema:
    some: _Schema = {"type": "array", "items": step, "uniqueItems": True, "minItems": 1}
    shapes: _Shapes = {
        "any": {**some, "description": "One of them must succeed; the others go on."},
        "count": {"type": "integer", "minimum": 1, "description": "So many of `of` must succeed."},
        "of": some,
        "first_of": {**some, "description": "One of them must succeed; then the others are cancelled."},
    }
    ways = [{"required": ["any"]}, {"required": ["count", "of"]}, {"required": ["first_of"]}]
    together = {"count": ["of"], "of": ["count"]}
    return {**_mapping(kinds.JOIN_KEYS, shapes), "oneOf": ways, "dependencies": together}


def _whole(high: int, default: int | None = None) -> _Schema:
    schema: _Schema = {"type": "integer", "minimum": 1, "maximum": high}
    return schema if default is None else {**schema, "default": default}


def _for_each() -> _Shapes:
    return {
        "items": {**_LIST, "description": "A template that gives a list.", "examples": ["${{ event.data.files }}"]},
        "concurrency": {
            **_whole(kinds.MAX_CONCURRENCY, kinds.CONCURRENCY),
            "description": "So many items at once, at the most.",
        },
        "tolerate": {
            "description": "How many items may fail: a number, a part, or all.",
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": f"^{kinds._PERCENT.pattern}$"},  # noqa: SLF001 - the grammar has one home
                {"const": "all"},
            ],
            "default": 0,
            "examples": ["10%"],
        },
    }


def _amount(description: str) -> _Schema:
    return {"type": "number", "minimum": 0, "maximum": kinds.MAX_AMOUNT, "description": description}


def _budget() -> _Shapes:
    return {
        "tokens": _amount("Tokens, by the results' usage."),
        "usd": _amount("Money, by the results' usage."),
        "hops": _amount("Tasks sent, each attempt one."),
        "time": {**_duration(None), "description": "From the start."},
        "on_exhausted": {
            **_choice(("fail", "ask")),
            "description": "The workflow fails, or somebody is asked for more.",
        },
        "role": {**_TEXT, "description": "Who may grant more.", "examples": ["lead"]},
        "deadline": {**_duration(None), "description": "For the answer; after it the answer is no."},
    }


def _limit() -> _Shapes:
    return {
        "concurrency": {**_whole(limits.MOST), "description": "So many tasks at once."},
        "rate": {
            "type": "string",
            "pattern": f"^{limits.RATE.pattern}$",
            "description": "So many tasks in any such time.",
            "examples": ["100/1m", "5/1s"],
        },
    }


def _step_limit() -> _Shapes:
    return {
        "name": {**_name(limits.NAME.pattern), "description": "One of the route's `limits`."},
        "key": {**_TEXT, "description": "A template on `event`.", "examples": ["${{ event.data.tenant }}"]},
    }


def _reserve() -> _Shapes:
    return {"tokens": _amount("Tokens."), "usd": _amount("Money.")}


def _handover() -> _Shapes:
    agent = _name(language._NAME.pattern)  # noqa: SLF001 - as above
    usual = HandOver(to=frozenset())
    return {
        "to": {
            "description": "Agents: a name, or a list of names.",
            "anyOf": [agent, {"type": "array", "items": agent, "minItems": 1}],
        },
        "hops": {**_whole(kinds.MAX_HOPS, usual.hops), "description": "So often at the most."},
    }


def _undo() -> _Shapes:
    step = _step_keys_of_agent()
    return {key: step[key] for key in language.UNDO_KEYS}


def _wait(step: _Schema) -> _Shapes:
    return {
        "until": {**_TEXT, "description": "A template that gives a time, such as 2026-11-24T09:00:00Z."},
        "event": {**_TEXT, "description": "The CloudEvents type that is awaited.", "examples": ["com.example.paid"]},
        "alias": {
            **step,
            "description": "The step by whose alias the event finds the workflow; `key` makes its value of the event.",
        },
        "key": {
            **_TEXT,
            "description": "The workflow's key, made of the awaited event. Without it, by the route's own key.",
        },
        "if": {
            **_EXPRESSION,
            "description": "Which event it must be: `event` is the one that came, `start` the one that started the workflow.",
        },
        "timeout": {
            "description": "How long to wait at the most: a duration, or `never`.",
            "anyOf": [_duration(None), {"const": "never"}],
        },
        "on_timeout": {**_choice(get_args(OnTimeout)), "description": "What it means that no event came."},
    }


def _emit() -> _Shapes:
    return {
        "type": {**_TEXT, "description": "The CloudEvents type, a template.", "examples": ["com.example.done"]},
        "subject": {**_TEXT, "description": "The CloudEvents subject, a template."},
        "data": {"description": "What the event carries, a template."},
    }


def _end() -> _Shapes:
    return {
        "status": {"enum": list(kinds.END_STATUSES), "description": "As what the workflow ends."},
        "reason": {**_TEXT, "description": "Why, a template."},
        "output": {"description": "The outcome's data, a template."},
    }


def _repeat(step: _Schema) -> _Shapes:
    return {
        "from": {**step, "description": "The step that the loop goes back to; without it, this one alone is repeated."},
        "until": {**_EXPRESSION, "description": "When the loop is done."},
        "limit": {**_whole(kinds.MAX_ROUNDS), "description": "So many rounds at the most, the first too."},
        "on_limit": {**_choice(get_args(OnLimit)), "description": "What it means that the last round was not enough."},
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
