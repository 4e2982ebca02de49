"""Following paths: `event.data.labels[0]`, `steps.a["b"]`, `has(event.x)`.

Owns the closures that read, the hot part of every rule, and what they say where nothing is there.
`closures` calls it, with the way to make an error of a message.
"""

from collections.abc import Callable
from typing import Any

from mesh.core.route import ExpressionError, Scope
from mesh.routes.expressions.paths import Segments, has_segment, missing, path_text, what_is_there
from mesh.routes.expressions.values import Unsigned, key_of, words

Closure = Callable[[Scope], Any]
"""An expression, or a part of one, as a function of the scope. It raises `ExpressionError`."""

ErrorOf = Callable[[str], ExpressionError]


def follow(segments: Segments, error_of: ErrorOf) -> Closure:
    """A path that is known whole."""

    def lost(scope: Scope) -> ExpressionError:
        # the path is walked once more to say where it ends, so that a hit pays for no message
        return error_of(str(missing(scope, segments)))

    def followed(scope: Scope) -> Any:
        holder: Any = scope
        for segment in segments:
            if not has_segment(holder, segment):
                raise lost(scope)
            holder = holder[segment]
        return holder

    if any(isinstance(segment, int) for segment in segments):
        return followed
    # Only an object takes a string in brackets: with any other value, Python raises what is
    # caught here.
    match segments:
        case (first, second, third):

            def path_of_three(scope: Scope) -> Any:
                try:
                    return scope[first][second][third]  # type: ignore[index]  # names alone: checked above
                except (KeyError, TypeError):
                    raise lost(scope) from None

            return path_of_three
        case (first, second, third, fourth):

            def path_of_four(scope: Scope) -> Any:
                try:
                    return scope[first][second][third][fourth]  # type: ignore[index]  # names alone: checked above
                except (KeyError, TypeError):
                    raise lost(scope) from None

            return path_of_four
        case _:

            def path_of_names(scope: Scope) -> Any:
                holder: Any = scope
                try:
                    for segment in segments:
                        holder = holder[segment]
                except (KeyError, TypeError):
                    raise lost(scope) from None
                return holder

            return path_of_names


def index(holder_of: Closure, label: str, place: Closure, error_of: ErrorOf) -> Closure:
    """A field or place that is computed, or of something that is; `label` is the holder's text."""

    def indexed(scope: Scope) -> Any:
        holder, segment = holder_of(scope), place(scope)
        if type(segment) is Unsigned:
            segment = int(segment)
        if type(segment) in (str, int) and has_segment(holder, segment):
            return holder[segment]
        if type(holder) is dict and type(segment) in (int, bool) and key_of(segment) in holder:
            return holder[key_of(segment)]
        if type(segment) in (str, int):
            raise error_of(f"{path_text((label, segment))} is not there; {what_is_there(label, holder)}")
        what = "a fraction" if type(segment) is float else words(segment)
        raise error_of(f"{label}[...] takes a whole number or a string, not {what}")

    return indexed


def has_field(holder_of: Closure, label: str, field: str, error_of: ErrorOf) -> Closure:
    """`has(label.field)`."""

    def tested(scope: Scope) -> bool:
        holder = holder_of(scope)
        if type(holder) is dict:
            return field in holder
        raise error_of(f"has({label}.{field}) needs an object, but {what_is_there(label, holder)}")

    return tested
