"""Keys of private workflows beside an exported log: `FILE.keys`, one JSON line a key.

Owns the file's format. It is a file of its own, so that a copy of the log can be given away or kept
without them, and so that deleting a line erases what its key has sealed in that copy.
"""

import os
from base64 import b64decode, b64encode
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from mesh.codec.sealing import Key
from mesh.errors import OperatorError

ENDING: Final = ".keys"


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    workflow_id: str
    key: str
    secret: str


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Line).decode


def keys_path(export: Path) -> Path:
    """Where the keys of an exported log are by default."""
    return export.with_name(export.name + ENDING)


def write_keys(path: Path, keys: Iterable[Key]) -> None:
    """Write the keys to a new file that only its owner may read. Raises `OperatorError`."""
    try:
        # with its mode from the start: the file must not be open to others for a moment
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            for key in keys:
                secret = b64encode(key.secret).decode()
                file.write(_encode(_Line(workflow_id=key.workflow_id, key=key.id, secret=secret)) + b"\n")
    except OSError as error:
        raise OperatorError(f"{path} can't be written: {error.strerror or error}") from error


def read_keys(path: Path) -> dict[str, Key]:
    """The keys in a file, by name. Raises `OperatorError`."""
    found, number = dict[str, Key](), 0
    try:
        for text in path.read_bytes().splitlines():
            number += 1
            line = _decode(text)
            key = Key(line.workflow_id, line.key, b64decode(line.secret, validate=True))
            found[key.name] = key
    except (msgspec.MsgspecError, ValueError) as error:
        raise OperatorError(
            f"line {number} of {path} is no key ({type(error).__name__}): `mesh log export` writes them"
        ) from error
    except OSError as error:
        raise OperatorError(f"{path} can't be read: {error.strerror or error}") from error
    return found
