"""Public fakes, the test kit and the contract suites.

For those who test agents, routes and adapters. What tests of routes need can be imported from here
by name, and is loaded on first use: `from mesh.testing import MeshKit, fails, approves`.
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
        chooses,
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
    "chooses",
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
