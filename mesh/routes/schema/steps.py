"""The JSON Schema of a step: what it may be, and what may be said of it. `route` calls it."""

from typing import get_args

from mesh.core.route import HandOver, OnExhausted, OnExpiry, OnLimit, OnTimeout, Retry
from mesh.routes import budgets, limits, tasks
from mesh.routes import compiler as language
from mesh.routes import control_flow as kinds
from mesh.routes.approvals import APPROVAL_KEYS
from mesh.routes.problems import NEVER
from mesh.routes.schema.values import (
    EXPRESSION,
    LIST,
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


def step_schema() -> Schema:
    """The schema of one step. Raises `KeyError` as `route_schema` does."""
    foreign = dict.fromkeys(tasks.AGENT_KEYS, False)
    not_called: Schema = {key: False for key in tasks.AGENT_KEYS if key not in tasks.CALL_KEYS}
    return {
        **mapping(language.STEP_KEYS, _step_keys()),
        "oneOf": [{"required": [kind]} for kind in language.KINDS],
        "dependencies": {"end": {"properties": {"alias": False}}},
        "if": {"anyOf": [{"required": [kind]} for kind in tasks.AGENT_KINDS]},
        "then": {"required": ["input"]},
        "else": {
            "if": {"required": ["workflow"]},
            "then": {"required": ["input"], "properties": not_called},
            "else": {"properties": foreign},
        },
    }


def _step_keys() -> Shapes:
    step = name(language.STEP_NAME.pattern)
    return {
        "needs": {
            "description": "The steps that must be done first: a name, a list of names, or how many of a list.",
            "anyOf": [step, {"type": "array", "items": step, "uniqueItems": True}, _join(step)],
        },
        "if": {**EXPRESSION, "description": "An expression. False: the step is skipped, and those who need it go on."},
        **_step_keys_of_agent(),
        "on_exhausted": {
            **choice(get_args(OnExhausted)),
            "description": "When no attempt is left: an operator decides, the workflow fails, or it continues without this step.",
        },
        "for_each": {
            "description": "The step's work for each item of a list; `item` and `index` are there in its input.",
            "anyOf": [
                {**LIST, "examples": ["${{ event.data.files }}"]},
                mapping(kinds.FOR_EACH_KEYS, _for_each(), required=("items",)),
            ],
        },
        "reserve": {
            **mapping(budgets.RESERVE_KEYS, _reserve()),
            "description": "What each attempt may take of the budget; of a workflow, what it may spend in all.",
        },
        "limit": {
            "description": "Which of the route's limits each attempt is under; with a key, one of its own for each value.",
            "anyOf": [
                name(),
                mapping(limits.STEP_LIMIT_KEYS, _step_limit(), required=("name",)),
            ],
        },
        "handover": {
            **mapping(tasks.HANDOVER_KEYS, _handover(), required=("to",)),
            "description": "To whom the agent may pass the task on.",
        },
        "undo": {
            **mapping(tasks.UNDO_KEYS, _undo(), required=("input",)),
            "oneOf": [{"required": [kind]} for kind in tasks.AGENT_KINDS],
            "description": "What undoes the step, if the workflow ends any way but completed.",
        },
        "wait": {
            "description": "Wait for so long, until a time, or for an event.",
            "anyOf": [
                duration(None),
                {
                    **mapping(kinds.WAIT_KEYS, _wait(step)),
                    "oneOf": [{"required": ["until"]}, {"required": ["event"]}],
                    "dependencies": {key: ["event"] for key in kinds.EVENT_ONLY} | {"alias": ["event", "key"]},
                },
            ],
        },
        "value": {"description": "A template: the step's output, and nobody is asked."},
        "emit": {
            **mapping(kinds.EMIT_KEYS, _emit(), required=("type",)),
            "description": "A CloudEvent goes out to the events topic.",
        },
        "end": {
            "description": "The workflow ends here; what is still under way is cancelled.",
            "anyOf": [
                {"enum": list(kinds.END_STATUSES)},
                {
                    **mapping(kinds.END_KEYS, _end(), required=("status",)),
                    "if": {"properties": {"status": {"const": "completed"}}},
                    "else": {"properties": {"output": False}},
                },
            ],
        },
        "repeat": {
            **mapping(kinds.REPEAT_KEYS, _repeat(step), required=("until", "limit")),
            "description": "A loop: when this step is done and `until` is false, everything from `from` on is done again.",
        },
        "alias": {
            **TEXT,
            "description": "A template: once the step has succeeded, events that wait for this alias find the workflow by it.",
            "examples": ["${{ steps.charge.payment_id }}"],
        },
        "approval": {
            **mapping(APPROVAL_KEYS, _approval(), required=("ask", "payload", "role")),
            "description": "A question to a person.",
        },
    }


def _step_keys_of_agent() -> Shapes:
    return {
        "agent": {**name(), "description": "The agent that does the work."},
        "capability": {
            **name(),
            "description": "A contract: whichever agent is registered for it does the work.",
            "examples": ["translate"],
        },
        "input": {"description": "A template: what the agent gets, or the `event.data` of the called workflow."},
        "timeout": {
            **duration(tasks.TIMEOUT_S),
            "description": "From dispatch to result; of a workflow, from call to end, and by default without end.",
        },
        "workflow": {
            **name(),
            "description": "The route that is called: the step is a whole workflow of it.",
        },
        "start_timeout": {**duration(None), "description": "From dispatch until an agent has begun it."},
        "run_timeout": {**duration(None), "description": "From its begin to its result."},
        "heartbeat": {
            **duration(None),
            "description": "The longest silence of the agent while it runs; then it is taken for dead, and the attempt has failed.",
        },
        "retry": {
            **mapping(tasks.RETRY_KEYS, _retry()),
            "description": "How often and when a failed attempt is made again.",
        },
    }


def _join(step: Schema) -> Schema:
    some: Schema = {"type": "array", "items": step, "uniqueItems": True, "minItems": 1}
    shapes: Shapes = {
        "any": {**some, "description": "One of them must succeed; the others go on."},
        "count": {"type": "integer", "minimum": 1, "description": "So many of `of` must succeed."},
        "of": some,
        "first_of": {**some, "description": "One of them must succeed; then the others are cancelled."},
    }
    ways = [{"required": ["any"]}, {"required": ["count", "of"]}, {"required": ["first_of"]}]
    together = {"count": ["of"], "of": ["count"]}
    return {**mapping(kinds.JOIN_KEYS, shapes), "oneOf": ways, "dependencies": together}


def _for_each() -> Shapes:
    return {
        "items": {**LIST, "description": "A template that gives a list.", "examples": ["${{ event.data.files }}"]},
        "concurrency": {
            **whole(kinds.MAX_CONCURRENCY, kinds.CONCURRENCY),
            "description": "So many items at once, at the most.",
        },
        "tolerate": {
            "description": "How many items may fail: a number, a part, or all.",
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": f"^{kinds.PERCENT.pattern}$"},
                {"const": "all"},
            ],
            "default": 0,
            "examples": ["10%"],
        },
    }


