"""The keys of the route language, in one table.

For each key: its name, what it holds, its default, its bounds, and what it means.

Three things are made of it, so they can't differ: the compiler's checks of names and types (through
`mesh.routes.problems.Part`), the JSON Schema of route files, and the tables of
docs/route-reference.md (both by `mesh.routes.schema`). It holds no rule that needs more than one
key: those are the compiler's, and the few of them that a schema can say are in
`mesh.routes.schema.rules`.
"""

import re
from typing import Final, get_args

from msgspec.structs import replace

from mesh.core.route import OnExhausted, OnRepeat
from mesh.core.schedules import Schedule
from mesh.core.searching import MOST as MOST_ATTRIBUTES
from mesh.core.tool_approvals import MOST_ASKED
from mesh.routes.step_keys import (
    AMOUNT,
    APPROVAL,
    EMIT,
    END,
    FILES,
    FOR_EACH,
    HANDOVER,
    JOIN,
    REPEAT,
    REQUESTER,
    RESERVE,
    RETRY,
    STEP_LIMIT,
    WAIT,
)
from mesh.routes.values import (
    A_DURATION,
    A_NAME,
    A_STEP,
    A_TEXT,
    A_TEXT_TEMPLATE,
    STEP_NAME,
    Choice,
    Expression,
    Key,
    ListTemplate,
    Name,
    Named,
    Names,
    Number,
    OneOf,
    Pattern,
    Table,
    Template,
    Text,
    Texts,
    Truth,
    Whole,
)

# --- the kinds of step ----------------------------------------------------------------------------

KINDS: Final = ("agent", "capability", "approval", "workflow", "wait", "value", "emit", "end")
AGENT_KINDS: Final = ("agent", "capability")
_TASK: Final = AGENT_KINDS
_TASK_OR_CALL: Final = (*AGENT_KINDS, "workflow")

# --- bounds ---------------------------------------------------------------------------------------

MOST: Final = 1_000_000  # of a limit's slots, or of its tasks in one period
RATE: Final = re.compile(r"([1-9][0-9]{0,6})/([0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))")


# --- a step ---------------------------------------------------------------------------------------

