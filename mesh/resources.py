"""The files that come with the mesh: the contracts of its topics, and the example agents.

In a checkout they are beside the package, in `topics/` and `agents/`. In a wheel they are below it,
in `mesh/topics` and `mesh/examples`. The wheel owns one import name, because a top-level `agents`
would overwrite that of another distribution. Nothing is imported here; the callers read the files.
"""

from pathlib import Path
from typing import Final

_PACKAGE: Final = Path(__file__).parent

CHECKOUT: Final = None if (_PACKAGE / "topics").is_dir() else _PACKAGE.parent
"""The root of the checkout; None in a wheel."""
TOPICS: Final = (CHECKOUT or _PACKAGE) / "topics"
EXAMPLES: Final = _PACKAGE / "examples" if CHECKOUT is None else CHECKOUT / "agents"
EXAMPLES_PACKAGE: Final = "mesh.examples" if CHECKOUT is None else "agents"