def _step_limit() -> Shapes:
    return {
        "name": {**name(), "description": "One of the route's `limits`."},
        "key": {**TEXT, "description": "A template on `event`.", "examples": ["${{ event.data.tenant }}"]},
    }


def _reserve() -> Shapes:
    return {"tokens": amount("Tokens."), "usd": amount("Money.")}


def _handover() -> Shapes:
    agent = name()
    usual = HandOver(to=frozenset())
    return {
        "to": {
            "description": "Agents: a name, or a list of names.",
            "anyOf": [agent, {"type": "array", "items": agent, "minItems": 1}],
        },
        "hops": {**whole(tasks.MAX_HOPS, usual.hops), "description": "So often at the most."},
    }


def _undo() -> Shapes:
    step = _step_keys_of_agent()
    return {key: step[key] for key in tasks.UNDO_KEYS}


def _wait(step: Schema) -> Shapes:
    return {
        "until": {**TEXT, "description": "A template that gives a time, such as 2026-11-24T09:00:00Z."},
        "event": {**TEXT, "description": "The CloudEvents type that is awaited.", "examples": ["com.example.paid"]},
        "alias": {
            **step,
            "description": "The step by whose alias the event finds the workflow; `key` makes its value of the event.",
        },
        "key": {
            **TEXT,
            "description": "The workflow's key, made of the awaited event. Without it, by the route's own key.",
        },
        "if": {
            **EXPRESSION,
            "description": "Which event it must be: `event` is the one that came, `start` the one that started the workflow.",
        },
        "timeout": {
            "description": "How long to wait at the most: a duration, or `never`.",
            "anyOf": [duration(None), {"const": "never"}],
        },
        "on_timeout": {**choice(get_args(OnTimeout)), "description": "What it means that no event came."},
    }


def _emit() -> Shapes:
    return {
        "type": {**TEXT, "description": "The CloudEvents type, a template.", "examples": ["com.example.done"]},
        "subject": {**TEXT, "description": "The CloudEvents subject, a template."},
        "data": {"description": "What the event carries, a template."},
    }


def _end() -> Shapes:
    return {
        "status": {"enum": list(kinds.END_STATUSES), "description": "As what the workflow ends."},
        "reason": {**TEXT, "description": "Why, a template."},
        "output": {"description": "The outcome's data, a template."},
    }


def _repeat(step: Schema) -> Shapes:
    return {
        "from": {**step, "description": "The step that the loop goes back to; without it, this one alone is repeated."},
        "until": {**EXPRESSION, "description": "When the loop is done."},
        "limit": {**whole(kinds.MAX_ROUNDS), "description": "So many rounds at the most, the first too."},
        "on_limit": {**choice(get_args(OnLimit)), "description": "What it means that the last round was not enough."},
    }


def _retry() -> Shapes:
    usual = Retry()
    kind: Schema = {"type": "string", "minLength": 1}
    return {
        "attempts": {
            "type": "integer",
            "minimum": 1,
            "maximum": tasks.MAX_ATTEMPTS,
            "default": usual.attempts,
            "description": "All of them, the first too.",
        },
        "backoff": {**duration(usual.backoff_s, zero=True), "description": "The wait before the second attempt."},
        "factor": {
            "type": "number",
            "minimum": 1,
            "maximum": 100,
            "default": usual.factor,
            "description": "Each further wait is so many times as long.",
        },
        "max_backoff": {**duration(usual.max_backoff_s, zero=True), "description": "The longest wait."},
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


def _approval() -> Shapes:
    return {
        "ask": {**TEXT, "description": "The question, a template.", "examples": ["Post this reply?"]},
        "payload": {"description": "What is to be approved, a template.", "examples": ["${{ steps.draft }}"]},
        "role": {
            **TEXT,
            "description": "Who may answer (approvers.yaml says who has it).",
            "examples": ["maintainer"],
        },
        "deadline": {
            "description": "A duration, or `never`.",
            "anyOf": [duration(None), {"const": NEVER}],
            "default": NEVER,
        },
        "on_expiry": {**choice(get_args(OnExpiry)), "description": "What the deadline means, if nobody has answered."},
        "payload_schema": {
            "type": "object",
            "description": "A JSON Schema that edits must meet. Without it, where `payload` is exactly `${{ steps.NAME }}`, that agent's output schema.",
        },
    }
