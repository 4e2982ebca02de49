"""Ids, and the partition that an id belongs to.

Pure functions, so correlation needs no look-up table.

    workflow id     <route>:<key>                        issue-triage:octo/repo#12
    run id          8 hexadecimal digits of the start    4f2a9c01
    task id         <workflow id>/<run id>/<step>        the idempotency key of all its attempts too
    attempt id      <task id>/<attempt>
    approval id     <workflow id>/<run id>/<step>
    outcome id      <workflow id>/<run id>

A route's name has `[a-z0-9-]` only, so the first colon ends it; the last two slashes of a task id
end the workflow id, since a run id and a step's name have no slash. Keys may hold anything that is
printable; control characters are percent-escaped, and so is `%`.

A step may act more than once in a run, and each time has its own state and its own task:

    place           <step>, <step>[<item>],              where its state is kept: `review`,
                    <step>.undo, <step>.budget,          `review[7]`, `book.undo`,
                    <step>.ask<n>,                       `draft.budget`, the question whether it
                    <step>.tool-<name>                   may have more, `review.ask1`, the first
                                                         question of an approval if an agent
                                                         answers it, and `buy.tool-pay`, the
                                                         approval of a call `pay` that the step's
                                                         agent wants to make
    instance        the place, with the round of a loop   `draft.2`, `review.3[7]`
                    and the hand-over, from the second on `triage~2`

Names of steps hold `[a-z0-9_]` only, so places and instances can be taken apart. Task and approval
ids end in an instance.

Built-in workflows have no route document. Their ids begin with `mesh.`, as no route's name can:

    schedule        mesh.schedule:<route>                when the route starts by itself
    clock           mesh.clock:<number>                  how a partition's time goes
    pauses          mesh.pauses:<number>                 what is paused in a partition
    answers         mesh.answers:<partition>             answers there that name no approval
    person          mesh.person:<name>                   what a person says of themself
    commands        mesh.commands:<partition>            commands there that name no workflow
    alias           mesh.alias:<route>.<name>/<value>    another name of a workflow of the route
"""

import re
from functools import lru_cache
from hashlib import sha256
from struct import unpack
from typing import Final, NamedTuple

from mesh.core.people import person_of

MAX_ID: Final = 2_000
"""How many characters an id may have.

Ids of the mesh's own making are far below. A longer one comes from outside, and would be in every
record that speaks of it.
"""

MAX_KEY_LENGTH = 512  # characters; keeps ids readable and record keys small


def escape_key(key: str) -> str:
    """Percent-escape `%` and what is not printable.

    It is reversible, and leaves ordinary keys as they are.
    """
    # `%` is escaped too, or a key that holds an escape would have the id of another key
    if key.isprintable() and "%" not in key:
        return key
    return "".join(
        c if c.isprintable() and c != "%" else "".join(f"%{b:02X}" for b in c.encode("utf-8", "surrogatepass"))
        for c in key
    )


def workflow_id(route: str, key: str) -> str:
    return f"{route}:{escape_key(key)}"


def route_of(workflow: str) -> str:
    return workflow.partition(":")[0]


BUILT_IN: Final = "mesh."
"""What the ids of built-in workflows begin with."""

_SCHEDULE: Final = "mesh.schedule:"
_ALIAS: Final = "mesh.alias:"
_PERSON: Final = "mesh.person:"
_CLOCK: Final = "mesh.clock:"
_PAUSES: Final = "mesh.pauses:"
_ANSWERS: Final = "mesh.answers:"
_COMMANDS: Final = "mesh.commands:"


def schedule_id(route: str) -> str:
    return _SCHEDULE + route


def is_schedule(workflow: str) -> bool:
    return workflow.startswith(_SCHEDULE)


def is_clock(workflow: str) -> bool:
    return workflow.startswith(_CLOCK)


def clock_of(partition: int, partitions: int) -> str:
    """The first clock's id whose key leads to this partition, where its commands are decided."""
    return _leading_to(_CLOCK, partition, partitions)


