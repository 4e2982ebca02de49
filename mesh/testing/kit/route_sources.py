"""Where the routes of a test come from: a file, a folder, a document, or YAML as text.

Owns the search for files. `MeshKit` gives the folders and takes the routes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mesh.codec.route_file import LoadedRoute, load_route_text, load_routes
from mesh.core.route import Route
from mesh.errors import RouteInvalid
from mesh.routes.compiler import compile_route
from mesh.routes.problems import RouteRefused
from mesh.testing.kit.errors import KitError, is_for_the_test

__tracebackhide__ = is_for_the_test


class RouteSources:
    """`folders`: relative paths are looked up in each, in order."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders

    def read(self, source: str | Path | Mapping[str, Any]) -> list[tuple[Route, str]]:
        """Read each route, with the name of its file if it has one. Raises `RouteInvalid`."""
        if isinstance(source, Mapping):
            return [(_compiled(source), "")]
        if isinstance(source, str) and "\n" in source:
            return [(loaded.route, "") for loaded in load_route_text(source, name="the route in the test")]
        return [(loaded.route, self._shown(loaded)) for loaded in load_routes([self.path(source)])]

    def path(self, given: str | Path) -> Path:
        """Find a file beside the test, or else from pytest's root folder."""
        candidates = [folder / given for folder in self._folders]
        found = next((path for path in candidates if path.exists()), None)
        if found is None:
            looked = " nor ".join(str(path) for path in candidates)
            raise KitError(f"there is neither {looked}" if len(candidates) > 1 else f"there is no {looked}")
        return found

    def _shown(self, loaded: LoadedRoute) -> str:
        """The file's name in a form that is the same on every machine."""
        within = (folder for folder in self._folders if loaded.file.is_relative_to(folder))
        return next((loaded.file.relative_to(folder).as_posix() for folder in within), loaded.file.name)


def _compiled(document: Mapping[str, Any]) -> Route:
    try:
        return compile_route(dict(document))
    except RouteRefused as error:
        name = document.get("route", "?")
        raise RouteInvalid("\n".join(f"route {name}: {problem}" for problem in error.problems)) from error
