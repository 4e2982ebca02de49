"""The data of an event: one content type, one shape, whatever the bytes.

Owns which shape a content type gives, and the way between bytes and that shape. `cloudevents` is
its only caller, but for `decode_json`, which other codecs use too.

    content type                             shape
    JSON: */json, +json; none at all         `data`, any JSON
    text: text/*, XML, YAML, JSON lines, ... `data`, a string
    any other                                `data_base64`

Text is UTF-8 unless the content type names another charset. Bytes that are not what their content
type says are refused: an agent that reads `data` must find it each time.
"""

import codecs
import re
from base64 import b64decode, b64encode
from functools import lru_cache
from typing import Any, Final, Literal, NamedTuple

import orjson

from mesh.codec import exact_json
from mesh.errors import MalformedRecord

MAX_JSON_DEPTH: Final = (
    # levels; C decoders and encoders recurse, and the interpreter's limit of 1,000 frames is not
    # ours to use up
    128
)
DEFAULT: Final = "application/json"  # CloudEvents 1.0.2, "datacontenttype"
BYTES: Final = "application/octet-stream"

_JSON: Final = re.compile(r"[^/\s]+/([^;\s]+\+)?json")
_TEXT: Final = re.compile(r"text/.*|[^/\s]+/([^;\s]+\+)?(xml|yaml)")
_OTHER_TEXT: Final = frozenset(
    "application/" + name
    for name in (
        "ecmascript",
        "graphql",
        "javascript",
        "json-seq",
        "jsonl",
        "jsonlines",
        "ndjson",
        "sql",
        "toml",
        "x-javascript",
        "x-ndjson",
        "x-www-form-urlencoded",
        "x-yaml",
        "xml-dtd",
    )
)
_CHARSET: Final = re.compile(r";\s*charset\s*=\s*\"?([^\s;\"]+)", re.IGNORECASE)
_CHARSETS: Final = re.compile(r"utf-(8|16|32)(-[bl]e)?|ascii|iso8859-\d+|cp\d+|koi8-.*|shift_jis|euc_.*|gb.*|big5")
"""Python's names of the charsets that are decoded. Others of its codecs are no charsets."""


class Refused(MalformedRecord):
    """The problem, without the record's place."""


class Inexact(Refused):
    """JSON of which a part would be lost."""


class Content(NamedTuple):
    """What a content type says of the data. `charset`: Python's name; None if it has no such."""

    shape: Literal["json", "text", "bytes"]
    charset: str | None = "utf-8"


@lru_cache(maxsize=256)
def content_of(content_type: str) -> Content:
    media_type = content_type.partition(";")[0].strip().lower()
    if _JSON.fullmatch(media_type):
        return Content("json")
    if not (_TEXT.fullmatch(media_type) or media_type in _OTHER_TEXT):
        return Content("bytes")
    named = _CHARSET.search(content_type)
    return Content("text", _charset(named[1]) if named else "utf-8")


def _charset(name: str) -> str | None:
    try:
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
    if found in ("ascii", "utf-8"):
        return "utf-8"
    return found if _CHARSETS.fullmatch(found) else None


def is_json(content_type: str) -> bool:
    return content_of(content_type).shape == "json"


def same_content(one: str, other: str) -> bool:
    """Whether two content types say the same, however they are written."""
    return one == other or _plain(one) == _plain(other)


def _plain(content_type: str) -> tuple[str, frozenset[str]]:
    """The parts of a content type; without UTF-8, which says nothing about JSON or text."""
    media_type, *parameters = content_type.replace('"', "").lower().split(";")
    plain = frozenset("".join(parameter.split()) for parameter in parameters if parameter.strip())
    return media_type.strip(), plain - {"charset=utf-8"}


# --- bytes in -------------------------------------------------------------------------------------


def put_bytes(event: dict[str, Any], value: bytes, what: str) -> None:
    """Put the bytes of the data into the event, in the shape of its content type.

    JSON of no bytes at all is no data.
    """
    content_type = event.get("datacontenttype")
    shape, charset = content_of(content_type) if type(content_type) is str else Content("json")
    if shape == "json":
        if value:
            event["data"] = decode_json(value, what)
            # said in the event, so that rules see the same whichever mode it came in
            if content_type is None:
                event["datacontenttype"] = DEFAULT
    elif shape == "text":
        event["data"] = _text(value, charset, content_type, what)
    else:
        event["data_base64"] = b64encode(value).decode()


def _text(value: bytes, charset: str | None, content_type: Any, what: str) -> str:
    if charset is None:
        raise _unknown_charset(content_type)
    try:
        return value.decode(charset)
    except UnicodeDecodeError as error:
        raise Refused(
            f"{what} is not text in {charset}, which content type {content_type} says; "
            f"name its real charset there, or its real type, such as {BYTES}"
        ) from error


