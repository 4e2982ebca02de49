"""One way to write a JSON value down, so that equal values have equal bytes and equal digests."""

import json
from hashlib import sha256
from typing import Any

import orjson

__all__ = ["canonical", "digest"]


def canonical(value: Any) -> bytes:
    """JSON in UTF-8, keys sorted, no white space. Takes JSON types alone; raises `TypeError` on any other."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # a whole number beyond 64 bits is JSON too
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def digest(value: Any) -> str:
    """`sha256:` and 64 hexadecimal digits of the canonical JSON."""
    return "sha256:" + sha256(canonical(value)).hexdigest()