@lru_cache(maxsize=4_096)
def _leading_to(prefix: str, partition: int, partitions: int) -> str:
    number = 0
    # by trial, because a hash can't be inverted
    while partition_of_key(f"{prefix}{number}".encode(), partitions) != partition:
        number += 1
    return f"{prefix}{number}"


PAUSES: Final = f"{_PAUSES}0"
"""To whom a command to pause or resume an agent or a route is sent. All partitions get a copy."""


def is_pauses(workflow: str) -> bool:
    return workflow.startswith(_PAUSES)


def is_silent(workflow: str) -> bool:
    """Whether it holds a partition's pauses, and leaves it to `PAUSES` to answer the sender."""
    return is_pauses(workflow) and workflow != PAUSES


def pauses_of(partition: int, partitions: int) -> str:
    """The built-in workflow that knows which agents and routes are paused in this partition.

    `PAUSES` is one of them, whatever the number of partitions.
    """
    return _leading_to(_PAUSES, partition, partitions)


def answers_id(partition: int) -> str:
    """The workflow that refuses the answers of a partition of their topic that name no approval."""
    return f"{_ANSWERS}{partition}"


def person_id(name: str) -> str:
    """The workflow that takes what somebody of this name says of themself."""
    return f"{_PERSON}{escape_key(person_of(name))}"


def is_person(workflow: str) -> bool:
    return workflow.startswith(_PERSON)


def commands_id(partition: int) -> str:
    """The workflow that refuses the commands of a partition of theirs that name no workflow."""
    return f"{_COMMANDS}{partition}"


def alias_id(route: str, name: str, value: str) -> str:
    return f"{_ALIAS}{route}.{name}/{escape_key(value)}"


def is_alias(workflow: str) -> bool:
    return workflow.startswith(_ALIAS)


class AliasId(NamedTuple):
    """`name`: of the step that gives it. `value`: as it is in the id, escaped."""

    route: str
    name: str
    value: str


def parse_alias_id(workflow: str) -> AliasId:
    """The parts of an alias's id. Routes' and steps' names have neither dots nor slashes."""
    whose, _, value = workflow.removeprefix(_ALIAS).partition("/")
    route, _, name = whose.partition(".")
    return AliasId(route, name, value)


def run_id(event_source: str, event_id: str) -> str:
    """The run that this start event begins: the same event always begins the same run."""
    # neither attribute can hold a line break, so no two events give the same text
    return sha256(f"{event_source}\n{event_id}".encode("utf-8", "surrogatepass")).hexdigest()[:8]


def event_mark(event_source: str, event_id: str) -> str:
    """What a workflow remembers of an event that it took: 16 hexadecimal digits of its identity."""
    return sha256(f"{event_source}\n{event_id}".encode("utf-8", "surrogatepass")).hexdigest()[:16]


def task_id(workflow: str, run: str, step: str) -> str:
    return f"{workflow}/{run}/{step}"


approval_id = task_id


def attempt_id(task: str, attempt: int) -> str:
    return f"{task}/{attempt}"


def item_place(step: str, index: int) -> str:
    """Where the state of one item of a for-each is kept."""
    return f"{step}[{index}]"


def undo_place(step: str) -> str:
    """Where the state of a step's compensation is kept."""
    return f"{step}.undo"


def budget_place(step: str) -> str:
    """Where the state of a step's question for more budget is kept."""
    return f"{step}.budget"


def question_place(approval: str, number: int) -> str:
    """Where the state of an agent's task is kept that answers a question of an approval."""
    return f"{approval}.ask{number}"


def is_question(place: str) -> bool:
    return ".ask" in place


def asked_by(place: str) -> tuple[str, int]:
    """The approval's place, and which of its questions this is."""
    approval, _, number = place.rpartition(".ask")
    return approval, int(number)


_TOOL: Final = ".tool-"


