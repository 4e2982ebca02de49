"""The duplicate finder: issues of the same repository that read alike.

`mesh agent agents.issue_triage.duplicate_finder`.

It has an index of its own: the SQLite file that `MESH_DUPLICATES_INDEX` names, or
`.mesh/duplicates.db`.
"""

import os
from pathlib import Path

from mesh import Context, agent

from .faults import demo_fault
from .index import DuplicateIndex
from .models import Duplicates, Issue


@agent("duplicate-finder", concurrency=4)
def find_duplicates(issue: Issue, ctx: Context) -> Duplicates:
    """Find issues like this one among those seen before."""
    demo_fault("duplicate-finder", issue.number, ctx.attempt)
    index = DuplicateIndex(Path(os.environ.get("MESH_DUPLICATES_INDEX") or ".mesh/duplicates.db"))
    found = index.find(issue, task=f"{ctx.idempotency_key} {issue.repository}#{issue.number}")
    ctx.log.info("looked_for_duplicates", matches=[match.number for match in found.matches])
    return found
