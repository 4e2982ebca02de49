"""The read model behind the tools: a local SQLite file that follows the broker by offset."""

from mesh.inspection.read_model.model import ReadModel
from mesh.inspection.read_model.schema import model_path

__all__ = ["ReadModel", "model_path"]
