"""An expression's parts: what each one says, and what it comes to.

For whatever explains or checks rules; `decide` never needs it.

Owns cutting an expression up where logic joins it. `reachability` asks what a part can come to when
little is known, `explanation` what each part came to.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import msgspec

from mesh.core.route import ExpressionError, Scope
from mesh.routes.expressions.closures import closure
from mesh.routes.expressions.lookups import Closure
from mesh.routes.expressions.paths import Read, path_text, reads
from mesh.routes.expressions.syntax import Conditional, Logic, Node, Not, parse
from mesh.routes.expressions.tokens import tokenize


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One part of an expression and what it came to.

    That is a `value`, or the `error` that kept it from one. `paths`: what a part without parts
    reads.
    """

    text: str
    value: Any = None
    error: str = ""
    paths: tuple["Part", ...] = ()
    parts: tuple["Part", ...] = ()


@lru_cache(maxsize=1024)
def tree(source: str) -> Node:
    """The tree of an expression that has compiled before."""
    return parse(source)


def operands(node: Node) -> tuple[Node, ...]:
    """What logic joins; empty for anything else."""
    match node:
        case Logic(operands=found):
            return found
        case Not(operand=operand):
            return (operand,)
        case Conditional(test=test, then=then, otherwise=otherwise):
            return (test, then, otherwise)
        case _:
            return ()


def part_reads(node: Node) -> list[Read]:
    return list(reads(node))


@lru_cache(maxsize=4096)
def part_closure(source: str, node: Node) -> Closure:
    """A part of `source` as a function of the scope. It raises `ExpressionError`."""
    return closure(node, source)


def text_of(source: str, node: Node) -> str:
    """The part as it is written, with the brackets that belong to it.

    A node's own place leaves out the brackets around it.
    """
    start, end = node.start, node.end
    signs = [token for token in tokenize(source) if token.kind == "op" and token.text in ("(", ")")]
    depth = lowest = 0
    for token in signs:
        if start <= token.start < end:
            depth += 1 if token.text == "(" else -1
            lowest = min(lowest, depth)
    for token in reversed(signs):
        if token.start < start and lowest < 0 and token.text == "(":
            start, lowest, depth = token.start, lowest + 1, depth + 1
    for token in signs:
        if token.start >= end and depth > 0 and token.text == ")":
            end, depth = token.end, depth - 1
    return source[start:end]


def parts_of(source: str, scope: Scope) -> Part:
    """What the expression and each of its parts come to."""
    return _part(source, tree(source), scope)


def _part(source: str, node: Node, scope: Scope) -> Part:
    below = operands(node)
    paths = () if below else tuple(_paths(node, scope))
    value, error = _value(source, node, scope)
    return Part(
        text=text_of(source, node),
        value=value,
        error=error,
        paths=paths,
        parts=tuple(_part(source, one, scope) for one in below),
    )


def _paths(node: Node, scope: Scope) -> Iterator[Part]:
    seen: set[str] = set()
    for read in reads(node):
        text = path_text(read.segments)
        if text not in seen:
            seen.add(text)
            value, error = _at(read, scope)
            yield Part(text=text, value=value, error=error)


def _at(read: Read, scope: Scope) -> tuple[Any, str]:
    holder: Any = scope
    try:
        for segment in read.segments:
            holder = holder[segment]
    except (KeyError, IndexError, TypeError):
        return None, "not there"
    return holder, ""


def _value(source: str, node: Node, scope: Scope) -> tuple[Any, str]:
    try:
        return part_closure(source, node)(scope), ""
    except ExpressionError as error:
        return None, str(error).removesuffix(f" (in: {source})")
