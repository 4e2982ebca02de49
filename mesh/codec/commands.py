"""Operator commands and their receipts: `mesh.commands` and `mesh.commands.receipts`.

Owns the records; `topics/schemas/command.json` and `command-receipt.json` say the same. The owner
decides and logs whether a command is possible. Operators' clients call `encode_command` and
`decode_command_receipt`, ingress calls `decode_command`, and owners `encode_command_receipt`.
"""

import re
from collections.abc import Sequence
from typing import Any, Final, Literal, get_args

import msgspec

from mesh.codec import exact_json
from mesh.codec.bodies import read_body
from mesh.codec.cloudevents import binary_headers
from mesh.codec.orders import ORDER_EXAMPLE, ORDERS, order_document, read_order
from mesh.codec.places import place, receipt_id_at
from mesh.codec.times import rfc3339
from mesh.core import ids
from mesh.core.effects import TellForked
from mesh.core.forks import Fork
from mesh.core.inputs import ApprovalOrder, Command, CommandGiven
from mesh.core.pauses import is_target
from mesh.core.receipts import Place, SendCommandReceipt
from mesh.core.topics import Topics
from mesh.errors import MalformedRecord
from mesh.ports import OutRecord, Record

COMMAND_TYPE: Final = "mesh.command"
ROUTER_SOURCE: Final = "/mesh/router"
COMMAND_RECEIPT_TYPE: Final = "mesh.command.receipt"
_COMMANDS: Final[dict[str, Command]] = {name: name for name in get_args(Command)}
# "release" is for clocks, and has a command line of its own: `mesh clock release`
_KNOWN: Final = ", ".join(f'"{name}"' for name in _COMMANDS if name != "release")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_EXAMPLE: Final = '{"command": "cancel", "retry", "skip", "fail", "pause", "resume", "complete" or "migrate", "workflow_id": "<route>:<key>", "by": "<who you are>"}, and if you like "reason", "step" (of retry, skip and fail); "to": "sha256:..." with migrate, "input" with retry, "step" and "output" with complete'
_TARGET_EXAMPLE: Final = '{"command": "pause" or "resume", "workflow_id": "mesh.pauses:0", "target": "agent/drafter", "by": ..., "reason": ...}'
_FORK_EXAMPLE: Final = (
    'send {"of": ..., "run_id": ..., "event": {...}, "steps": {...}} to a new id, or {"into": <new id>}'
)
_MOST_KEYS: Final = 1_000
_encode = msgspec.json.Encoder().encode


class CommandReceipt(msgspec.Struct, frozen=True, kw_only=True):
    """A record of `mesh.commands.receipts`: what became of a command.

    `source`: the command's record, by which the receipt's own id is made. `workflow_id` begins with
    `mesh.commands:` where the command names no workflow that can be read.
    """

    command_id: str
    workflow_id: str
    command: str  # empty where it can't be read
    status: Literal["accepted", "refused"]
    code: str  # accepted, or why it was refused
    source: Place
    message: str = ""
    by: str = ""
    at: str = ""  # RFC 3339


_receipt_decoder: msgspec.json.Decoder[CommandReceipt] = msgspec.json.Decoder(CommandReceipt)


