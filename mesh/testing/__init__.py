"""Public fakes, the kit for tests of routes, and contract suites, for those who test agents, routes
and adapters.

What tests of routes need is here by name, and loaded when it is first asked for: `from mesh.testing
import MeshKit, fails, approves`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mesh.testing.kit import (
        KitError,
        MeshKit,
        Question,
        Refused,
        Run,
        StandsStill,
        TranscriptDiffers,
        approves,
        dies,
        fails,
        hangs,
        later,
        rejects,
        silent,
        uses,
    )

__all__ = [
    "KitError",
    "MeshKit",
    "Question",
    "Refused",
    "Run",
    "StandsStill",
    "TranscriptDiffers",
    "approves",
    "dies",
    "fails",
    "hangs",
    "later",
    "rejects",
    "silent",
    "uses",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("mesh.testing.kit"), name)
    raise AttributeError(f"module 'mesh.testing' has no attribute {name!r}")
