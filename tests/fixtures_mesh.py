"""Meshes of real processes for acceptance tests.

A pytest plugin, loaded by `tests/conftest.py`. Each test that takes `mesh` runs on SQLite and on
Kafka. Without Java or Maven the Kafka half skips, as `fixtures_kafka` says.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mesh_processes import MeshProcesses, mesh_processes


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=pytest.mark.kafka)])
def mesh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MeshProcesses]:
    """A mesh without processes yet, on each broker in turn. Its processes end with the test."""
    if request.param == "sqlite":
        broker, prefix = f"sqlite://{tmp_path}/mesh.db", "mesh."
    else:
        broker = f"kafka://{request.getfixturevalue('kafka').bootstrap}"
        prefix = request.getfixturevalue("kafka_prefix")
    with mesh_processes(broker, tmp_path, prefix=prefix) as processes:
        yield processes


@pytest.fixture
def sqlite_mesh(tmp_path: Path) -> Iterator[MeshProcesses]:
    """A mesh as `mesh`, but on SQLite alone."""
    with mesh_processes(f"sqlite://{tmp_path}/mesh.db", tmp_path) as processes:
        yield processes
