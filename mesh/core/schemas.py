"""JSON Schemas, checked in bounded time.

No schema and no payload holds a router for more than a moment.

Owns how a value is held against a schema. Schemas come from routes, agents' cards and contracts,
values from anybody. What would take long in `jsonschema` is done here in another way:

- `pattern` and `patternProperties` search with RE2, in linear time (`patterns`);
- `uniqueItems` compares texts, not each item with each other;
- every keyword that is looked at counts, since `$ref` can multiply: beyond `MAX_STEPS` the check
  is given up. A step takes a few microseconds.

Draft 2020-12. Nothing is fetched for a `$ref`, and `format` is not asserted.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from jsonschema import Draft202012Validator, FormatChecker, SchemaError, ValidationError, validators
from referencing import Registry
from referencing.exceptions import Unresolvable

from mesh.core.json_values import text_of
from mesh.core.patterns import PatternRefused, pattern

MAX_STEPS: Final = 100_000
# Far below Python's own limit of calls: there the library's native parts panic, and a panic is not
# an `Exception`. A level of a schema takes ten calls, a level of a check three.
MAX_NESTING: Final = 100
MAX_DEPTH: Final = 200
_TOO_DEEP: Final = "it leads into itself without end, or nests too deep"
_SHOWN: Final = 300
_VALUES: Final = frozenset({"const", "default", "enum", "examples"})  # what they hold is not a schema
_NOTHING_ELSE: Final[Registry[Any]] = Registry()
_NO_FORMATS: Final = FormatChecker(formats=())
_extended: Final[Any] = validators.extend
_Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]
_Path = tuple[str | int, ...]


class SchemaUnusable(ValueError):
    """A schema that no value can be checked against; the message says why."""


class NoSchema(SchemaUnusable):
    """A value that is not a JSON Schema; `path` leads to what is wrong."""

    def __init__(self, message: str, path: _Path = ()) -> None:
        super().__init__(message[:_SHOWN])
        self.path = path


class SchemaTooCostly(ValueError):
    """A check that would take too long."""


def misfit(schema: Any, value: Any) -> ValidationError | None:
    """Where the value does not fit the schema; None if it does.

    Raises `SchemaUnusable` and `SchemaTooCostly`.
    """
    try:
        check_schema(schema)
        return next(_counting()(_plain(schema), registry=_NOTHING_ELSE).iter_errors(value), None)
    except (PatternRefused, Unresolvable, OverflowError) as error:
        raise SchemaUnusable(str(error)[:_SHOWN]) from error
    except RecursionError as error:  # a value that nests deep, where items are compared
        raise SchemaUnusable(_TOO_DEEP) from error


def why_unfit(schema: dict[str, Any], value: Any, what: str, *, at: str) -> str:
    """Why `what` does not fit the schema that it must meet; empty if it fits.

    `at`: the name of the value in paths. The schema may be an agent's, which nobody has checked. A
    schema that can't be used lets no value pass, and does no other harm. Nothing is fetched for it.
    """
    try:
        problem = misfit(schema, value)
    except SchemaTooCostly as error:
        return f"{what} can't be checked: {error}; make it smaller"
    except SchemaUnusable as error:
        return f"{what} can't be checked, since its schema can't be used: {error}"
    if problem is None:
        return ""
    where = problem.json_path.replace("$", at, 1)
    return f"{what} does not fit: {where}: {problem.message[:_SHOWN]}"


def check_schema(schema: Any) -> None:
    """Raises `NoSchema` where it is none. Patterns are not looked at."""
    if not _is_nested_at_most(schema, MAX_NESTING):
        raise NoSchema(f"it nests deeper than {MAX_NESTING} levels")
    try:
        Draft202012Validator.check_schema(schema, format_checker=_NO_FORMATS)
    except SchemaError as error:
        raise NoSchema(error.message, tuple(error.absolute_path)) from error


def _is_nested_at_most(value: Any, levels: int) -> bool:
    # level by level, without recursion: this is what keeps the others from recursing too deep
    below = [value]
    for _ in range(levels + 1):
        parts = [one for one in below if isinstance(one, dict | list)]
        if not parts:
            return True
        below = [part for one in parts for part in (one.values() if isinstance(one, dict) else one)]
    return False


def _plain(schema: Any) -> Any:
    """The schema without `$schema`, at which `jsonschema` would go over to a checker of its own.

    Raises `SchemaUnusable` for two keywords that only that one has together.
    """
    found = _without_dialect(schema)
    if found[1] >= {"patternProperties", "unevaluatedProperties"}:
        raise SchemaUnusable("it has both patternProperties and unevaluatedProperties: take one of them out")
    return found[0]


def _without_dialect(schema: Any) -> tuple[Any, set[str]]:
    if isinstance(schema, list):
        parts = [_without_dialect(part) for part in schema]
        return [part for part, _ in parts], set().union(*(keys for _, keys in parts))
    if not isinstance(schema, dict):
        return schema, set()
    plain, keys = {}, set(schema)
    for key, part in schema.items():
        if key == "$schema" and isinstance(part, str):
            continue
        plain[key], below = (part, set[str]()) if key in _VALUES else _without_dialect(part)
        keys |= below
    return plain, keys


def unusable_patterns(schema: Any, path: _Path = ()) -> Iterator[tuple[_Path, str]]:
    """The patterns of a schema that can't be used, with their paths, and why."""
    if isinstance(schema, dict):
        named = schema.get("patternProperties")
        sources = [((*path, "pattern"), schema.get("pattern"))]
        sources += [((*path, "patternProperties"), name) for name in named] if isinstance(named, dict) else []
        for at, source in sources:
            if isinstance(source, str) and (refused := _refused(source)):
                yield at, refused
        for key, part in schema.items():
            if key not in _VALUES:
                yield from unusable_patterns(part, (*path, key))
    elif isinstance(schema, list):
        for place, part in enumerate(schema):
            yield from unusable_patterns(part, (*path, place))