_AGENT_KEYS: Final = {
    "agent": Key(kind=A_NAME, text="The agent that does the work.", of=("agent",)),
    "capability": Key(
        kind=A_NAME,
        text="A contract. Any agent that is registered for it may get the task.",
        examples=("translate",),
        of=("capability",),
        see="capabilities",
    ),
    "input": Key(
        kind=Template(),
        text="What the agent gets; of a called workflow, its `event.data`.",
        is_required=True,
        of=_TASK_OR_CALL,
    ),
    "timeout": Key(
        kind=A_DURATION,
        text="The time from dispatch to result; of a workflow, from call to end.",
        default=300.0,
        otherwise="`start_timeout` and `run_timeout` together, if that is longer; of a workflow, no time-out",
        of=_TASK_OR_CALL,
        see="time-outs",
    ),
    "start_timeout": Key(
        kind=A_DURATION, text="The time from dispatch until an agent has begun the task.", of=_TASK, see="time-outs"
    ),
    "run_timeout": Key(
        kind=A_DURATION, text="The time from when the agent began to its result.", of=_TASK, see="time-outs"
    ),
    "heartbeat": Key(
        kind=A_DURATION,
        text="The longest silence of the agent while it runs. After it, the attempt has failed.",
        of=_TASK,
        see="time-outs",
    ),
    "retry": Key(
        kind=RETRY,
        text="How often, and after which pause, a failed attempt is repeated.",
        otherwise="the defaults of its keys",
        example="retry: {attempts: 3, backoff: 1s}",
        of=_TASK,
    ),
}
UNDO: Final = Table(
    name="undo",
    keys={name: replace(key, of=()) for name, key in _AGENT_KEYS.items()},
)
_AGENTS: Final = {"ask", "payload"}  # what the agent says itself
APPROVE: Final = Table(
    name="approve",
    keys={
        **{name: key for name, key in APPROVAL.keys.items() if name not in _AGENTS},
        "payload_schema": replace(APPROVAL.keys["payload_schema"], otherwise="any payload"),
        "limit": Key(kind=Whole(high=MOST_ASKED), text="How many approvals one task may ask for.", default=MOST_ASKED),
    },
)
"""Of a step whose agent may ask for approvals: the terms of these, whatever it asks."""
STEP: Final = Table(
    name="step",
    keys={
        "needs": Key(
            kind=OneOf(kinds=(A_STEP, Names(of=A_STEP, is_unique=True), JOIN)),
            text="The steps that must be done first: a name, a list of names, or how many of a list.",
            otherwise="the step starts at once",
        ),
        "if": Key(kind=Expression(), text="False skips the step; the steps that need it go on."),
        **_AGENT_KEYS,
        "on_exhausted": Key(
            kind=Choice(options=get_args(OnExhausted)),
            text="What happens when no attempt is left: an operator decides, the workflow fails, or it goes on without this step.",
            of=_TASK_OR_CALL,
        ),
        "for_each": Key(
            kind=OneOf(kinds=(ListTemplate(), FOR_EACH)),
            text="A list. The work is done for each item of it; the input, or the approval, may read `item` and `index`.",
            examples=FILES,
            of=(*_TASK_OR_CALL, "approval"),
        ),
        "handover": Key(
            kind=HANDOVER,
            text="The agents that this agent may pass the task on to.",
            example="handover: {to: [AGENT, AGENT], hops: 3}",
            of=_TASK,
        ),
        "reserve": Key(
            kind=RESERVE,
            text="What each attempt may spend of the budget; of a workflow, what it may spend in all.",
            example="reserve: {tokens: 2000, usd: 0.02}",
            of=_TASK_OR_CALL,
        ),
        "limit": Key(
            kind=OneOf(kinds=(A_NAME, STEP_LIMIT)),
            text="Which of the route's `limits` each attempt is under.",
            of=_TASK,
        ),
        "undo": Key(
            kind=UNDO,
            text="A task that undoes the step if the workflow does not end as completed.",
            of=_TASK_OR_CALL,
        ),
        "approve": Key(
            kind=APPROVE,
            text="Lets the agent ask for approvals in the middle of its work, and says who decides.",
            otherwise="it can ask for none",
            example="approve: {role: dba, quorum: 2}",
            of=_TASK,
            see="approvals-that-an-agent-asks-for",
        ),
        "approval": Key(
            kind=APPROVAL,
            text="A question to a person.",
            example="approval: {ask: ..., payload: ..., role: ...}",
            of=("approval",),
        ),
        "workflow": Key(
            kind=A_NAME,
            text="The route that is called: the step is a whole workflow of it.",
            of=("workflow",),
            see="other-workflows",
        ),
        "wait": Key(
            kind=OneOf(kinds=(A_DURATION, WAIT)),
            text="Wait for some time, until a time, or for an event.",
            example="wait: 2d, wait: {until: ...} or wait: {event: TYPE}",
            of=("wait",),
        ),
        "value": Key(kind=Template(), text="A value that is computed: the step's output.", of=("value",)),
        "emit": Key(
            kind=EMIT,
            text="A CloudEvent that is sent to the events topic.",
            example="emit: {type: com.example.done, data: ...}",
            of=("emit",),
        ),
        "end": Key(
            kind=OneOf(kinds=(END.keys["status"].kind, END)),
            text="The workflow ends here; what is still under way is cancelled.",
            example="end: {status: completed, output: ...}",
            of=("end",),
        ),
        "repeat": Key(
            kind=REPEAT,
            text="A loop: when this step is done and `until` is false, all steps from `from` on are repeated.",
            example="repeat: {from: STEP, until: EXPRESSION, limit: 5}",
        ),
        "alias": Key(
            kind=A_TEXT_TEMPLATE,
            text="Once the step has succeeded, events that wait for this alias find the workflow by it.",
            examples=("${{ steps.charge.payment_id }}",),
            see="aliases",
        ),
    },
)

# --- the top --------------------------------------------------------------------------------------

