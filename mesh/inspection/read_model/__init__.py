"""The read model behind the tools: a local SQLite file that follows the broker by offset."""

from typing import TYPE_CHECKING

from mesh.inspection.read_model.schema import model_path

if TYPE_CHECKING:
    from mesh.inspection.read_model.model import ReadModel

__all__ = ["ReadModel", "model_path"]


def __getattr__(name: str) -> object:
    """Load the model itself where it is wanted.

    The inbox shares this package's way with files, and needs nothing that reads a log.
    """
    if name != "ReadModel":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from mesh.inspection.read_model.model import ReadModel  # noqa: PLC0415 - see above

    return ReadModel
