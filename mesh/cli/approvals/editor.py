"""A payload in a person's editor: as YAML, which shows a text of several lines as such.

Owns both ways, out and back. If nothing was changed, the same JSON value comes back. It judges no
payload. The commands in which a person edits what they approve call it.
"""

import os
import re
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory, mkstemp
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from mesh.codec import exact_json
from mesh.codec.yaml_lines import read_yaml

WIDTH: Final = 1_000_000  # columns: a long line stays one line, since line breaks are the author's own

# JSON allows these unescaped; YAML 1.2.2 (5.1, 5.4) forbids them, or ends a line there.
_NOT_IN_YAML: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def to_editor(payload: Any) -> str:
    """The payload as YAML, with texts of several lines as blocks.

    If the YAML would not give the same value back, it is JSON instead, which is YAML too.
    """
    yaml = YAML(typ="rt", pure=True)
    yaml.width = WIDTH
    yaml.allow_unicode = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    written = StringIO()
    yaml.dump(_blocks(payload), written)
    text = written.getvalue().removesuffix("...\n")
    try:
        # YAML may read a text back as something else; then the person edits JSON.
        if from_editor(text) == payload:
            return text
    except ValueError:
        pass
    text = exact_json.encode(payload, indent=True).decode() + "\n"
    return _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def from_editor(text: str) -> Any:
    """The JSON value of an edited text. Raises `ValueError` with the line of the mistake."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "payload.yaml"
        path.write_text(text, encoding="utf-8")
        documents, faults = read_yaml(path)
    faults = [*faults, *(fault for document in documents for fault in document.faults)]
    if faults:
        raise ValueError("; ".join(f"line {fault.line}: {fault.message}" for fault in faults))
    if len(documents) != 1:
        raise ValueError("nothing is left of it" if not documents else "more than one document (take out ---)")
    return documents[0].value


def keep(folder: Path, name: str, payload: Any) -> Path:
    """Write an edited payload into a file that its author alone may read. Returns its path.

    Where the folder can't be written, the file is in the machine's folder for temporary files.
    """
    words = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-")[-80:]
    content = exact_json.encode(payload, indent=True) + b"\n"
    for where in (folder, None):
        try:
            if where is not None:
                where.mkdir(parents=True, exist_ok=True)
            # made for the owner alone, and never in place of another
            handle, path = mkstemp(prefix=f"{words}-", suffix=".json", dir=where)
        except OSError:
            if where is None:
                raise
            continue
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        return Path(path)
    raise AssertionError("there is always a second place")


def _blocks(value: Any) -> Any:
    match value:
        case dict():
            return {name: _blocks(member) for name, member in value.items()}
        case list():
            return [_blocks(member) for member in value]
        case str() if "\n" in value:
            return LiteralScalarString(value)
        case _:
            return value
