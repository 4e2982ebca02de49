"""Route files: YAML to routes, with every problem as `file:line: what is wrong (how to fix it)`.

Owns files and lines; `mesh.routes.compiler` owns the rules of the language. The command line, the
wiring of routers and `mesh dev` call `load_routes`. Tests that hold a route in a string call
`load_route_text`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from mesh.codec.yaml_lines import Fault, YamlDocument, read_yaml, read_yaml_text
from mesh.core.route import Route
from mesh.errors import RouteInvalid
from mesh.routes.compiler import compile_route
from mesh.routes.problems import RouteProblem, RouteRefused

SUFFIXES = (".yaml", ".yml")


class LoadedRoute(msgspec.Struct, frozen=True, kw_only=True):
    route: Route
    file: Path
    line: int


class _Trouble(msgspec.Struct, frozen=True, order=True):
    file: str
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}" if self.line else f"{self.file}: {self.what}"


def load_routes(paths: Sequence[Path]) -> list[LoadedRoute]:
    """The routes of files, and of the `*.yaml` and `*.yml` files in folders, by name.

    Raises `RouteInvalid`, whose message has one line for every problem of every file.
    """
    loaded: list[LoadedRoute] = []
    troubles: list[_Trouble] = []
    for file in _files(paths, troubles):
        _load(file, loaded, troubles)
    _check_names(loaded, troubles)
    if troubles:
        raise RouteInvalid("\n".join(str(trouble) for trouble in sorted(set(troubles))))
    return sorted(loaded, key=lambda one: one.route.name)


def load_route_text(text: str, *, name: str) -> list[LoadedRoute]:
    """Load the routes of a file's text. `name` is the file's name in messages.

    Raises `RouteInvalid`.
    """
    loaded: list[LoadedRoute] = []
    troubles: list[_Trouble] = []
    _compile_all(Path(name), *read_yaml_text(text), loaded, troubles)
    _check_names(loaded, troubles)
    if troubles:
        raise RouteInvalid("\n".join(str(trouble) for trouble in sorted(set(troubles))))
    return loaded


def _files(paths: Sequence[Path], troubles: list[_Trouble]) -> Iterator[Path]:
    seen: set[Path] = set()
    for path in paths:
        found = [path]
        if path.is_dir():
            found = sorted(child for child in path.iterdir() if child.suffix in SUFFIXES and child.is_file())
            if not found:
                troubles.append(_Trouble(str(path), 0, "the folder has no route file (*.yaml or *.yml)"))
        for file in found:
            if file.resolve() not in seen:
                seen.add(file.resolve())
                yield file


def _load(file: Path, loaded: list[LoadedRoute], troubles: list[_Trouble]) -> None:
    try:
        documents, faults = read_yaml(file)
    except OSError as error:
        troubles.append(_Trouble(str(file), 0, f"the file can't be read: {error.strerror} (is the path right?)"))
        return
    _compile_all(file, documents, faults, loaded, troubles)


def _compile_all(
    file: Path,
    documents: list[YamlDocument],
    faults: list[Fault],
    loaded: list[LoadedRoute],
    troubles: list[_Trouble],
) -> None:
    troubles += [_Trouble(str(file), fault.line, fault.message) for fault in faults]
    filled = [document for document in documents if document.value is not None or document.faults]
    if not filled and not faults:
        troubles.append(_Trouble(str(file), 1, "the file is empty (begin with route: NAME)"))
    for document in filled:
        _compile(file, document, loaded, troubles)


def _compile(file: Path, document: YamlDocument, loaded: list[LoadedRoute], troubles: list[_Trouble]) -> None:
    troubles += [_Trouble(str(file), fault.line, fault.message) for fault in document.faults]
    try:
        route = compile_route(document.value)
    except RouteRefused as error:
        troubles += [_Trouble(str(file), document.line_of(problem.path), _shown(problem)) for problem in error.problems]
        return
    loaded.append(LoadedRoute(route=route, file=file, line=document.line))


def _shown(problem: RouteProblem) -> str:
    """The problem with its step's name before it, because several steps may share a line."""
    if problem.path[:1] == ("steps",) and len(problem.path) > 2:  # noqa: PLR2004 - deeper than the step itself
        return f"step {problem.path[1]}: {problem.what()}"
    return problem.what()


def _check_names(loaded: list[LoadedRoute], troubles: list[_Trouble]) -> None:
    first: dict[str, LoadedRoute] = {}
    for one in loaded:
        other = first.setdefault(one.route.name, one)
        if other is not one:
            where = f"{other.file}:{other.line}"
            what = f"the route {one.route.name} is there already, in {where} (give one another name)"
            troubles.append(_Trouble(str(one.file), one.line, what))
