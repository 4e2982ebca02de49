"""A payload in a person's editor: as YAML, since a text of several lines is a single one in JSON.

Owns the two ways, out and back; what comes back is the same JSON value if nothing was changed. It
judges no payload. Called where a person edits what they approve.
"""

import re
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString

from mesh.codec import exact_json
from mesh.codec.yaml_lines import read_yaml

WIDTH: Final = 1_000_000  # columns: a long line stays one, since its breaks would be the author's

# What JSON allows as it is and YAML 1.2.2 (5.1, 5.4) does not, or takes for a line's end.
_NOT_IN_YAML: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def to_editor(payload: Any) -> str:
    """YAML, texts of several lines as blocks; JSON (which is YAML too) for what would not come back
    the same.
    """
    yaml = YAML(typ="rt", pure=True)
    yaml.width = WIDTH
    yaml.allow_unicode = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    written = StringIO()
    yaml.dump(_blocks(payload), written)
    text = written.getvalue().removesuffix("...\n")
    try:
        if from_editor(text) == payload:
            return text
    except ValueError:
        pass
    text = exact_json.encode(payload, indent=True).decode() + "\n"
    return _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def from_editor(text: str) -> Any:
    """The JSON value. Raises `ValueError`, with the line."""
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