def _unknown_charset(content_type: Any) -> Refused:
    return Refused(f"content type {content_type} names a charset that the mesh can't read; send the data in UTF-8")


# --- members of the JSON format in ----------------------------------------------------------------


def settle_members(event: dict[str, Any]) -> None:
    """Give `data` or `data_base64` of the JSON format the shape of the event's content type."""
    encoded = event.pop("data_base64", None)
    if encoded is not None:
        if event.get("data") is not None:
            raise Refused("`data` and `data_base64` are both there; send one of them")
        # null beside `data_base64` says nothing
        event.pop("data", None)
        event.setdefault("datacontenttype", BYTES)
        put_bytes(event, decode_base64(encoded), "`data_base64`")
    elif "data" in event:
        _settle_data(event)


def _settle_data(event: dict[str, Any]) -> None:
    content_type = event.setdefault("datacontenttype", DEFAULT)
    shape, charset = content_of(content_type) if type(content_type) is str else Content("json")
    if shape == "json":
        return
    data = event.pop("data")
    if data is None:
        return
    if not isinstance(data, str):
        raise Refused(
            f"`data` is no string, and datacontenttype {content_type} is not JSON; "
            f"send a string, `data_base64`, or datacontenttype {DEFAULT}"
        )
    if shape == "bytes":
        event["data_base64"] = b64encode(_encoded(data, "utf-8")).decode()
    elif charset is None:
        raise _unknown_charset(content_type)
    else:
        if charset != "utf-8":
            # tried here, where it can be refused; its bytes are made when it is sent on
            _encoded(data, charset)
        event["data"] = data


def _encoded(text: str, charset: str) -> bytes:
    try:
        return text.encode(charset)
    except UnicodeEncodeError as error:
        raise Refused(f"`data` can't be written in {charset} ({error.reason}); send it in UTF-8") from error


def decode_base64(encoded: Any) -> bytes:
    if type(encoded) is not str:
        raise Refused("`data_base64` is not a string; encode the bytes by RFC 4648, section 4")
    try:
        return b64decode(encoded, validate=True)
    except ValueError as error:
        raise Refused("`data_base64` is not base64; encode the bytes by RFC 4648, section 4") from error


# --- out ------------------------------------------------------------------------------------------


def data_bytes(event: dict[str, Any]) -> bytes | None:
    """The bytes of the data of an event whose members are settled; None without data."""
    if "data_base64" in event:
        return b64decode(event["data_base64"])
    if "data" not in event:
        return None
    content = content_of(event["datacontenttype"])
    if content.shape == "text":
        return _encoded(event["data"], content.charset or "utf-8")
    try:
        exact_json.check_value(event["data"])
    except exact_json.JsonRefused as error:
        raise Refused(f"`data` can't be sent as it is: {error}") from error
    value = orjson.dumps(event["data"])
    _check_depth(value, event["data"], "`data`", MAX_JSON_DEPTH)
    return value


# --- JSON -----------------------------------------------------------------------------------------


def decode_json(value: bytes, what: str, *, around: int = 0) -> Any:
    """Decode JSON from outside.

    Raises `MalformedRecord` if it is not JSON, holds a number or a key that would be lost
    (`exact_json`), or nests deeper than `MAX_JSON_DEPTH`; `what` begins the message. `around`: the
    levels of an envelope, which do not count.
    """
    try:
        document = exact_json.decode(value)
    except exact_json.NotJson as error:
        reason = str(error).removeprefix("not JSON: ")
        raise Refused(f"{what} is not JSON ({reason}); send valid JSON, or name its real content-type") from error
    except exact_json.JsonRefused as error:
        raise Inexact(f"{what} can't be taken as it is: {error}") from error
    _check_depth(value, document, what, MAX_JSON_DEPTH + around)
    return document


def _check_depth(value: bytes, document: Any, what: str, limit: int) -> None:
    # there can't be more levels than brackets, and those are counted fast
    if value.count(b"[") + value.count(b"{") > limit and _depth(document, limit) > limit:
        raise Refused(f"{what} is nested deeper than {MAX_JSON_DEPTH} levels; flatten it, or send it as text")


def _depth(document: Any, limit: int) -> int:
    """Levels of objects and arrays, counted only up to the first one too many."""
    # level by level: recursion could go as deep as what it is to find
    level: list[Any] = [document] if isinstance(document, dict | list) else []
    depth = 0
    while level and depth <= limit:
        depth += 1
        level = [
            child
            for parent in level
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) is dict or type(child) is list
        ]
    return depth
