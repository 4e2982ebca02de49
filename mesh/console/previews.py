"""What an operator has been shown, and has not ordered yet.

Owns how long it is kept: a preview fixes what is meant, and is in memory alone. After a restart of
the console it is made once more.
"""

import secrets
from typing import Final, NamedTuple

import msgspec

from mesh.core.inputs import Command
from mesh.errors import NotFound
from mesh.inspection.read_model.queries import DeadLetterRow
from mesh.inspection.redriving import Verdict

MOST: Final = 200  # previews; the oldest go first


class Kind(NamedTuple):
    """How many workflows of a route wait at a step."""

    route: str
    step: str
    workflows: int


class BulkPreview(msgspec.Struct, kw_only=True):
    """A command for many workflows. `ordered`: the operation, once somebody has ordered it.

    `filter`: in words. `alike`: how many fit in all, where it is for some of them alone.
    """

    id: str
    by: str
    command: Command
    step: str | None
    workflow_ids: list[str]
    kinds: list[Kind]
    filter: str
    query: dict[str, str]
    alike: int
    warning: str = ""
    ordered: str = ""


class LettersPreview(msgspec.Struct, kw_only=True):
    """Dead letters to send again or discard. `done`: what became of them; None: nothing yet."""

    id: str
    by: str
    verb: str  # redrive or discard
    rows: list[DeadLetterRow]
    planned: list[Verdict]
    filter: str
    alike: int
    done: list[Verdict] | None = None
    is_under_way: bool = False


class Previews:
    """All of them, by id."""

    def __init__(self) -> None:
        self._kept: dict[str, BulkPreview | LettersPreview] = {}

    @staticmethod
    def fresh_id() -> str:
        return f"preview-{secrets.token_hex(8)}"

    def keep(self, preview: BulkPreview | LettersPreview) -> None:
        self._kept[preview.id] = preview
        while len(self._kept) > MOST:
            del self._kept[next(iter(self._kept))]

    def bulk(self, preview_id: str, by: str) -> BulkPreview:
        """Raises `NotFound`, also where it is somebody else's."""
        found = self._kept.get(preview_id)
        if not isinstance(found, BulkPreview) or found.by != by:
            raise NotFound(_GONE)
        return found

    def letters(self, preview_id: str, by: str) -> LettersPreview:
        """As `bulk`."""
        found = self._kept.get(preview_id)
        if not isinstance(found, LettersPreview) or found.by != by:
            raise NotFound(_GONE)
        return found


_GONE: Final = (
    "This preview is gone: previews are kept for a while, and not over a restart. Nothing was sent. Make it again."
)
