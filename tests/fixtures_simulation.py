"""What makes a simulated mesh cheap: within a test each version of a route is compiled once.

Every life of every router reads all versions from their topic, which was a seventh of a run's CPU.
A pytest plugin, loaded by `tests/conftest.py`.
"""

from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from mesh.codec import definitions
from mesh.core.route import Route
from mesh.routes.compiler import compile_route


@pytest.fixture
def compiled_once() -> Iterator[None]:
    """A test begins with nothing compiled, because a seeded fault may be in the compiler."""
    routes: dict[bytes, Route] = {}

    def compiled(document: Any) -> Route:
        key = orjson.dumps(document)
        if key not in routes:
            routes[key] = compile_route(document)
        return routes[key]

    # not the fixture `monkeypatch`, which a test may undo
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(definitions, "compile_route", compiled)
        yield
