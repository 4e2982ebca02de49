"""`mesh routes check`: what is wrong, or probably a mistake, in route files, before anything runs.

Owns the findings beyond those of `compile_route`, each with its file, line and fix. An error can't
work; a warning works, but is probably a mistake. This module changes nothing and asks no broker:
the caller (the command line) brings the agents' cards and the roles, if there are any to check
against.

A new rule of the language needs code here only if it adds a way to be wrong: the compiler itself
says what expressions read.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from mesh.codec.route_file import SUFFIXES, LoadedRoute, load_routes
from mesh.codec.yaml_lines import YamlDocument, read_yaml
from mesh.core.capabilities import Contract
from mesh.core.route import capabilities_of
from mesh.core.signing import Level
from mesh.core.state import AgentCard
from mesh.errors import RouteInvalid
from mesh.inspection.card_conflicts import SchemaConflict
from mesh.inspection.checks import Known, RouteFinding, findings_of
from mesh.routes.problems import DocumentPath


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is wrong, or probably a mistake.

    `line` 0: the file as a whole. `code` is a short word for the kind, the same in every version.
    """

    file: str
    line: int
    severity: Literal["error", "warning"]
    code: str
    message: str

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All findings, and what there was to check against.

    `agents_known`, `roles_known`, `contracts_known`: whether agents, roles and capabilities could
    be checked. `asks_capabilities`: whether any route names a capability.
    """

    files: int
    routes: int
    agents_known: bool
    roles_known: bool
    contracts_known: bool
    asks_capabilities: bool
    findings: tuple[Finding, ...]

    def count(self, severity: str) -> int:
        return sum(finding.severity == severity for finding in self.findings)


def check(
    paths: Sequence[Path],
    *,
    agents: Mapping[str, AgentCard] | None = None,
    roles: Collection[str] | None = None,
    contracts: Mapping[str, Contract] | None = None,
    conflicts: Mapping[str, SchemaConflict] | None = None,
    calendars: Collection[str] | None = None,
    answers: Level = "none",
) -> Report:
    """Check files, and the route files in folders.

    `agents`: every agent that exists, by name. `roles`: the roles that somebody has. `contracts`:
    by capability. `calendars`: those that were applied. None: not known, so not checked.
    `conflicts`: agents whose living replicas disagree, by name. `answers`: what every answer must
    bring on this mesh.
    """
    findings: list[Finding] = []
    files = route_files(paths)
    loaded: list[LoadedRoute] = []
    try:
        loaded = load_routes(paths)
    except RouteInvalid as error:
        findings += _refused(str(error), files)
        loaded = [one for file in files for one in _alone(file)]
    routes = {one.route.name: one.route for one in loaded}
    known = Known(
        agents=agents,
        roles=roles,
        contracts=contracts,
        routes=routes,
        conflicts=conflicts or {},
        calendars=calendars,
        answers=answers,
    )
    for one in loaded:
        document = _document(one)
        findings += [_placed(one.file, document, found) for found in findings_of(one.route, known)]
    return Report(
        files=len(files),
        routes=len(loaded),
        agents_known=agents is not None,
        roles_known=roles is not None,
        contracts_known=contracts is not None,
        asks_capabilities=any(capabilities_of(one.route) for one in loaded),
        findings=tuple(sorted(set(findings), key=lambda one: (one.file, one.line, one.severity, one.message))),
    )


def route_files(paths: Sequence[Path]) -> list[Path]:
    """The files themselves, and the route files in folders."""
    found: list[Path] = []
    for path in paths:
        inside = sorted(child for child in path.iterdir() if child.suffix in SUFFIXES) if path.is_dir() else [path]
        found += [file for file in inside if file not in found]
    return found


def _alone(file: Path) -> list[LoadedRoute]:
    """The routes of one file if it compiles, else none.

    So a mistake in another file does not keep this one unchecked.
    """
    try:
        return load_routes([file])
    except RouteInvalid:
        return []


def _refused(message: str, files: Sequence[Path]) -> Iterator[Finding]:
    """The compiler's problems as findings.

    Each is one line of its message: `file:line: what is wrong (how to correct it)`.
    """
    for line in message.splitlines():
        file, number, what = _split(line, files)
        yield Finding(file=file, line=number, severity="error", code="invalid", message=what)


def _split(line: str, files: Sequence[Path]) -> tuple[str, int, str]:
    for file in sorted(map(str, files), key=len, reverse=True):
        if line.startswith(f"{file}:"):
            number, _, what = line[len(file) + 1 :].partition(": ")
            return (file, int(number), what) if number.isdigit() else (file, 0, line[len(file) + 2 :])
    return "", 0, line


def _document(loaded: LoadedRoute) -> YamlDocument:
    documents, _ = read_yaml(loaded.file)
    return next(document for document in documents if document.line == loaded.line)


def _placed(file: Path, document: YamlDocument, found: RouteFinding) -> Finding:
    return Finding(
        file=str(file),
        line=document.line_of(found.path),
        severity=found.severity,
        code=found.code,
        message=_named(found.path, found.message) + (f" ({found.hint})" if found.hint else ""),
    )


def _named(path: DocumentPath, message: str) -> str:
    """The message with the step's name before it, because several steps may share a line."""
    within: Any = path[1] if path[:1] == ("steps",) and len(path) > 1 else None
    return f"step {within}: {message}" if within is not None else message
