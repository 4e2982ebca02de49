"""A JSON value as the fields of a form, and back.

Owns which field each member gets, by its schema where there is one, and else by its value. A text
that nobody has touched comes back exactly as it was: browsers change line ends, and the page shows
hidden characters as codes. It judges no value but what a field itself can't hold.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

import msgspec

from mesh.codec import exact_json
from mesh.core.json_values import digest
from mesh.core.schemas import SchemaTooCostly, SchemaUnusable, misfit
from mesh.inspection.wording.plain import printable

Kind = Literal["line", "text", "lines", "choice", "check", "number", "json"]
MOST_FIELDS: Final = 60  # a value with more members is edited as one text
LONG: Final = 80  # characters beyond which a text gets more than a line
_MOST_ROWS: Final = 24
_WHOLE: Final = ""  # the name of the one field of a value that has no members
_ABSENT: Final = msgspec.UNSET


class Choice(NamedTuple):
    value: str  # as JSON
    title: str


class Field(NamedTuple):
    """A field. `text`: what it holds; of a check, `true` or empty. `problem`: why it is refused."""

    name: str
    title: str
    kind: Kind
    text: str
    hint: str = ""
    choices: tuple[Choice, ...] = ()
    needed: bool = False
    problem: str = ""

    @property
    def rows(self) -> int:
        """How high its text area is."""
        wrapped = sum(1 + len(line) // LONG for line in self.text.split("\n"))
        return max(3, min(_MOST_ROWS, wrapped + 1))


class Read(NamedTuple):
    """What was typed. `fields` have it as it was, with their problems; `value` only without any."""

    value: Any
    fields: list[Field]
    problem: str = ""  # of no field

    @property
    def is_refused(self) -> bool:
        return bool(self.problem) or any(field.problem for field in self.fields)


def fields_of(value: Any, schema: Any = None, *, as_one: bool = False) -> list[Field]:
    """The fields for this value: long texts first, since they are what is approved.

    `as_one`: a single field, with all of it as JSON.
    """
    names = None if as_one else _names(value, schema)
    if names is None:
        return [Field(_WHOLE, "", "json", _json(value), "JSON")]
    required = schema.get("required") if isinstance(schema, Mapping) else None
    found = [
        _field(name, value.get(name, _ABSENT), _about(schema, name), isinstance(required, list) and name in required)
        for name in names
    ]
    return sorted(found, key=lambda field: field.kind != "text")


def read(given: Mapping[str, str], value: Any, schema: Any = None, *, prefix: str = "f.", as_one: bool = False) -> Read:
    """What a person has made of the value. `given`: the form's fields, each with this prefix."""
    before = fields_of(value, schema, as_one=as_one)
    typed = [field._replace(text=given.get(prefix + field.name, "")) for field in before]
    if len(before) == 1 and before[0].name == _WHOLE:
        made, problem = _as_json(typed[0].text, before[0].text, value)
        return _checked(made, [typed[0]._replace(problem=problem)], schema)
    members, fields = dict[str, Any](), list[Field]()
    for field, old in zip(typed, before, strict=True):
        found, problem = _value(field, old, value.get(field.name, _ABSENT))
        fields.append(field._replace(problem=problem))
        if found is not _ABSENT:
            members[field.name] = found
    # in the order of the value, then that of the schema: only what was changed may differ
    return _checked({name: members[name] for name in _names(value, schema) or () if name in members}, fields, schema)


def is_changed(before: Any, after: Any) -> bool:
    """Whether it is another value; 1 and true are two."""
    return digest(before) != digest(after)


def _checked(value: Any, fields: list[Field], schema: Any) -> Read:
    """Hold it against its schema, and put the fault to its field."""
    if schema is None or any(field.problem for field in fields):
        return Read(value, fields)
    try:
        fault = misfit(schema, value)
    except (SchemaTooCostly, SchemaUnusable) as error:
        return Read(value, fields, f"It can't be checked: {error}")
    if fault is None:
        return Read(value, fields)
    where, path = fault.json_path, list(fault.absolute_path)
    at = str(path[0]) if path else _missing(fault.message, fields)
    said = fault.message if len(path) <= 1 else f"{where}: {fault.message}"
    if not any(field.name == at for field in fields):
        return Read(value, fields, f"{where}: {fault.message}")
    return Read(value, [field._replace(problem=said) if field.name == at else field for field in fields])


def _missing(message: str, fields: list[Field]) -> str:
    """The field that a fault of the whole is about; of a value without members, its only one."""
    if len(fields) == 1 and fields[0].name == _WHOLE:
        return _WHOLE
    return next((field.name for field in fields if message.startswith(f"{field.name!r} is a required")), "\0")


# One member ---------------------------------------------------------------------------------------


def _names(value: Any, schema: Any) -> list[str] | None:
    """The members; None: it has none, or too many for a form."""
    if not isinstance(value, dict):
        return None
    known = schema.get("properties") if isinstance(schema, Mapping) else None
    more = known if isinstance(known, Mapping) else {}
    names = list(dict.fromkeys((*value, *more)))
    is_plain = all(name and printable(name) == name for name in names)
    return names if 0 < len(names) <= MOST_FIELDS and is_plain else None


