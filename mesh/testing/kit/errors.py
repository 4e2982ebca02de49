"""What a test reports when the mesh does not do as the test expects.

All are `AssertionError`s: it is the test that fails.
"""

from typing import Any

from mesh.errors import MeshError
from mesh.routes.problems import near


class KitError(AssertionError):
    """The test lacks or misspells something, or the mesh did not do what the test waited for.

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
    """Say that a name is unknown: `refund has no step aprove (did you mean approve?)`."""
    return f"{what} {name} ({near(name, known)})"


def is_for_the_test(excinfo: Any) -> bool:
    """Whether pytest should show this error at the test's own line.

    The kit's modules use it as their `__tracebackhide__`.
    """
    return isinstance(excinfo.value, AssertionError | MeshError)
