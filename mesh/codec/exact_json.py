"""JSON from outside, exact or refused: no number becomes another on its way in.

Owns the rule (docs/events.md, "Numbers"), and the decoding of all JSON that the mesh did not write
itself:

- a whole number has 64 bits, from -2**63 to 2**64-1;
- a decimal is a double's, written with any number of digits: `0.1`, `0.30000000000000004` and
  `0.1000000000000000055` are, `9007199254740993.0` and `1e400` are not;
- an object has each key once.

The C decoders round, or keep the last of two keys, without a word. But what they made is written
again in no time, and where that gives the same bytes nothing was lost; most senders write JSON just
so. Other bytes are looked over for what may be such a number, and how many quotes they hold tells
whether a key was lost. Only where that finds something is the text read once more, slowly, for the
path. JSON that the mesh did write (inbox, log, checkpoints) held when it came in.
"""

import json
import re
from collections import deque
from collections.abc import Iterator
from decimal import Context, Decimal
from math import isfinite
from typing import Any, Final

import msgspec
import orjson

DECODE_ERRORS: Final = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)
"""All that a decoder of records raises, whatever the bytes are."""

_INT_MIN: Final = -(2**63)
_UINT_END: Final = 2**64
_LONGEST: Final = 1_100  # a double's exact digits are 767 at the most
_SHOWN: Final = 50
_SURELY_EXACT: Final = 15  # digits that a double always holds
_SHAPES: Final = bytes.maketrans(b"123456789.E", b"0000000000e")
_MANY_DIGITS: Final = b"0" * (_SURELY_EXACT + 1)
_EXPONENT: Final = b"0e"
_LARGE_EXPONENTS: Final = (b"0e000", b"0e+000", b"0e-000")
"""Shapes of bytes that may be a number which is not exact. Searching for them takes a tenth of the
time of a regular expression."""

_ONLY_JSON: Final = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
"""The encoder's own forms of dates and classes are not pydantic's."""

_NUMBER: Final = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_QUOTE: Final = b'"'
_BACKSLASH: Final = b"\\"
_ESCAPED_QUOTE: Final = b"\\u0022"


class JsonRefused(ValueError):
    """JSON that can't be taken; the message says what and where."""


class InexactNumber(JsonRefused):
    """A number that would be another one after it was read."""


class NotJson(JsonRefused):
    """Bytes that are not JSON at all."""


def decode(raw: bytes | str) -> Any:
    """The value. Raises `JsonRefused`, and `NotJson` of its kind."""
    data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        _check_suspects(data)  # 1e400 is an error there, and deserves its own message
        raise NotJson(f"not JSON: {error}") from error
    try:
        again = orjson.dumps(value)
    except orjson.JSONEncodeError as error:  # there are levels that are read, and not written
        raise JsonRefused("it is nested too deep") from error
    if again != data:  # else all of it is in the value
        _check_suspects(data)
        # a key that was lost took its quotes along; one written as \u0022 would upset the count
        if data.count(_QUOTE) != again.count(_QUOTE) or (_BACKSLASH in data and _ESCAPED_QUOTE in data):
            _check_whole(data)
    return value


def check(raw: bytes) -> None:
    """The same rule, for bytes that another decoder turns into a record. Raises `JsonRefused`."""
    decode(raw)


def is_written_as(value: Any, raw: bytes) -> bool:
    """Whether `raw`, which another encoder made of `value`, surely holds all of it.

    False says nothing: then `check` tells. NaN and the infinities are null in either.
    """
    try:
        return orjson.dumps(value) == raw
    except TypeError:  # more than 64 bits, or nothing that JSON has
        return False


def written(value: Any) -> bytes | None:
    """The JSON of a value that has only what JSON has: None if another encoder must tell.

    Nothing of it is lost. What may be NaN or an infinity is left to others, too.
    """
    try:
        made = orjson.dumps(value, option=_ONLY_JSON)
    except TypeError:
        return None
    return None if b"null" in made else made


def check_part(raw: bytes, part: Any, *, after: bytes) -> None:
    """Check `part` of a record that another decoder made.

    If the bytes hold the part as it would be written, nothing of it was lost. Else this is `check`
    of the whole. `after`: what most likely stands before the part, which finds it faster.
    """
    try:
        written = orjson.dumps(part)
        # one comparison at its usual place; a search for long bytes takes longer than all the rest
        if raw.startswith(written, raw.find(after) + len(after)) or written in raw:
            return
    except TypeError:  # more than 64 bits, or nested too deep to be written
        pass
    check(raw)


_NOT_ZERO: Final = frozenset("123456789")


