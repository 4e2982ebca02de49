"""The check of a router's own route files before it starts, by `mesh router` and `mesh dev`.

Owns what of `mesh routes check` keeps a router from starting. Errors do. Which agents there are is
known to nobody at a start, since other processes may run some, so an agent that is missing is a
warning. A role that nobody has is left to the router's log, which tells it whenever that changes.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from mesh.core.state import AgentCard
from mesh.errors import RouteInvalid
from mesh.inspection.checks.report import Finding, check

_ELSEWHERE: Final = frozenset({"unknown_agent", "no_agent"})
_LOGGED: Final = "unknown_role"


def warnings_at_start(
    paths: Sequence[Path], *, agents: Mapping[str, AgentCard] | None = None, force: bool = False
) -> list[Finding]:
    """What is probably wrong in these files, to be printed.

    Raises `RouteInvalid` with the errors, unless `force` has it start all the same. `agents`: those
    that are started with it; None: it is not known which.
    """
    if not paths:
        return []
    found = [_at_start(one) for one in check(paths, agents=agents).findings if one.code != _LOGGED]
    errors = [one for one in found if one.severity == "error"]
    if errors and not force:
        lines = [f"{one.where}: {one.message} [{one.code}]" for one in errors]
        raise RouteInvalid("\n".join([*lines, "nothing is started: correct the routes, or use --force"]))
    return found


def _at_start(finding: Finding) -> Finding:
    if finding.code not in _ELSEWHERE:
        return finding
    message = f"{finding.message}, of those that are started here; another process may run it"
    return replace(finding, severity="warning", message=message)
