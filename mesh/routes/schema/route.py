"""The JSON Schema of a route document, for editors: completion, hovers and red lines while a file
is written.

Owns no rule: names, keys, bounds, choices and defaults are taken from `mesh.routes.compiler` and
the modules it calls, which stay the judge (a schema can't know whether a step exists or an
expression parses). It promises one direction: what `compile_route` takes, the schema takes. A key
that the compiler learns must get its line in a table here, or the schema can't be made. A step has
its own tables, in `steps`. `mesh routes schema` prints the schema, and docs/route.schema.json is
held to it by a test.
"""

from typing import Final, get_args

from mesh.core.limits import AGENT
from mesh.core.route import OnRepeat
from mesh.core.schedules import Schedule
from mesh.routes import budgets, limits
from mesh.routes import compiler as language
from mesh.routes.schema.steps import step_schema
from mesh.routes.schema.values import (
    EXPRESSION,
    TEXT,
    Schema,
    Shapes,
    amount,
    choice,
    duration,
    mapping,
    name,
    whole,
)
from mesh.routes.triggers import TRIGGER_KEYS

# the newest that editors' YAML support covers as a whole
DIALECT: Final = "http://json-schema.org/draft-07/schema#"


def route_schema() -> Schema:
    """The schema of one document.

    Raises `KeyError` where the compiler knows a key that no table here describes, or the other way
    round.
    """
    return {
        "$schema": DIALECT,
        "title": "Route",
        "description": "Which events start a workflow, and who works on it in which order (docs/routes.md).",
        **mapping(language.ROUTE_KEYS, _route(), required=("route", "steps")),
        "dependencies": {"on_repeat": ["on"]},
        "if": {"properties": {"on": {"required": ["schedule"]}}, "required": ["on"]},
        "then": {"properties": {"key": False, "on_repeat": False}},
    }


def _route() -> Shapes:
    return {
        "route": {
            **name(),
            "description": "The route's name: one route of a name, and the first part of its workflows' ids.",
        },
        "on": {
            **mapping(TRIGGER_KEYS, _trigger()),
            "oneOf": [{"required": ["type"]}, {"required": ["schedule"]}],
            "dependencies": {"if": ["type"], "timezone": ["schedule"]},
            "description": "Which events start a workflow, or which times. Without it none do: steps of other routes call it.",
        },
        "key": {
            **TEXT,
            "description": "What the workflow is about: a template on `event`. Without it, the event's source and id.",
            "examples": ["${{ event.subject }}"],
        },
        "on_repeat": {
            **choice(get_args(OnRepeat)),
            "description": "What a start means whose id had a workflow that has ended.",
        },
        "closed_retention": {
            **duration(language.CLOSED_RETENTION_S),
            "description": "How long the id of an ended workflow is remembered.",
        },
        "keep_events": {
            **duration(language.KEEP_EVENTS_S),
            "description": "How long an event that a step will wait for is kept, if it comes before the workflow starts.",
        },
        "budget": {
            **mapping(budgets.BUDGET_KEYS, _budget()),
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
            "propertyNames": {**name(), "not": {"const": AGENT}},
            "additionalProperties": {
                **mapping(limits.LIMIT_KEYS, _limit()),
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
            "propertyNames": name(language.STEP_NAME.pattern),
            "additionalProperties": step_schema(),
        },
        "output": {
            "description": "A template: the data of the outcome. Without it, the outputs of the steps that nobody needs."
        },
    }


def _trigger() -> Shapes:
    return {
        "type": {
            **TEXT,
            "description": "The CloudEvents type.",
            "examples": ["com.github.issues.opened"],
        },
        "if": {
            **EXPRESSION,
            "description": "A guard: an expression on `event`. False: the route lets the event pass.",
        },
        "schedule": {
            **TEXT,
            "description": "The times that start a workflow, as cron has it: minute, hour, day of the month, month, day of the week.",
            "examples": ["0 9 * * 1-5"],
        },
        "timezone": {
            **TEXT,
            "description": "On whose clocks, by the name of the IANA time zone database.",
            "default": Schedule(cron="").timezone,
            "examples": ["Europe/Berlin"],
        },
    }


def _budget() -> Shapes:
    return {
        "tokens": amount("Tokens, by the results' usage."),
        "usd": amount("Money, by the results' usage."),
        "hops": amount("Tasks sent, each attempt one."),
        "time": {**duration(None), "description": "From the start."},
        "on_exhausted": {
            **choice(("fail", "ask")),
            "description": "The workflow fails, or somebody is asked for more.",
        },
        "role": {**TEXT, "description": "Who may grant more.", "examples": ["lead"]},
        "deadline": {**duration(None), "description": "For the answer; after it the answer is no."},
    }


def _limit() -> Shapes:
    return {
        "concurrency": {**whole(limits.MOST), "description": "So many tasks at once."},
        "rate": {
            "type": "string",
            "pattern": f"^{limits.RATE.pattern}$",
            "description": "So many tasks in any such time.",
            "examples": ["100/1m", "5/1s"],
        },
    }
