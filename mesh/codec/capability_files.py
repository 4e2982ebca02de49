"""Capabilities' contracts: YAML files, one contract a document.

    capability: translate
    description: Put a text into another language.
    input:  {type: object, required: [text, to], properties: {text: {type: string}, ...}}
    output: {type: object, required: [text], properties: {text: {type: string}}}

Owns the files' shape. `mesh.inspection.checks.capabilities` says whether routes and agents keep a
contract. The command line calls `load_contracts`.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from mesh.codec.route_file import SUFFIXES
from mesh.codec.yaml_lines import read_yaml
from mesh.core.capabilities import Contract
from mesh.core.json_values import kind_of
from mesh.errors import SettingsInvalid
from mesh.routes.problems import DocumentPath, near

_KEYS: Final = ("capability", "description", "input", "output")
_NAME: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
_Trouble = tuple[DocumentPath, str]


def load_contracts(paths: Sequence[Path]) -> dict[str, Contract]:
    """The contracts of files, and of the `*.yaml` and `*.yml` files in folders, by capability.

    Raises `SettingsInvalid`, with one line `file:line: what is wrong (how to fix it)` for every
    problem.
    """
    found: dict[str, Contract] = {}
    troubles: list[str] = []
    for file in _files(paths):
        for line, trouble in sorted(_load(file, found)):
            troubles.append(f"{file}:{line}: {trouble}")
    if troubles:
        raise SettingsInvalid("\n".join(troubles))
    return found


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        yield from sorted(child for child in path.iterdir() if child.suffix in SUFFIXES) if path.is_dir() else [path]


def _load(file: Path, found: dict[str, Contract]) -> list[tuple[int, str]]:
    """Put the file's contracts into `found`. Returns its problems, by line."""
    try:
        documents, faults = read_yaml(file)
    except OSError as error:
        raise SettingsInvalid(f"{file}: the file can't be read: {error.strerror} (is the path right?)") from error
    troubles = [(fault.line, fault.message) for fault in faults]
    for document in documents:
        troubles += [(fault.line, fault.message) for fault in document.faults]
        problems = [] if document.faults else list(_problems(document.value))
        troubles += [(document.line_of(path), what) for path, what in problems]
        if not problems and not document.faults:
            contract = Contract(**document.value)
            if contract.capability in found:
                troubles.append((document.line, f"the capability {contract.capability} is there already (keep one)"))
            found[contract.capability] = contract
    return troubles


def _problems(value: Any) -> Iterator[_Trouble]:
    if not isinstance(value, dict):
        yield (), f"a contract must be a mapping, not {kind_of(value)} (begin with capability: NAME)"
        return
    for key in value:
        if key not in _KEYS:
            yield (key,), f"unknown key {key} ({near(key, _KEYS)})"
    name = value.get("capability")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        yield ("capability",), "a contract needs capability: NAME (a-z first, then a-z, 0-9 and -)"
    if not isinstance(value.get("description", ""), str):
        yield ("description",), "description must be text"
    for key in ("input", "output"):
        yield from _of_schema(key, value.get(key))


def _of_schema(key: str, schema: Any) -> Iterator[_Trouble]:
    # slow to load, and few commands need it
    from mesh.core.schemas import NoSchema, check_schema, unusable_patterns  # noqa: PLC0415

    if not isinstance(schema, dict):
        yield (key,), f"a contract needs {key}: a JSON Schema ({key}: {{type: object, properties: ...}})"
        return
    try:
        check_schema(schema)
    except NoSchema as error:
        yield (key, *error.path), f"{key} is not a JSON Schema: {error}"
    for path, reason in unusable_patterns(schema):
        yield (key, *path), reason