def _about(schema: Any, name: str) -> Mapping[str, Any]:
    known = schema.get("properties") if isinstance(schema, Mapping) else None
    about = known.get(name) if isinstance(known, Mapping) else None
    return about if isinstance(about, Mapping) else {}


def _field(name: str, value: Any, about: Mapping[str, Any], needed: bool) -> Field:  # noqa: FBT001 - private
    title = about.get("title")
    shown = title if isinstance(title, str) and title else name
    kind, choices = _kind(value, about), tuple(_choices(about)) if "enum" in about else ()
    return Field(name, shown, kind, _text(value, kind), _hint(kind, about), choices, needed)


def _kind(value: Any, about: Mapping[str, Any]) -> Kind:
    match value:
        case _ if isinstance(about.get("enum"), list) and about["enum"]:
            return "choice"
        case bool():
            return "check"
        case int() | float():
            return "number"
        case str() if not _is_plain(value):
            return "json"
        case str():
            return "text" if len(value) > LONG or "\n" in value else _text_kind(about)
        case list() if value and all(isinstance(one, str) and _is_item(one) for one in value):
            return "lines"
        case list() if not value:
            return _of_type(about) if about.get("type") == "array" else "lines"
        case msgspec.UNSET | None:
            return _of_type(about)
        case _:
            return "json"


def _of_type(about: Mapping[str, Any]) -> Kind:
    """The field of a member that is not there, by its schema alone."""
    match about.get("type"):
        case "string":
            return _text_kind(about)
        case "boolean":
            return "check"
        case "integer" | "number":
            return "number"
        case "array" if isinstance(about.get("items"), Mapping) and about["items"].get("type") == "string":
            return "lines"
        case _:
            return "json"


def _text_kind(about: Mapping[str, Any]) -> Kind:
    longest = about.get("maxLength")
    return "text" if isinstance(longest, int) and longest > 4 * LONG else "line"


def _is_plain(text: str) -> bool:
    """Whether a field can hold the text: no hidden character, and no line end but a newline."""
    return printable(text) == text and "\r" not in text


def _is_item(text: str) -> bool:
    return _is_plain(text) and text.strip() == text != "" and "\n" not in text


def _choices(about: Mapping[str, Any]) -> Iterator[Choice]:
    for one in about["enum"] if isinstance(about["enum"], list) else []:
        yield Choice(_json(one), one if isinstance(one, str) else _json(one))


def _hint(kind: Kind, about: Mapping[str, Any]) -> str:
    said = about.get("description")
    parts = [said] if isinstance(said, str) else []
    parts += {"lines": ["one a line"], "json": ["JSON"]}.get(kind, [])
    for name, word in (
        ("minimum", "at least"),
        ("maximum", "at most"),
        ("minLength", "at least"),
        ("maxLength", "up to"),
    ):
        if isinstance(about.get(name), int | float):
            parts.append(f"{word} {about[name]:,}{' characters' if name.endswith('Length') else ''}")
    return ", ".join(parts)


def _text(value: Any, kind: Kind) -> str:
    match kind:
        case _ if value is _ABSENT:
            return ""
        case "line" | "text":
            return value if isinstance(value, str) else ""
        case "lines":
            return "\n".join(value) if isinstance(value, list) else ""
        case "check":
            return "true" if value is True else ""
        case "number":
            return "" if value is None else _json(value)
        case _:
            return _json(value)


def _value(field: Field, old: Field, before: Any) -> tuple[Any, str]:
    """The member's value, or why there is none. Absent: it stays away."""
    text = field.text
    if text == old.text and (before is not _ABSENT or not field.needed):
        return before, ""
    match field.kind:
        case "line" | "text" if not text and before is _ABSENT:
            return _ABSENT, "this is needed"
        case "line" | "text":
            return text, ""
        case "lines":
            return [line.strip() for line in text.split("\n") if line.strip()], ""
        case "check":
            return text == "true", ""
        case "choice" if text and all(one.value != text for one in field.choices):
            return _ABSENT, "choose one of these"
        case _ if not text.strip():
            return (_ABSENT, "") if not field.needed else (_ABSENT, "this is needed")
        case "number":
            return _as_number(text)
        case _:
            return _as_json(text, old.text, before)


def _as_number(text: str) -> tuple[Any, str]:
    try:
        found = exact_json.decode(text.strip())
    except exact_json.JsonRefused:
        found = None
    if isinstance(found, bool) or not isinstance(found, int | float):
        return _ABSENT, "write a number, such as 12 or 0.5"
    return found, ""


def _as_json(text: str, old: str, before: Any) -> tuple[Any, str]:
    if text == old:
        return before, ""
    try:
        return exact_json.decode(text), ""
    except exact_json.JsonRefused as error:
        return _ABSENT, str(error)


def _json(value: Any) -> str:
    """The value as JSON, with hidden characters as its own escapes."""
    text = exact_json.encode(value, indent=isinstance(value, dict | list)).decode("utf-8", "surrogatepass")
    return "".join(one if one == "\n" or printable(one) == one else _escaped(one) for one in text)


def _escaped(one: str) -> str:
    units = one.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
