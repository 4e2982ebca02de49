"""What all unit tests share."""

from collections.abc import Iterator

import pytest

from mesh.inspection import mesh_status


@pytest.fixture(scope="session", autouse=True)
def looks_once() -> Iterator[None]:
    """What looks stuck is not looked at again for seconds.

    No process of a unit test's mesh renews its card meanwhile. `test_second_look.py` is about it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mesh_status, "SECOND_LOOK_S", 0.0)
        yield
