"""Expressions that only the CEL library can run: conversions, regular expressions, timestamps,
`map`, `filter`, `exists` and their like.

Owns the way there and back: it hands the library no more of the scope than the expression reads,
since every value is converted on the way, and turns what comes back into JSON values, and errors
into `ExpressionError`s that name the missing path. `compiler` is its only caller. The library is
loaded at the first such expression: it takes a third of a second.
"""

import logging
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

from mesh.core.json_values import kind_of
from mesh.core.route import ExpressionError, Scope
from mesh.routes.expressions.closures import SHOWN_SOURCE, Closure, size
from mesh.routes.expressions.paths import Read, missing
from mesh.routes.expressions.tokens import ExpressionSyntaxError, tokenize

_SIZE: Final = "size_"  # our own: the library's `size` counts a string's bytes
_COLUMN: Final = re.compile(r"<input>:\d+:(\d+): (.*)")
_Trie = dict[str, Any]
_FAULTS: Final = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What the library raises; RecursionError is a RuntimeError."""


def library_closure(source: str, reads: Sequence[Read]) -> Closure:
    """The expression as a function of the scope.

    Raises `ExpressionSyntaxError` for what the library refuses.
    """
    import cel  # noqa: PLC0415 - loaded when first needed, see above

    # it warns of each error in a function of ours, and raises it too
    logging.getLogger("cel").setLevel(logging.ERROR)

    try:
        cel.compile(source)  # for its columns
        program = cel.compile(_with_own_size(source))
    except ValueError as error:
        found = _COLUMN.search(str(error))
        column, message = (int(found[1]), found[2]) if found else (1, str(error))
        raise ExpressionSyntaxError(message, column) from error
    wanted = _trie(reads)
    functions: dict[str, Callable[..., Any]] = {_SIZE: size}

    def run(scope: Scope) -> Any:
        try:
            context = cel.Context(variables=_narrowed(scope, wanted), functions=functions)
            return _json(program.execute(context))
        except _FAULTS as error:
            raise _explained(error, source, scope, reads) from error

    return run


def _with_own_size(source: str) -> str:
    tokens = [token for token in tokenize(source) if token.text]
    parts: list[str] = []
    at = 0
    for token, following in pairwise(tokens):
        if token.kind == "name" and token.text == "size" and following.text == "(":
            parts += source[at : token.start], _SIZE
            at = token.end
    return "".join(parts) + source[at:]


def _trie(reads: Sequence[Read]) -> _Trie:
    """The names to take from the scope: {} below a name means all that is there."""
    paths = [_names(read) for read in reads]
    trie: _Trie = {}
    for path in sorted(paths, key=len, reverse=True):
        branch = trie
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = {}  # a shorter path takes the whole, so it comes last
    return trie


def _names(read: Read) -> list[str]:
    names: list[str] = []
    for segment in read.segments:
        if not isinstance(segment, str):
            break
        names.append(segment)
    return names


def _narrowed(holder: Any, wanted: _Trie) -> Any:
    if not wanted or type(holder) is not dict:
        return holder
    return {name: _narrowed(holder[name], below) for name, below in wanted.items() if name in holder}


def _json(value: Any) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list():
            return [_json(item) for item in value]
        case dict() if all(isinstance(key, str) for key in value):
            return {key: _json(item) for key, item in value.items()}
        case dict():
            raise TypeError("the value is an object whose keys are not all strings")
        case _:
            raise TypeError(
                f"the value is {kind_of(value)}, which JSON does not have: turn it into a string with string(...)"
            )


def _explained(error: Exception, source: str, scope: Scope, reads: Sequence[Read]) -> ExpressionError:
    """The path that was missing, if one was: the one that the library's `KeyError` or `IndexError`
    is about, before others.
    """
    shown = source if len(source) <= SHOWN_SOURCE else source[:SHOWN_SOURCE] + "..."
    return ExpressionError(f"{_reason(error, scope, reads)} (in: {shown})")


def _reason(error: Exception, scope: Scope, reads: Sequence[Read]) -> str:
    lost = [(read, why) for read in reads if (why := missing(scope, read.segments))]
    if isinstance(error, KeyError):
        name = str(error.args[0]).strip("'")
        exact = [why for read, why in lost if name in read.segments]
        return exact[0] if exact else f"there is no '{name}' to read"
    untested = [why for read, why in lost if not read.tested]
    text = str(error).split(". ")[0].rstrip(".")
    if untested and not isinstance(error, ArithmeticError):
        return untested[0]
    return text
