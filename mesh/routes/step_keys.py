"""The keys of the mappings below a step.

Joins, loops, retries, approvals, waits and the rest. `mesh.routes.keys` has the step itself and the
top of a route.
"""

import re
from typing import Final, get_args

from msgspec.structs import replace

from mesh.core.approvals import LEASE_MS, MOST_EDITS, MOST_SEATS, Reasons
from mesh.core.calendars import MOST_DAYS
from mesh.core.questions import MOST_QUESTIONS, QUESTIONS
from mesh.core.route import ForEach, HandOver, OnExpiry, OnLimit, OnNobody, OnTimeout, Retry
from mesh.core.signing import LEVELS
from mesh.routes.expressions.compiler import compile_template
from mesh.routes.values import (
    A_NAME,
    A_STEP,
    A_TEXT,
    A_TEXT_TEMPLATE,
    NEVER,
    Choice,
    Duration,
    Expression,
    Key,
    ListTemplate,
    Names,
    Number,
    OneOf,
    Pattern,
    SchemaDocument,
    Several,
    Table,
    Template,
    Text,
    Truth,
    Whole,
    Word,
)

PERCENT: Final = re.compile(r"(100|[0-9]{1,2})%")

_STEPS: Final = Names(of=A_STEP, least=1, is_unique=True)
AMOUNT: Final = Number(low=0, high=1e12)
_DURATION_OR_NEVER: Final = OneOf(kinds=(Duration(), Word(word=NEVER)))
FILES: Final = ("${{ event.data.files }}",)

_RETRY: Final = Retry()
_HOPS: Final = HandOver(to=frozenset()).hops
_CONCURRENCY: Final = ForEach(items=compile_template(None)).concurrency

# --- the tables -----------------------------------------------------------------------------------