def tool_place(asker: str, name: str) -> str:
    """Where the state of the approval is kept that the agent at `asker` wants for one call."""
    return f"{asker}{_TOOL}{name}"


def is_tool(place: str) -> bool:
    return _TOOL in place


def asker_of(place: str) -> str:
    """The place of the task whose agent wants this approval."""
    return place.partition(_TOOL)[0]


def is_budget(place: str) -> bool:
    return place.endswith(".budget")


def is_item(place: str) -> bool:
    return place.endswith("]")


def is_of_item(place: str) -> bool:
    """Whether it is an item's place, or that of a question or an approval about an item."""
    return "[" in place


def is_undo(place: str) -> bool:
    return place.endswith(".undo")


def index_of(place: str) -> int:
    """Which item of the list an item's place is."""
    return int(place[place.index("[") + 1 : -1])


def step_of(place: str) -> str:
    """The step that a place belongs to, as the route names it."""
    if place.isidentifier():
        return place
    return place.partition("[")[0].partition(".")[0]


def instance(place: str, *, round: int = 1, hop: int = 1) -> str:  # noqa: A002 - the glossary's word
    """What a task's or an approval's id ends in."""
    if round == hop == 1:
        return place
    if round > 1:
        step = step_of(place)
        place = f"{step}.{round}{place[len(step) :]}"
    return place if hop == 1 else f"{place}~{hop}"


class TaskId(NamedTuple):
    """The parts of a task id. `step` is the place of the step's state."""

    workflow_id: str
    run_id: str
    step: str


_INSTANCE: Final = re.compile(
    r"([a-z0-9_]+)(?:\.[0-9]+)?(\.undo|\.budget|(?:\[[0-9]+\])?(?:\.tool-[a-z0-9_-]+)?(?:\.ask[0-9]+)?)(?:~[0-9]+)?"
)


def parse_step_id(text: str) -> TaskId | None:
    """Split a task id or an approval id; None if it does not have that form."""
    # from the right: a workflow's key may hold slashes
    try:
        workflow, run, last = text.rsplit("/", 2)
    except ValueError:  # there are fewer
        return None
    if ":" not in workflow or not run or not last:
        return None
    # by far the most frequent form, found without a regular expression
    if last.isidentifier():
        return TaskId(workflow, run, last)
    found = _INSTANCE.fullmatch(last)
    return TaskId(workflow, run, found[1] + found[2]) if found else TaskId(workflow, run, last)


def trace_id(workflow: str, run: str) -> str:
    """The trace of a run whose start event brought none.

    32 hexadecimal digits, never all zero in practice.
    """
    return sha256(f"trace\n{workflow}\n{run}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


def span_id(*parts: str) -> str:
    """A span's id as a function of what it spans, so that deciding stays pure.

    16 hexadecimal digits.
    """
    return sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


_M = 0x5BD1E995
_MASK = 0xFFFFFFFF


# the records of a workflow have one key: its input, its tasks, and its outcome
@lru_cache(maxsize=1 << 16)
def murmur2(data: bytes) -> int:
    """Kafka's murmur2, as an unsigned 32-bit number.

    Java's is `org.apache.kafka.common.utils.Utils.murmur2`.
    """
    length = len(data)
    whole = length & ~3
    h = 0x9747B28C ^ length
    for k in unpack(f"<{whole >> 2}I", data[:whole]):
        k = k * _M & _MASK  # noqa: PLW2901 - the mixed word takes the word's place, as in the original
        h = (h * _M ^ (k ^ (k >> 24)) * _M) & _MASK
    if whole < length:
        h = ((h ^ int.from_bytes(data[whole:], "little")) * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return h ^ (h >> 15)


def partition_of_key(key: bytes, partitions: int) -> int:
    """The partition in [0, `partitions`) that Kafka's default partitioner gives to `key`."""
    # as Kafka's `toPositive` does it: its producers must come to the same partition
    return (murmur2(key) & 0x7FFFFFFF) % partitions
