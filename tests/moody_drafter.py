"""Those of the moody agents that always work: the drafter and the stranger.

The stranger returns what nobody asked for.
"""

from moody_agents import draft, shape

__all__ = ["draft", "shape"]
