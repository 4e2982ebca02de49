"""What a test is told when the mesh does not do as it expects.

All are `AssertionError`s: it is the test that fails.
"""

from typing import Any

from mesh.errors import MeshError
from mesh.routes.problems import near


class KitError(AssertionError):
    """Something is missing or misspelt in the test, or the mesh did not do what it was waited for.

    The message says what to write.
    """


class StandsStill(KitError):
    """A run waits for something that nobody will do: a person's answer, an operator, an event."""


class Refused(KitError):
    """An answer or a command does not count.

    `code` says why, in the words of the receipt: role, late, closed, schema, ...
    """

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class TranscriptDiffers(KitError):
    """A golden transcript is not what happened, or is not there yet."""


def unknown(what: str, name: str, known: list[str]) -> str:
    """`refund has no step aprove (did you mean approve?)`."""
    return f"{what} {name} ({near(name, known)})"


def is_for_the_test(excinfo: Any) -> bool:
    """For pytest, as `__tracebackhide__` of the kit's modules: what a test is told is told at the
    test's own line.
    """
    return isinstance(excinfo.value, AssertionError | MeshError)
