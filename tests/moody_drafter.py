"""Those of the moody agents that are always well: the drafter, and the stranger, who returns what
nobody asked for.
"""

from moody_agents import draft, shape

__all__ = ["draft", "shape"]