def _refused(source: str) -> str:
    try:
        pattern(source)
    except PatternRefused as refused:
        return str(refused)
    return ""


# --- keywords -------------------------------------------------------------------------------------


def _counting() -> Any:
    """A validator that gives up after `MAX_STEPS`, all keywords of one check together.

    And where keywords lead into one another more than `MAX_DEPTH` deep.
    """
    # made for each check: the count is of that one alone
    left, depth = MAX_STEPS, 0

    def counted(keyword: _Keyword) -> _Keyword:
        def checked(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
            nonlocal left, depth
            left -= 1 + _size(value) + (len(instance) >> 3 if type(instance) in (list, dict) else 0)
            if left < 0:
                raise SchemaTooCostly(f"the check takes more than {MAX_STEPS:,} steps")
            if depth >= MAX_DEPTH:
                raise SchemaUnusable(_TOO_DEEP)
            depth += 1
            try:
                yield from keyword(validator, value, instance, schema) or ()
            finally:
                depth -= 1

        return checked

    keywords: dict[str, _Keyword] = {**Draft202012Validator.VALIDATORS, **_OWN}
    return _extended(Draft202012Validator, {name: counted(keyword) for name, keyword in keywords.items()})


def _size(value: Any) -> int:
    """What a keyword like `enum` or `required` goes through."""
    return len(value) >> 3 if type(value) in (list, dict) else 0


def _pattern(validator: Any, source: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not pattern(source).is_in(instance):
        yield ValidationError(f"{instance[:_SHOWN]!r} does not match {source!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for source, below in patterns.items():
        wanted = pattern(source)
        for name, value in instance.items():
            if wanted.is_in(name):
                yield from validator.descend(value, below, path=name, schema_path=source)


def _strangers(instance: Any, schema: Any) -> list[str]:
    """The properties that neither `properties` nor `patternProperties` speaks of."""
    known = schema.get("properties", {})
    wanted = [pattern(source) for source in schema.get("patternProperties", ())]
    return [name for name in instance if name not in known and not any(one.is_in(name) for one in wanted)]


def _additional_properties(validator: Any, below: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    strangers = _strangers(instance, schema)
    if validator.is_type(below, "object"):
        for name in strangers:
            yield from validator.descend(instance[name], below, path=name)
    elif not below and strangers:
        names = ", ".join(repr(name) for name in sorted(strangers)[:5])
        yield ValidationError(f"Additional properties are not allowed ({names} {_were(strangers)} unexpected)")


def _were(names: list[str]) -> str:
    return "was" if len(names) == 1 else "were"


def _unique_items(validator: Any, wanted: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    """`uniqueItems`, by text: equal values have equal texts, and `"1"` has its quotes."""
    if not (wanted and validator.is_type(instance, "array")):
        return
    if len({text_of([item]) for item in instance}) < len(instance):
        yield ValidationError("it has non-unique elements")


_OWN: Final[dict[str, _Keyword]] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "uniqueItems": _unique_items,
}
