"""One way to write a JSON value down, so that equal values have equal bytes and equal digests."""

from hashlib import sha256
from typing import Any

import orjson

__all__ = ["canonical", "digest"]


def canonical(value: Any) -> bytes:
    """JSON in UTF-8, keys sorted, no white space. Takes JSON types alone; raises `TypeError` on any other."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def digest(value: Any) -> str:
    """`sha256:` and 64 hexadecimal digits of the canonical JSON."""
    return "sha256:" + sha256(canonical(value)).hexdigest()
