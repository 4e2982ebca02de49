"""Expressions and templates: compile once when a route is loaded, evaluate for every event.

Owns `Expression` and `Template` of `mesh.core.route`: CEL in `if:`, and JSON values whose strings
may hold `${{ expression }}`. `mesh.routes.compiler` calls it; `decide` and `matching` evaluate what
it made. It must not know what names a route has: `reads` gives them to its callers.

A constant's value is shared, not copied: values are never changed in place.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from mesh.core.json_values import kind_of, text_of
from mesh.core.route import ExpressionError, Scope
from mesh.routes.expressions.closures import closure
from mesh.routes.expressions.lookups import Closure
from mesh.routes.expressions.paths import Read, path_text, reads
from mesh.routes.expressions.syntax import parse
from mesh.routes.expressions.tokens import ExpressionSyntaxError, tokenize

_OPEN: Final = "${{"
_ESCAPED: Final = "$${{"


class CompiledExpression:
    """An `Expression`. Equal to any other of the same source."""

    __slots__ = ("_run", "paths", "reads", "source")

    def __init__(self, source: str, run: Closure, found: tuple[Read, ...]) -> None:
        self.source = source
        self.reads = found  # where it reads what, with columns
        self.paths = frozenset(path_text(read.segments) for read in found)
        self._run = run

    def evaluate(self, scope: Scope) -> Any:
        try:
            return self._run(scope)
        except RecursionError as error:
            raise ExpressionError(f"a value is nested too deep (in: {self.source})") from error

    def is_true(self, scope: Scope) -> bool:
        value = self.evaluate(scope)
        if type(value) is bool:
            return value
        raise ExpressionError(f"the value must be true or false, not {kind_of(value)} (in: {self.source})")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CompiledExpression) and self.source == other.source

    def __hash__(self) -> int:
        return hash(self.source)

    def __repr__(self) -> str:
        return f"compile_expression({self.source!r})"


def compile_expression(source: str) -> CompiledExpression:
    """Compile CEL. Raises `ExpressionSyntaxError` with the column."""
    node = parse(source)
    found = tuple(reads(node))
    return CompiledExpression(source, closure(node, source), found)


# --- templates ------------------------------------------------------------------------------------


class TemplateRead:
    """One place where a template reads a path.

    `path` leads to the string, and `column` counts from 1 in it.
    """

    __slots__ = ("path", "read", "text")

    def __init__(self, path: tuple[str | int, ...], text: str, read: Read) -> None:
        self.path = path
        self.text = text
        self.read = read


class CompiledTemplate:
    """A `Template`.

    Equal to any other of the same source. `whole`: the expression, if the template is nothing else.
    """

    __slots__ = ("paths", "reads", "render", "source", "whole")

    render: Closure

    def __init__(
        self, source: Any, render: Closure, found: tuple[TemplateRead, ...], whole: CompiledExpression | None
    ) -> None:
        self.source = source
        self.reads = found
        self.paths = frozenset(path_text(place.read.segments) for place in found)
        self.whole = whole
        self.render = render

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CompiledTemplate) and bool(self.source == other.source)

    def __hash__(self) -> int:
        # the source may be a dict or a list, which have no hash
        return hash(self.paths)

    def __repr__(self) -> str:
        return f"compile_template({self.source!r})"


def compile_template(source: Any) -> CompiledTemplate:
    """Compile a JSON value.

    Raises `ExpressionSyntaxError` with the column in the string, the string and the path to it.
    """
    builder = _Builder()
    part = builder.value(source, ())
    if not isinstance(part, _Dynamic):
        constant = part
        return CompiledTemplate(source, lambda _scope: constant, (), None)
    return CompiledTemplate(source, part.render, tuple(builder.reads), part.whole)


def expressions_in(text: str) -> list[str]:
    """The expressions of a string that has compiled before: a template's, or the one that it is."""
    if _OPEN not in text:
        return [text]
    return [part.source for part in _Builder().parts(text, ()) if isinstance(part, CompiledExpression)]


class _Dynamic:
    """A part of a template that must be rendered; all other parts are plain values."""

    __slots__ = ("render", "whole")

    def __init__(self, render: Closure, whole: CompiledExpression | None = None) -> None:
        self.render = render
        self.whole = whole