JOIN: Final = Table(
    name="needs",
    keys={
        "any": Key(kind=_STEPS, text="One of them must succeed; the others go on."),
        "count": Key(kind=Whole(), text="How many of `of` must succeed; the others go on."),
        "of": Key(kind=_STEPS, text="The steps that `count` counts."),
        "first_of": Key(kind=_STEPS, text="One of them must succeed; then the others are cancelled."),
    },
)
FOR_EACH: Final = Table(
    name="for_each",
    keys={
        "items": Key(
            kind=ListTemplate(),
            text="The list.",
            is_required=True,
            hint="the list, such as items: ${{ event.data.files }}",
            examples=FILES,
        ),
        "concurrency": Key(
            kind=Whole(high=10_000), text="How many items may be under way at once.", default=_CONCURRENCY
        ),
        "tolerate": Key(
            kind=OneOf(
                kinds=(
                    Whole(low=0),
                    Pattern(pattern=PERCENT.pattern, said='part such as `"10%"`'),
                    Word(word="all"),
                )
            ),
            text="How many items may fail.",
            default=0,
            examples=("10%",),
        ),
    },
)
REPEAT: Final = Table(
    name="repeat",
    keys={
        "from": Key(kind=A_STEP, text="The step that the loop goes back to.", otherwise="only this step is repeated"),
        "until": Key(kind=Expression(), text="True ends the loop.", is_required=True, hint="when the loop is done"),
        "limit": Key(
            kind=Whole(high=1_000),
            text="How many rounds there may be, the first included.",
            is_required=True,
            hint="the largest number of rounds",
        ),
        "on_limit": Key(
            kind=Choice(options=get_args(OnLimit)), text="What happens if `until` is still false after the last round."
        ),
    },
)
RETRY: Final = Table(
    name="retry",
    keys={
        "attempts": Key(
            kind=Whole(high=1_000), text="The number of attempts, the first included.", default=_RETRY.attempts
        ),
        "backoff": Key(kind=Duration(zero=True), text="The pause before the second attempt.", default=_RETRY.backoff_s),
        "factor": Key(
            kind=Number(low=1, high=100),
            text="Each further pause is this many times as long.",
            default=_RETRY.factor,
        ),
        "max_backoff": Key(
            kind=Duration(zero=True),
            text="The longest pause.",
            default=_RETRY.max_backoff_s,
            otherwise="`backoff`, if that is longer",
        ),
        "jitter": Key(
            kind=Number(low=0, high=0.99),
            text="Up to this part of each pause is taken off at random.",
            default=_RETRY.jitter,
        ),
        "non_retryable": Key(
            kind=OneOf(kinds=(Text(may_be_blank=True), Names(of=None))),
            text="Error kinds that end the attempts at once: one, or a list.",
        ),
    },
)
HANDOVER: Final = Table(
    name="handover",
    keys={
        "to": Key(
            kind=OneOf(kinds=(A_NAME, Names(of=A_NAME, least=1))),
            text="The agents that may get the task.",
            is_required=True,
        ),
        "hops": Key(kind=Whole(high=100), text="How often one task may be passed on.", default=_HOPS),
    },
)
RESERVE: Final = Table(
    name="reserve",
    keys={
        "tokens": Key(kind=AMOUNT, text="Tokens."),
        "usd": Key(kind=AMOUNT, text="Money, in US dollars."),
    },
)
STEP_LIMIT: Final = Table(
    name="limit",
    keys={
        "name": Key(kind=A_NAME, text="One of the route's `limits`.", is_required=True),
        "key": Key(
            kind=A_TEXT_TEMPLATE,
            text="A template on `event`. Each of its values has a limit of its own.",
            examples=("${{ event.data.tenant }}",),
        ),
    },
)
WAIT: Final = Table(
    name="wait",
    keys={
        "until": Key(kind=A_TEXT_TEMPLATE, text="A template that gives a time, such as `2026-11-24T09:00:00Z`."),
        "event": Key(kind=A_TEXT, text="The CloudEvents `type` to wait for.", examples=("com.example.paid",)),
        "alias": Key(
            kind=A_STEP,
            text="The step by whose alias the event finds the workflow; `key` then gives the alias from the event.",
            see="aliases",
        ),
        "key": Key(
            kind=A_TEXT_TEMPLATE,
            text="A template on the awaited event that gives the workflow's key.",
            otherwise="the route's own `key`",
        ),
        "if": Key(
            kind=Expression(),
            text="Which event it must be: `event` is the one that came, `start` the one that started the workflow.",
        ),
        "timeout": Key(kind=_DURATION_OR_NEVER, text="The longest wait.", otherwise="`never`"),
        "on_timeout": Key(kind=Choice(options=get_args(OnTimeout)), text="What happens if no event came in time."),
    },
)
EVENT_ONLY: Final = tuple(key for key in WAIT.keys if key not in {"until", "event"})
"""The keys of a wait that go with an event."""
EMIT: Final = Table(
    name="emit",
    keys={
        "type": Key(
            kind=A_TEXT_TEMPLATE,
            text="The CloudEvents `type`.",
            is_required=True,
            hint="the CloudEvents type that goes out",
            examples=("com.example.done",),
        ),
        "subject": Key(kind=A_TEXT_TEMPLATE, text="The CloudEvents `subject`."),
        "data": Key(kind=Template(), text="What the event carries."),
    },
)
END: Final = Table(
    name="end",
    keys={
        "status": Key(
            kind=Choice(options=("completed", "failed", "rejected")),
            text="How the workflow ends.",
            is_required=True,
            hint="completed, failed or rejected",
        ),
        "reason": Key(kind=A_TEXT_TEMPLATE, text="Why."),
        "output": Key(kind=Template(), text="The workflow's output, if it ends as `completed`."),
    },
)
_WHO: Final = {
    "role": Key(
        kind=A_TEXT_TEMPLATE,
        text="Who may answer: a role; `approvers.yaml` says who has it.",
        hint="name the role that may answer, such as maintainer",
        examples=("maintainer",),
    ),
    "people": Key(
        kind=OneOf(kinds=(A_TEXT_TEMPLATE, ListTemplate())),
        text="Who may answer, instead of `role`: a name, or a list of names.",
        examples=("${{ event.data.manager }}",),
    ),
}
SEATS: Final = Table(
    name="quorum",
    keys={**_WHO, "need": Key(kind=Whole(high=MOST_SEATS), text="How many of them must answer.", default=1)},
)
EXCLUDED: Final = Table(
    name="not",
    keys={
        "voters_of": Key(kind=A_STEP, text="Another approval, before this one: all who voted there or edited."),
        "people": Key(
            kind=OneOf(kinds=(A_TEXT_TEMPLATE, ListTemplate())),
            text="A name, or a list of names.",
            examples=("${{ event.data.family }}",),
        ),
    },
)
_EXCLUDED: Final = (Word(word="requester"), Word(word="editors"), EXCLUDED)
EDIT: Final = Table(
    name="edit",
    keys={
        "role": Key(kind=A_TEXT_TEMPLATE, text="Who may edit: a role.", otherwise="who may answer"),
        "people": Key(
            kind=OneOf(kinds=(A_TEXT_TEMPLATE, ListTemplate())), text="Who may edit: a name, or a list of names."
        ),
        "limit": Key(kind=Whole(high=100), text="How often it may be edited in all.", default=MOST_EDITS),
    },
)
DEADLINE_AT: Final = Table(
    name="deadline",
    keys={
        "at": Key(
            kind=A_TEXT_TEMPLATE,
            text="A template that gives a time, such as `2026-11-24T09:00:00Z`.",
            is_required=True,
            examples=("${{ event.data.due }}",),
        ),
    },
)
WORKING: Final = Table(
    name="working",
    keys={
        "working": Key(kind=Duration(), text="So much of the calendar's working time.", examples=("16h",)),
        "working_days": Key(
            kind=Whole(high=MOST_DAYS),
            text="Until the end of the hours of the n-th working day after the day it counts from.",
        ),
        "calendar": Key(
            kind=A_NAME,
            text="The calendar, which `mesh calendars apply` has put on the mesh.",
            is_required=True,
            hint="name the calendar, such as calendar: berlin",
        ),
    },
)
"""Of a deadline or a stage: `{working: 16h, calendar: berlin}`, `{working_days: 1, ...}`."""
STAGE_TO: Final = Table(name="to", keys=_WHO)
STAGE: Final = Table(
    name="escalate",
    keys={
        "after": Key(
            kind=OneOf(kinds=(Duration(), WORKING)),
            text="How long after the stage before, or after the question; or working time of a calendar.",
            is_required=True,
            hint="how long nobody has answered then, such as after: 4h",
        ),
        "to": Key(
            kind=OneOf(kinds=(A_TEXT_TEMPLATE, STAGE_TO)),
            text="Who may answer too from then on: a role, or `{people: ...}`.",
            is_required=True,
            hint="the role that may answer too, such as to: lead",
            example="to: lead, or to: {people: ...}",
            examples=("lead",),
        ),
        "quorum": Key(
            kind=Whole(high=MOST_SEATS),
            text="How many of them suffice.",
            otherwise="they fill the seats like all others",
        ),
        "replace": Key(kind=Truth(), text="Whether nobody else may answer from then on.", default=False),
    },
)
EXTEND: Final = Table(
    name="extend",
    keys={
        "by": Key(
            kind=Duration(),
            text="How far each time.",
            is_required=True,
            hint="how far the deadline moves, such as by: 8h",
        ),
        "times": Key(kind=Whole(high=100), text="How often in all.", default=1),
    },
)
REMIND: Final = Table(
    name="remind",
    keys={
        "before": Key(
            kind=OneOf(kinds=(Duration(), Several(of=Duration()))),
            text="How long before the deadline: a duration, or a list.",
            examples=("4h",),
        ),
        "every": Key(kind=Duration(), text="How long between two reminders.", otherwise="only `before`"),
        "cooldown": Key(
            kind=Duration(zero=True),
            text="A reminder that comes sooner after the one before is left out.",
            otherwise="none is left out",
        ),
    },
)
ASKED: Final = Table(
    name="addressee",
    keys={
        "agent": Key(kind=A_NAME, text="An agent: the question becomes its task.", examples=("researcher",)),
        "role": Key(kind=A_TEXT_TEMPLATE, text="People with this role.", examples=("clerk",)),
        "people": Key(
            kind=OneOf(kinds=(A_TEXT_TEMPLATE, ListTemplate())),
            text="A name, or a list of names.",
            examples=("${{ event.data.manager }}",),
        ),
    },
)
_ASKED: Final = (Word(word="requester"), ASKED)
ASK_BACK: Final = Table(
    name="ask_back",
    keys={
        "to": Key(
            kind=OneOf(kinds=(*_ASKED, Several(of=OneOf(kinds=_ASKED)))),
            text="Who can be asked: `requester`, or an agent, a role, or people; one or a list.",
            is_required=True,
            hint="who can be asked, such as to: requester",
            example="to: [requester, {agent: researcher}]",
            examples=("requester",),
        ),
        "limit": Key(kind=Whole(high=MOST_QUESTIONS), text="How many questions in all.", default=QUESTIONS),
        "extends": Key(
            kind=Duration(), text="How far each question moves the deadline.", otherwise="it stays where it is"
        ),
    },
)
REQUESTER: Final = Key(
    kind=A_TEXT_TEMPLATE,
    text="Who has asked for what is to be approved: a template that gives a person's name.",
    examples=("${{ event.data.clerk }}",),
)
FIRST_VERSION: Final = frozenset({"ask", "payload", "role", "deadline", "on_expiry", "payload_schema"})
"""The keys of an approval of version 1: its first answer is the verdict."""
APPROVAL: Final = Table(
    name="approval",
    keys={
        "ask": Key(
            kind=A_TEXT_TEMPLATE,
            text="The question.",
            is_required=True,
            hint="the question",
            examples=("Post this reply?",),
        ),
        "payload": Key(
            kind=Template(),
            text="What is to be approved.",
            is_required=True,
            hint="what is to be approved",
            examples=("${{ steps.draft }}",),
        ),
        **_WHO,
        "quorum": Key(
            kind=OneOf(kinds=(Whole(high=MOST_SEATS), Word(word="majority"), Word(word="all"), Several(of=SEATS))),
            text="How many different people must agree; or groups, each with a number of its own.",
            default=1,
            example="quorum: 2, or quorum: [{role: finance, need: 2}, {role: legal}]",
        ),
        "not": Key(
            kind=OneOf(kinds=(*_EXCLUDED, Several(of=OneOf(kinds=_EXCLUDED)))),
            text="Who can't answer, whatever their roles: the requester, who edited the payload, or others; "
            "one or a list.",
            example="not: [requester, editors, {voters_of: STEP}, {people: ...}]",
        ),
        "requester": replace(REQUESTER, otherwise="the route's own `requester`"),
        "reject": Key(
            kind=OneOf(kinds=(Word(word="any"), Word(word="majority"), Whole(high=MOST_SEATS))),
            text="How many rejections reject it: `any` is one.",
            default="any",
        ),
        "choices": Key(
            kind=Names(of=None, least=2, is_unique=True),
            text="What there is to choose from, instead of approve and reject.",
            example="choices: [refund, voucher, reject]",
        ),
        "rejects": Key(
            kind=Names(of=None, is_unique=True), text="Those of `choices` that reject.", otherwise="`[reject]`"
        ),
        "form": Key(kind=SchemaDocument(), text="A JSON Schema of what each vote must bring in `form`."),
        "reason": Key(
            kind=Choice(options=get_args(Reasons)),
            text="Whether a vote must have a reason: never, always, or with a rejection.",
        ),
        "edit": Key(
            kind=OneOf(kinds=(Truth(), EDIT)),
            text="Whether the payload may be edited, and by whom. An edit resets all votes.",
            otherwise="who may answer may edit, 20 times in all",
            example="edit: false, or edit: {role: clerk, limit: 5}",
        ),
        "deadline": Key(
            kind=OneOf(kinds=(Duration(), Word(word=NEVER), DEADLINE_AT, WORKING)),
            text="How long the question is open, or until when: `{at: TEMPLATE}`; or working time of a calendar: "
            "`{working: 16h, calendar: NAME}`, `{working_days: 1, calendar: NAME}`.",
            default=NEVER,
        ),
        "escalate": Key(
            kind=Several(of=STAGE),
            text="Who may answer too if there is no verdict after some time, in stages.",
            example="escalate: [{after: 4h, to: lead}, {after: 1d, to: director, quorum: 1}]",
        ),
        "extend": Key(
            kind=EXTEND,
            text="Lets people who may answer move the deadline.",
            otherwise="operators alone may",
            example="extend: {by: 8h, times: 2}",
        ),
        "remind": Key(
            kind=REMIND,
            text="When the notifier reminds those who have not answered.",
            otherwise="once, an hour before the deadline",
            example="remind: {before: [4h, 1h], every: 1d, cooldown: 2h}",
        ),
        "ask_back": Key(
            kind=ASK_BACK,
            text="Lets people who may answer ask back. A question changes no vote.",
            otherwise="nobody can be asked",
            example="ask_back: {to: [requester, {agent: researcher}], limit: 3, extends: 8h}",
        ),
        "claim": Key(
            kind=Choice(options=("advisory", "exclusive")),
            text="What a claim means: it says who is looking, or others can't answer until it ends.",
        ),
        "lease": Key(kind=Duration(), text="How long a claim lasts.", default=LEASE_MS / 1000),
        "on_expiry": Key(
            kind=OneOf(kinds=(Choice(options=get_args(OnExpiry)), A_TEXT)),
            text="What the deadline means if there is no verdict: one of these, or one of `choices`.",
            default=get_args(OnExpiry)[0],
        ),
        "on_nobody": Key(
            kind=Choice(options=get_args(OnNobody)),
            text="What happens if too few people could answer when it is asked, or from a stage on: an operator "
            "decides, or it stays open.",
        ),
        "signed": Key(
            kind=Choice(options=LEVELS),
            text=(
                "What an answer must bring: nothing, any signature, or the person's own. "
                "`MESH_ANSWERS=signed` asks for a signature in any case."
            ),
        ),
        "payload_schema": Key(
            kind=SchemaDocument(),
            text="A JSON Schema that an edited payload must meet. A `$ref` must begin with `#`.",
            otherwise="if `payload` is exactly `${{ steps.NAME }}`, the output schema of that step's agent",
        ),
    },
)