def encode_command(
    *,
    topics: Topics,
    command: Command,
    workflow_id: str,
    by: str,
    command_id: str,
    at_ms: int,
    reason: str = "",
    step: str | None = None,
    to: str = "",
    input: Any = msgspec.UNSET,  # noqa: A002 - the field's name
    output: Any = msgspec.UNSET,
    order: ApprovalOrder | None = None,
    fork: Fork | None = None,
    keys: Sequence[str] = (),
    operation: str = "",
    target: str = "",
    traceparent: str | None = None,
    source: str = "/mesh/operators",
) -> OutRecord:
    """Encode an operator's command.

    `command_id` is fresh for each command. `step`: whose incident to retry, skip or fail (a step,
    an item `check[7]`, a compensation `hotel.undo`); without it, all of them; of complete, the step
    whose `output` it gives. `to`: the digest to migrate to. `input`: of retry, for the one step
    that it names. `order`: of extend, reassign and void. `keys`: of erase, the ids of the keys to
    delete. `operation`: the bulk operation that it is a part of; a workflow obeys each of those
    once. `source`: who sends it; operators and their tools by default. `target`: of pause and
    resume to `ids.PAUSES`, the agent or the route (`mesh.core.pauses`).
    """
    data: dict[str, Any] = {"command": command, "workflow_id": workflow_id, "by": by}
    if reason:
        data["reason"] = reason
    if step is not None:
        data["step"] = step
    if to:
        data["to"] = to
    if input is not msgspec.UNSET:
        data["input"] = input
    if output is not msgspec.UNSET:
        data["output"] = output
    if order is not None:
        data["order"] = order_document(order)
    if fork is not None:
        data["fork"] = fork
    if keys:
        data["keys"] = list(keys)
    if operation:
        data["operation"] = operation
    if target:
        data["target"] = target
    headers = binary_headers(
        id=command_id,
        source=source,
        type=COMMAND_TYPE,
        workflow_id=workflow_id,
        traceparent=traceparent,
        time=rfc3339(at_ms),
    )
    return OutRecord(topic=topics.commands, key=workflow_id.encode(), value=_encode(data), headers=headers)


def encode_told_fork(effect: TellForked, *, topics: Topics) -> OutRecord:
    """The command by which the owner of a fork tells the other workflow of it."""
    return encode_command(
        topics=topics,
        command="fork",
        workflow_id=effect.of,
        by=effect.by,
        command_id=told_fork_id(effect),
        at_ms=effect.at_ms,
        reason=effect.reason,
        step=effect.step,
        fork=Fork(into=effect.workflow_id),
        operation=told_fork_id(effect),
        source=ROUTER_SOURCE,
    )


def told_fork_id(effect: TellForked) -> str:
    return f"fork/{effect.workflow_id}"


def decode_command(record: Record) -> CommandGiven:
    """A command from any client, CloudEvent or bare JSON, with the record as its source.

    Raises `MalformedRecord`.
    """
    body = read_body(
        record,
        what="command",
        required=("command", "workflow_id", "by"),
        optional=("reason", "step", "to", "operation", "target"),
        anything=("input", "output", "order", "fork", "keys"),
        example=_EXAMPLE,
    )
    data = body.data
    command = _COMMANDS.get(data["command"])
    if command is None:
        raise MalformedRecord(f"{place(record)}: the command {data['command']!r} is not known; send one of {_KNOWN}")
    workflow_id: str = data["workflow_id"]
    route, _, key = workflow_id.partition(":")
    if not (route and key):
        raise MalformedRecord(
            f"{place(record)}: the command's `workflow_id` {workflow_id!r} is not a workflow's id (<route>:<key>); copy it from `mesh workflows`"
        )
    to = data.get("to") or ""
    fork = _fork(record, command, data)
    if (command == "migrate" or (fork is not None and not fork.into)) != bool(to) or (to and not _DIGEST.fullmatch(to)):
        raise MalformedRecord(
            f"{place(record)}: `to` must be a version's whole digest with migrate, and has no place elsewhere; send {_EXAMPLE}"
        )
    if "input" in data and command not in ("retry", "fork"):
        raise MalformedRecord(f"{place(record)}: `input` goes with retry alone, and fork; send {_EXAMPLE}")
    if ("output" in data) != (command == "complete") or (command == "complete" and not data.get("step")):
        raise MalformedRecord(
            f"{place(record)}: `output` goes with complete alone, which names a `step`; send {_EXAMPLE}"
        )
    target = data.get("target") or ""
    is_of_many = workflow_id == ids.PAUSES and command in ("pause", "resume")
    if bool(target) != is_of_many or (target and not is_target(target)):
        raise MalformedRecord(
            f"{place(record)}: `target` goes with pause and resume to {ids.PAUSES} alone, and is agent/<name> or route/<name>; send {_TARGET_EXAMPLE}"
        )
    if ("order" in data) != (command in ORDERS):
        raise MalformedRecord(
            f"{place(record)}: `order` goes with {', '.join(sorted(ORDERS))} alone; send {ORDER_EXAMPLE}"
        )
    return CommandGiven(
        workflow_id=workflow_id,
        source_topic=record.topic,
        source_partition=record.partition,
        source_offset=record.offset,
        source_at_ms=record.timestamp_ms,
        command_id=body.id,
        command=command,
        by=data["by"],
        reason=data.get("reason") or "",
        step=data.get("step") or None,
        to=to,
        task_input=data.get("input", msgspec.UNSET),
        output=data.get("output", msgspec.UNSET),
        operation=data.get("operation") or "",
        order=read_order(record, command, workflow_id, data["order"]) if "order" in data else None,
        fork=fork,
        target=target,
        keys=_keys(record, command, data.get("keys")),
    )