def is_exact(text: str) -> bool:
    """Whether a number, as it is written, is one of 64 bits or a double's."""
    if text.lstrip("-").isdigit():
        # the length first: Python refuses to read very long numbers
        return len(text) <= _SHOWN and _INT_MIN <= int(text) < _UINT_END
    if len(text) > _LONGEST:
        return False
    found = float(text)
    # the shortest form first, in which nearly all are written
    if repr(found) == text:
        return True
    # without a Decimal: it has no exponents of twenty digits
    if found == 0.0:
        return not _NOT_ZERO.intersection(text.lower().partition("e")[0])
    return isfinite(found) and _is_doubles(found, Decimal(text))


def _is_doubles(found: float, written: Decimal) -> bool:
    """Whether a double, written with as many digits, is this number."""
    digits = "".join(map(str, written.as_tuple().digits)).strip("0")
    return Context(prec=len(digits)).plus(Decimal(found)) == written


def _check_suspects(data: bytes) -> None:
    shapes = data.translate(_SHAPES)
    if _MANY_DIGITS not in shapes and (
        _EXPONENT not in shapes or not any(exponent in shapes for exponent in _LARGE_EXPONENTS)
    ):
        return
    for found in _NUMBER.finditer(data):
        text = found.group()
        if (len(text) > _SURELY_EXACT or b"e" in text or b"E" in text) and not is_exact(text.decode()):
            _check_whole(data)  # it may be in a string
            return


class _Fault:
    def __init__(self, message: str, kind: type[JsonRefused] = JsonRefused) -> None:
        self.message = message
        self.kind = kind


def _check_whole(data: bytes) -> None:
    """Read it slowly, and raise `JsonRefused` with the path of the first that does not hold."""
    try:
        document = json.loads(
            data, parse_int=_whole_number, parse_float=_decimal, object_pairs_hook=_object, parse_constant=_Fault
        )
    except RecursionError:
        raise JsonRefused("it is nested too deep") from None
    except ValueError as error:
        raise NotJson(f"not JSON: {error}") from error
    for path, fault in _faults(document):
        raise fault.kind(f"{path or 'the value'}: {fault.message}")


def _whole_number(text: str) -> Any:
    if is_exact(text):
        return 0
    return _Fault(f"the number {_cut(text)} does not fit in 64 bits (send it as a string)", InexactNumber)


def _decimal(text: str) -> Any:
    if is_exact(text):
        return 0.0
    message = f"the number {_cut(text)} can't be kept exactly: no double has this value (send it as a string)"
    return _Fault(message, InexactNumber)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def _object(pairs: list[tuple[str, Any]]) -> Any:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            return _Fault(f"the key {key[:_SHOWN]!r} is given twice in one object (keep one)")
        found[key] = value
    return found


# --- values ---------------------------------------------------------------------------------------


def check_value(value: Any) -> None:
    """The same rule for a value that is not text yet. Raises `JsonRefused`."""
    for path, fault in _faults(value):
        raise fault.kind(f"{path or 'the value'}: {fault.message}")


def _faults(document: Any) -> Iterator[tuple[str, _Fault]]:
    """What does not hold, with its path, in the document's order."""
    waiting: list[tuple[str, Any]] = [("", document)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            # a key that is no text is written as one, so it has the faults that a value has
            waiting += [(_below(path, str(key)), item) for key, item in reversed(value.items())]
            waiting += [(_below(path, str(key)), key) for key in value if not isinstance(key, str)]
        elif isinstance(value, list | tuple | set | frozenset | deque):
            # a stack: reversed, so that faults come in the document's order
            waiting += [(f"{path}[{place}]", item) for place, item in reversed(list(enumerate(value)))]
        elif (fault := _fault_of(value)) is not None:
            yield path, fault


def _below(path: str, key: str) -> str:
    if not key.isidentifier():
        return f"{path}[{key[:_SHOWN]!r}]"
    return f"{path}.{key[:_SHOWN]}" if path else key[:_SHOWN]


def _fault_of(value: Any) -> _Fault | None:
    match value:
        case _Fault():
            return value
        case bool():
            return None
        case int() if not _INT_MIN <= value < _UINT_END:
            return _Fault(f"the number {_digits(value)} does not fit in 64 bits (send it as a string)", InexactNumber)
        case float() if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 - NaN
            return _Fault(f"{value} is not a number that JSON has", InexactNumber)
        case str() if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            return _Fault("the text holds half of a surrogate pair")
        case _:
            return None


def _digits(value: int) -> str:
    bits = value.bit_length()
    return str(value) if bits < 500 else f"of {bits} bits"  # noqa: PLR2004 - Python refuses to write very long ones


def encode(value: Any, *, indent: bool = False) -> bytes:
    """JSON to show, whatever the value holds: an old log may have what is refused today."""
    options = orjson.OPT_NON_STR_KEYS | (orjson.OPT_INDENT_2 if indent else 0)
    try:
        return orjson.dumps(value, option=options)
    except TypeError:
        separators = None if indent else (",", ":")
        return json.dumps(value, indent=2 if indent else None, separators=separators).encode()
