"""What an expression reads, and what to say where it is not there.

Owns paths (`steps.classify.labels[0]`): finding them in a tree, writing them down, following them,
and the message for one that is missing. It must not evaluate anything else. `closures` and
`compiler` call it.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import orjson

from mesh.routes.expressions.syntax import (
    MACROS,
    Binary,
    Call,
    Conditional,
    Constant,
    Has,
    Index,
    ListOf,
    Logic,
    MapOf,
    Name,
    Negate,
    Node,
    Not,
    Select,
)
from mesh.routes.expressions.values import KINDS, value_of_key, words

Segments = tuple[str | int, ...]
"""A path: the variable, then names and places in lists."""

SHOWN_FIELDS: Final = 20
_NAME: Final = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_UNSELECTABLE: Final = frozenset({"true", "false", "null", "in"})


class Read(NamedTuple):
    """One place where an expression reads a path.

    `column` counts from 1 in its source; `tested`: by `has`, so it need not be there.
    """

    segments: Segments
    column: int
    tested: bool = False


def _bare(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and name not in _UNSELECTABLE


def path_text(segments: Segments) -> str:
    """The path as one would write it: `event.data["foo-bar"].labels[0]`."""
    text = str(segments[0])
    for segment in segments[1:]:
        if isinstance(segment, int):
            text += f"[{segment}]"
        else:
            text += f".{segment}" if _bare(segment) else f"[{_quoted(segment)}]"
    return text


def _quoted(name: str) -> str:
    try:
        return orjson.dumps(name).decode()
    except TypeError:  # half of a surrogate pair
        return ascii(name)


def segments_of(node: Node) -> Segments | None:
    """The path that the whole node is.

    None if it is something else, or if a part of it is computed.
    """
    steps: list[str | int] = []
    while not isinstance(node, Name):
        match node:
            case Select(target=target, field=field):
                steps.append(field)
            case Index(target=target, index=Constant(value=str() | int() as place, foreign=False)) if not isinstance(
                place, bool
            ):
                steps.append(place)
            case _:
                return None
        node = target
    return (node.name, *reversed(steps))


def reads(node: Node, bound: frozenset[str] = frozenset()) -> Iterator[Read]:
    """Every path that the tree may read, as long as it is fixed.

    Paths of variables that a macro binds are left out.
    """
    segments = segments_of(node)
    if segments is not None:
        if segments[0] not in bound and not _is_kind(segments):
            yield Read(segments, node.start + 1)
        return
    match node:
        case Has(target=target, field=field):
            yield from _reads_of_has(target, field, bound)
        case Call(function=function, target=target, args=args) if target is not None and function in MACROS:
            yield from reads(target, bound)
            variable = segments_of(args[0])
            inner = bound | ({str(variable[0])} if variable else set())
            for part in args[1:]:
                yield from reads(part, inner)
        case _:
            for part in _parts(node):
                yield from reads(part, bound)


def _is_kind(segments: Segments) -> bool:
    """Whether it is the name of a kind, as in `type(x) == int`."""
    return len(segments) == 1 and segments[0] in KINDS


def macros_of(node: Node) -> Iterator[Call]:
    """The macros in the tree, outer ones first."""
    if isinstance(node, Call) and node.target is not None and node.function in MACROS:
        yield node
    for part in _parts(node):
        yield from macros_of(part)


def nodes_of(node: Node) -> int:
    """How many nodes the tree has; a path counts as one."""
    return 1 if segments_of(node) else 1 + sum(map(nodes_of, _parts(node)))


def _reads_of_has(target: Node, field: str, bound: frozenset[str]) -> Iterator[Read]:
    segments = segments_of(target)
    if segments is None:
        yield from reads(target, bound)
    elif segments[0] not in bound:
        yield Read((*segments, field), target.start + 1, tested=True)


def _parts(node: Node) -> tuple[Node, ...]:
    match node:
        case Select(target=target) | Has(target=target):
            return (target,)
        case Index(target=target, index=index):
            return (target, index)
        case Call(target=target, args=args):
            return args if target is None else (target, *args)
        case ListOf(items=items):
            return items
        case MapOf(entries=entries):
            return tuple(part for entry in entries for part in entry)
        case Not(operand=operand) | Negate(operand=operand):
            return (operand,)
        case Binary(left=left, right=right):
            return (left, right)
        case Logic(operands=operands):
            return operands
        case Conditional(test=test, then=then, otherwise=otherwise):
            return (test, then, otherwise)
        case _:
            return ()


def has_segment(holder: Any, segment: str | int) -> bool:
    """Whether there is such a field or place."""
    if isinstance(segment, str):
        return isinstance(holder, dict) and segment in holder
    # Python would take -1 for the last item, and CEL has no such place
    return type(holder) is list and 0 <= segment < len(holder)


def missing(scope: dict[str, Any], segments: Segments) -> str | None:
    """Why the path is not there; None if it is.

    It names the shortest part of the path that is missing, and what there is instead.
    """
    holder: Any = scope
    for at, segment in enumerate(segments):
        if not has_segment(holder, segment):
            if at == 0:
                return f"{segment} is not there; there are: {', '.join(sorted(scope))}"
            return f"{path_text(segments[: at + 1])} is not there; {what_is_there(path_text(segments[:at]), holder)}"
        holder = holder[segment]
    return None


def what_is_there(label: str, holder: Any) -> str:
    """`steps.classify has: confidence, labels` and the like."""
    if type(holder) is list:
        return f"{label} is a list of {len(holder)}"
    if type(holder) is not dict:
        return f"{label} is {words(holder)}"
    if not holder:
        return f"{label} is empty"
    names = sorted(str(value_of_key(name)) for name in holder)
    shown = ", ".join(name if _bare(name) else _quoted(name) for name in names[:SHOWN_FIELDS])
    more = f" and {len(names) - SHOWN_FIELDS} more" if len(names) > SHOWN_FIELDS else ""
    return f"{label} has: {shown}{more}"