def _keys(record: Record, command: Command, value: Any) -> tuple[str, ...]:
    """The keys that a command to erase names. Raises `MalformedRecord`."""
    if value is None:
        return ()
    if command != "erase" or not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise MalformedRecord(f"{place(record)}: `keys` goes with erase alone, and is a list of keys' ids")
    if len(value) > _MOST_KEYS or any(len(one) > ids.MAX_ID for one in value):
        raise MalformedRecord(f"{place(record)}: `keys` has more than {_MOST_KEYS} keys, or one that is too long")
    return tuple(value)


def _fork(record: Record, command: Command, data: dict[str, Any]) -> Fork | None:
    """What a command to fork says. Raises `MalformedRecord`."""
    if ("fork" in data) != (command == "fork") or (command == "fork" and not data.get("step")):
        raise MalformedRecord(f"{place(record)}: `fork` goes with fork alone, which names a `step`; {_FORK_EXAMPLE}")
    if command != "fork":
        return None
    try:
        fork = msgspec.convert(data["fork"], Fork)
    except msgspec.ValidationError as error:
        raise MalformedRecord(f"{place(record)}: the `fork` does not hold: {error}; {_FORK_EXAMPLE}") from error
    if bool(fork.into) == bool(fork.of and fork.run_id and fork.event):
        raise MalformedRecord(f"{place(record)}: the `fork` says neither or both of two; {_FORK_EXAMPLE}")
    return fork


def encode_command_receipt(effect: SendCommandReceipt, *, topics: Topics) -> OutRecord:
    """What became of a command. Key: the workflow id."""
    at = rfc3339(effect.at_ms)
    value = CommandReceipt(
        command_id=effect.command_id,
        workflow_id=effect.workflow_id,
        command=effect.command,
        status=effect.status,
        code=effect.code,
        source=effect.source,
        # a command's own words may be longer than its receipt may be
        message=effect.message[: ids.MAX_ID],
        by=effect.by[: ids.MAX_ID],
        at=at,
    )
    headers = binary_headers(
        id=command_receipt_id(effect),
        source=ROUTER_SOURCE,
        type=COMMAND_RECEIPT_TYPE,
        workflow_id=effect.workflow_id,
        causation_id=effect.command_id,
        time=at,
    )
    return OutRecord(
        topic=topics.command_receipts, key=effect.workflow_id.encode(), value=_encode(value), headers=headers
    )


def command_receipt_id(effect: SendCommandReceipt) -> str:
    return receipt_id_at(effect.source)


def decode_command_receipt(record: Record) -> CommandReceipt:
    """The receipt in a record. Raises `MalformedRecord`."""
    try:
        return _receipt_decoder.decode(record.value or b"")
    except exact_json.DECODE_ERRORS as error:
        raise MalformedRecord(
            f"{place(record)}: not a command's receipt ({error}); only routers may write to this topic"
        ) from error
