"""What the commands extend, reassign and void say of one approval: their field `order`.

`mesh.codec.commands` calls this; `topics/schemas/command.json` says the same.
"""

import re
from typing import Any, Final, get_args

import msgspec

from mesh.codec.places import place
from mesh.codec.times import parse_rfc3339, rfc3339
from mesh.core.approvals import LONGEST_NAME, MOST_NAMES
from mesh.core.ids import parse_step_id
from mesh.core.inputs import ApprovalOrder, Command
from mesh.errors import MalformedRecord
from mesh.ports import Record

_WANTS: Final[dict[str, frozenset[str]]] = {
    "extend": frozenset({"plus", "until"}),
    "reassign": frozenset({"roles", "people", "replace"}),
    "void": frozenset({"voter"}),
}
ORDERS: Final[frozenset[Command]] = frozenset(name for name in get_args(Command) if name in _WANTS)
ORDER_EXAMPLE: Final = (
    '{"command": "extend", "reassign" or "void", "workflow_id": "<route>:<key>", "by": "<who you are>", '
    '"order": {"approval_id": "<as asked>", ...}}, where extend has "plus": "4h" or "until": "<RFC 3339>", '
    'reassign "roles": [...] or "people": [...] and if you like "replace": true, void "voter": "<whose vote>"'
)
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_UNITS_MS: Final = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_LONGEST_MS: Final = 3_650 * 86_400_000  # as of a duration in a route


class _Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    approval_id: str
    plus: str | None = None
    until: str | None = None
    roles: list[str] | None = None
    people: list[str] | None = None
    replace: bool | None = None
    voter: str | None = None


def read_order(record: Record, command: Command, workflow_id: str, value: Any) -> ApprovalOrder:
    """Raises `MalformedRecord`: what is wrong, and what to send."""
    try:
        order = msgspec.convert(value, _Order)
    except msgspec.ValidationError as error:
        raise MalformedRecord(f"{place(record)}: the `order` does not hold: {error}; send {ORDER_EXAMPLE}") from error
    problem = _problem(order, command, workflow_id)
    if problem:
        raise MalformedRecord(f"{place(record)}: {problem}; send {ORDER_EXAMPLE}")
    return ApprovalOrder(
        approval_id=order.approval_id,
        by_ms=duration_ms(order.plus),
        until_ms=parse_rfc3339(order.until) if order.until else 0,
        roles=tuple(order.roles or ()),
        people=tuple(order.people or ()),
        replace=bool(order.replace),
        voter=order.voter or "",
    )


def order_document(order: ApprovalOrder) -> dict[str, Any]:
    """The order as it is in the record."""
    said = {
        "plus": f"{order.by_ms}ms" if order.by_ms else "",
        "until": rfc3339(order.until_ms) if order.until_ms else "",
        "roles": list(order.roles),
        "people": list(order.people),
        "replace": order.replace,
        "voter": order.voter,
    }
    return {"approval_id": order.approval_id, **{name: value for name, value in said.items() if value}}


def duration_ms(text: str | None) -> int:
    """A duration as a route writes it; 0: it is none, or too long."""
    found = _DURATION.fullmatch(text or "")
    found_ms = float(found[1]) * _UNITS_MS[found[2]] if found else 0
    return int(found_ms) if found_ms <= _LONGEST_MS else 0


def _problem(order: _Order, command: Command, workflow_id: str) -> str:
    """Why this is no order of that command; empty if it is one."""
    parsed = parse_step_id(order.approval_id)
    if parsed is None or parsed.workflow_id != workflow_id:
        return f"`approval_id` {order.approval_id!r} is not that of an approval of {workflow_id}"
    said = {name for names in _WANTS.values() for name in names if getattr(order, name)}
    wanted = said & _WANTS[command] - {"replace"}
    if said - _WANTS[command] or not wanted:
        return f"an order to {command} needs {' or '.join(sorted(_WANTS[command] - {'replace'}))}, and nothing else"
    if command == "extend":
        return _problem_of_time(order)
    names = [*(order.roles or ()), *(order.people or ()), *([order.voter] if order.voter else [])]
    if len(names) > MOST_NAMES or not all(name.strip() and len(name) <= LONGEST_NAME for name in names):
        return f"it names more than {MOST_NAMES:,}, or a name that is blank or longer than {LONGEST_NAME}"
    return ""


def _problem_of_time(order: _Order) -> str:
    if order.plus and order.until:
        return "an order to extend takes `plus` or `until`, not both"
    if order.plus:
        return "" if duration_ms(order.plus) else "`plus` is not a duration such as 4h"
    try:
        parse_rfc3339(order.until or "")
    except ValueError as error:
        return f"`until`: {error}"
    return ""
