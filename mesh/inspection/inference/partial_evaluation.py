"""Evaluate a condition while only some values are known, to check routes before any event.

Owns `Facts` (what is assumed to be known) and the evaluation on them. Nothing is known of the start
event, but it stays the same as long as its workflow lives. So an assumption about it holds for
every condition: if `event.data.kind == 'x'` is true, `event.data.kind == 'y'` is false.
`mesh.inspection.inference.reachability` and `mesh.inspection.checks` call it.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

from mesh.core.route import ExpressionError
from mesh.routes.expressions.paths import Segments, path_text, segments_of
from mesh.routes.expressions.subexpressions import operands, part_closure, part_reads, text_of, tree
from mesh.routes.expressions.syntax import Binary, Conditional, Logic, Node, Not
from mesh.routes.expressions.syntax import Constant as Written

_LASTING: Final = frozenset({"event", "workflow"})  # what never changes while a workflow lives


class Constant(msgspec.Struct, frozen=True):
    """What a condition always comes to: a bool, or the error it raises."""

    value: bool | None
    error: str = ""


class Facts(NamedTuple):
    """What is assumed while a condition is evaluated.

    `known`: the values of paths. `truths`: whether conditions on the event are true, by their text.
    """

    known: Mapping[Segments, Any]
    truths: Mapping[str, bool]


NOTHING: Final = Facts({}, {})


class Atom(NamedTuple):
    """A condition without logical operators.

    `path` and `value`: if it is an equality, the path and the value that it has where it holds.
    """

    text: str
    holds: bool = True  # False: the negation of `text`
    path: Segments | None = None
    value: Any = None


def constant_of(source: str) -> Constant | None:
    """The value of a condition that depends on nothing it reads; None for any other one."""
    node = tree(source)
    if not part_reads(node):
        try:
            value = part_closure(source, node)({})
        except ExpressionError as error:
            return Constant(None, str(error))
        return Constant(value) if isinstance(value, bool) else Constant(None, f"it is not a condition: {source}")
    value = outcome(source, NOTHING)
    return None if value is None else Constant(value)


def outcome(source: str, facts: Facts) -> bool | None:
    """What a condition comes to when only the facts are known.

    None: it may be true, false or an error.
    """
    return _outcome(source, tree(source), facts)


def _outcome(source: str, node: Node, facts: Facts) -> bool | None:
    known = _of_known(source, node, facts)
    if known is not None:
        return known
    match node:
        case Logic(op=op, operands=several):
            values = [_outcome(source, one, facts) for one in several]
            # One true decides an `||`, and one false an `&&`, whatever the others are.
            decisive = op == "||"
            if decisive in values:
                return decisive
            return None if None in values else not decisive
        case Not(operand=operand):
            value = _outcome(source, operand, facts)
            return None if value is None else not value
        case Conditional(test=test, then=then, otherwise=otherwise):
            chosen = _outcome(source, test, facts)
            if chosen is None:
                return None
            return _outcome(source, then if chosen else otherwise, facts)
        case _:
            atom = _atom(source, node)
            return facts.truths[atom.text] == atom.holds if atom.text in facts.truths else None


def _of_known(source: str, node: Node, facts: Facts) -> bool | None:
    found = {read.segments for read in part_reads(node)}
    if not all(segments in facts.known for segments in found):
        return None
    try:
        value = part_closure(source, node)(_scope({segments: facts.known[segments] for segments in found}))
    except ExpressionError:
        return None
    return value if isinstance(value, bool) else None


def _scope(values: Mapping[Segments, Any]) -> dict[str, Any]:
    """The values of paths as the scope of an expression.

    Shorter paths come first, since assumptions about a whole and about its part may contradict.
    """
    scope: dict[str, Any] = {}
    for segments in sorted(values, key=len):
        holder: Any = scope
        for segment in segments[:-1]:
            holder = holder.setdefault(str(segment), {}) if isinstance(holder, dict) else {}
        if isinstance(holder, dict):
            holder[str(segments[-1])] = values[segments]
    return scope


@lru_cache(maxsize=4096)
def _atom(source: str, node: Node) -> Atom:
    """The atom of a condition.

    An equality of a path and a constant gives the same atom whichever side comes first.
    """
    if isinstance(node, Binary) and node.op in ("==", "!="):
        for side, other in ((node.left, node.right), (node.right, node.left)):
            path = segments_of(side)
            if path is not None and isinstance(other, Written) and not other.foreign and not _has_place(path):
                text = f"{path_text(path)} == {other.value!r}"
                return Atom(text, node.op == "==", path, other.value)
    return Atom(text_of(source, node))


def _has_place(path: Segments) -> bool:
    return any(isinstance(segment, int) for segment in path)


def first_open(source: str, facts: Facts) -> Atom | None:
    """The first undecided part of a condition that may be assumed to be true or false.

    Such a part reads the start event alone.
    """
    return _first_open(source, tree(source), facts)


def _first_open(source: str, node: Node, facts: Facts) -> Atom | None:
    if _outcome(source, node, facts) is not None:
        return None
    below = operands(node)
    if below:
        return next((found for one in below if (found := _first_open(source, one, facts)) is not None), None)
    roots = {read.segments[0] for read in part_reads(node)}
    return _atom(source, node) if roots and roots <= _LASTING else None


def held(source: str) -> Facts:
    """What must be true of the start event for the condition to be true."""
    return _held(source, tree(source), NOTHING, holds=True)


def _held(source: str, node: Node, facts: Facts, *, holds: bool) -> Facts:
    match node:
        # a true `&&` makes all its parts true, a false `||` makes them all false
        case Logic(op=op, operands=several) if (op == "&&") == holds:
            for one in several:
                facts = _held(source, one, facts, holds=holds)
            return facts
        case Not(operand=operand):
            return _held(source, operand, facts, holds=not holds)
        # here any one of the parts may have decided, so nothing is certain of any of them
        case Logic() | Conditional():
            return facts
        case _:
            atom = _atom(source, node)
            return assumed(facts, atom, holds=holds == atom.holds)


def assumed(facts: Facts, atom: Atom, *, holds: bool) -> Facts:
    """The facts and one more: the atom's text is true, or it is false."""
    truths = {**facts.truths, atom.text: holds}
    if holds and atom.path is not None:
        return Facts({**facts.known, atom.path: atom.value}, truths)
    return Facts(facts.known, truths)