TRIGGER: Final = Table(
    name="on",
    keys={
        "type": Key(
            kind=A_TEXT, text="The CloudEvents `type` that starts a workflow.", examples=("com.github.issues.opened",)
        ),
        "if": Key(
            kind=Expression(),
            text="A guard: an expression on `event`. If it is false or fails, the route ignores the event.",
        ),
        "schedule": Key(
            kind=A_TEXT,
            text="Instead of `type`: the times that start a workflow, in cron's form (minute, hour, day of the month, month, day of the week).",
            examples=("0 9 * * 1-5",),
            see="schedules",
        ),
        "timezone": Key(
            kind=A_TEXT,
            text="The time zone of `schedule`: a name of the IANA time zone database.",
            default=Schedule(cron="").timezone,
            examples=("Europe/Berlin",),
        ),
    },
)
BUDGET: Final = Table(
    name="budget",
    keys={
        "tokens": Key(kind=AMOUNT, text="Tokens, as the results' `usage` reports them."),
        "usd": Key(kind=AMOUNT, text="Money in US dollars, as the results' `usage` reports it."),
        "hops": Key(kind=AMOUNT, text="The number of tasks sent; each attempt is one."),
        "time": Key(kind=A_DURATION, text="The time from the start."),
        "on_exhausted": Key(
            kind=Choice(options=("fail", "ask")),
            text="What happens when it is not enough: the workflow fails, or people are asked for more.",
        ),
        "role": Key(
            kind=A_TEXT,
            text="With `ask`: who may grant more.",
            hint="who may grant more, such as role: lead",
            examples=("lead",),
        ),
        "deadline": Key(kind=A_DURATION, text="With `ask`: how long the question is open. After it the answer is no."),
    },
)
LIMIT: Final = Table(
    name="limits",
    keys={
        "concurrency": Key(kind=Whole(high=MOST), text="How many tasks may be under way at once."),
        "rate": Key(
            kind=Pattern(pattern=RATE.pattern, said="number and a time, such as `100/1m`"),
            text="How many tasks may be sent in any period of that length.",
            examples=("100/1m", "5/1s"),
        ),
    },
)
ROUTE: Final = Table(
    name="route",
    keys={
        "route": Key(
            kind=A_NAME,
            text="The route's name, and the first part of its workflows' ids. A name may be used once.",
            is_required=True,
            hint="route: NAME",
        ),
        "on": Key(
            kind=TRIGGER,
            text="Which events, or which times, start a workflow.",
            otherwise="none; steps of other routes call it",
            example="on: {type: com.github.issues.opened}",
        ),
        "key": Key(
            kind=A_TEXT_TEMPLATE,
            text="What the workflow is about: a template on `event` that gives a string, a number or a bool.",
            otherwise="the event's source and id",
            examples=("${{ event.subject }}",),
            see="ids",
        ),
        "requester": replace(REQUESTER, text=f"{REQUESTER.text} For approvals with `not: requester`."),
        "search": Key(
            kind=Texts(name=Name(said="name", pattern=STEP_NAME.pattern), most=MOST_ATTRIBUTES),
            text="By what people find its workflows: templates on `event`, evaluated once at the start.",
            example="search: {customer: '${{ event.data.customer }}'}",
            see="search-attributes",
        ),
        "private": Key(
            kind=Truth(),
            text="Whether what its workflows hold is sealed in the log, so that `mesh workflows erase` can erase it.",
            default=False,
            see="private-routes",
        ),
        "on_repeat": Key(
            kind=Choice(options=get_args(OnRepeat)),
            text="What happens at a start whose id belongs to a workflow that has ended.",
        ),
        "closed_retention": Key(
            kind=A_DURATION, text="How long the id of an ended workflow is remembered.", default=30 * 86_400.0
        ),
        "keep_events": Key(
            kind=A_DURATION,
            text="How long an event that a step will wait for is kept if it comes before the workflow starts.",
            default=86_400.0,
        ),
        "budget": Key(
            kind=BUDGET,
            text="What a run may spend.",
            example="budget: {tokens: 50000, usd: 1.5, time: 2h}",
        ),
        "limits": Key(
            kind=Named(name=A_NAME, table=LIMIT),
            text="Limits by name. All routes that name the same limit share it, over all routers.",
            example="limits: {openai: {concurrency: 10, rate: 100/1m}}",
        ),
        "priority": Key(
            kind=OneOf(kinds=(Number(), Text(is_template=True, may_be_blank=True))),
            text="Tasks with a higher number go first where tasks wait for a limit. A template is one on `event`.",
            default=0,
            see="limits",
        ),
        "steps": Key(
            kind=Named(name=A_STEP, table=STEP),
            text="The steps by name. Those without `needs` start at once.",
            is_required=True,
            example="steps: {NAME: {agent: NAME, input: ...}}",
            hint="steps: {NAME: {agent: NAME, input: ...}}",
        ),
        "output": Key(
            kind=Template(),
            text="The workflow's output.",
            otherwise="the outputs of the steps that no other step needs",
        ),
    },
)