class _Builder:
    def __init__(self) -> None:
        self.reads: list[TemplateRead] = []

    def value(self, source: Any, path: tuple[str | int, ...]) -> Any:
        match source:
            case str():
                return self.string(source, path)
            case dict():
                return self.of_dict(source, path)
            case list():
                return self.of_list(source, path)
            case _:
                return source

    def of_dict(self, source: dict[str, Any], path: tuple[str | int, ...]) -> Any:
        for key in source:
            if _OPEN in key:
                raise ExpressionSyntaxError(
                    "a key can't hold ${{ }}, only a value can", key.index(_OPEN) + 1, path=path, text=key
                )
        parts = {key: self.value(item, (*path, key)) for key, item in source.items()}
        if not any(isinstance(part, _Dynamic) for part in parts.values()):
            return parts
        # None holds the place, so that what is rendered keeps the order of the source
        fixed = {key: None if isinstance(part, _Dynamic) else part for key, part in parts.items()}
        changing = [(key, part.render) for key, part in parts.items() if isinstance(part, _Dynamic)]

        def render(scope: Scope) -> dict[str, Any]:
            made = fixed.copy()
            for key, run in changing:
                made[key] = run(scope)
            return made

        return _Dynamic(render)

    def of_list(self, source: list[Any], path: tuple[str | int, ...]) -> Any:
        parts = [self.value(item, (*path, place)) for place, item in enumerate(source)]
        if not any(isinstance(part, _Dynamic) for part in parts):
            return parts
        runs = [part.render if isinstance(part, _Dynamic) else _constant(part) for part in parts]
        return _Dynamic(lambda scope: [run(scope) for run in runs])

    def string(self, source: str, path: tuple[str | int, ...]) -> Any:
        if _OPEN not in source:
            return source
        parts = list(self.parts(source, path))
        if len(parts) == 1:
            only = parts[0]
            return only if isinstance(only, str) else _Dynamic(only.evaluate, only)
        if all(isinstance(part, str) for part in parts):
            return "".join(str(part) for part in parts)
        runs = [_constant(part) if isinstance(part, str) else part.evaluate for part in parts]
        return _Dynamic(lambda scope: "".join([text_of(run(scope)) for run in runs]))

    def parts(self, source: str, path: tuple[str | int, ...]) -> Iterator[str | CompiledExpression]:
        """Literal text and expressions in turn."""
        at = 0
        while (opening := source.find(_OPEN, at)) >= 0:
            if opening and source[opening - 1] == "$":  # `$${{` stands for `${{`
                yield source[at : opening - 1] + _OPEN
                at = opening + len(_OPEN)
                continue
            if opening > at:
                yield source[at:opening]
            start = opening + len(_OPEN)
            try:
                end = _closing(source, start)
                yield self.expression(source, start, end, path)
            except ExpressionSyntaxError as error:
                raise ExpressionSyntaxError(
                    error.message, error.column, fix=error.fix, path=path, text=source
                ) from error
            at = end + 2
        if at < len(source):
            yield source[at:]

    def expression(self, source: str, start: int, end: int, path: tuple[str | int, ...]) -> CompiledExpression:
        inner = source[start:end]
        lead = start + len(inner) - len(inner.lstrip())
        try:
            compiled = compile_expression(inner.strip())
        except ExpressionSyntaxError as error:
            raise ExpressionSyntaxError(error.message, error.column + lead, fix=error.fix) from error
        for read in compiled.reads:
            self.reads.append(TemplateRead(path, source, read._replace(column=read.column + lead)))
        return compiled


def _constant(value: Any) -> Callable[[Scope], Any]:
    return lambda _scope: value


def _closing(source: str, start: int) -> int:
    """The `}}` that closes the expression begun at `start`: not in a string, and not of a map."""
    depth = 0
    for token in tokenize(source, start):
        if token.text == "{":
            depth += 1
        elif token.text == "}" and depth:
            depth -= 1
        elif token.text == "}" and source.startswith("}}", token.start):
            return token.start
    raise ExpressionSyntaxError("${{ is not closed by }}", start - len(_OPEN) + 1, fix="write $${{ for the text itself")
