"""Which version of a route decides on an input.

Owns the choice, and which versions were looked for in vain. It reads nothing: the router does, when
an owner wants a version that it does not have yet. `owner` is its only caller.
"""

from collections.abc import Callable
from typing import Final

from mesh.core.inputs import CommandGiven, EventMatched, EventOffered, Input, ScheduledStart, WorkflowCalled
from mesh.core.route import Route
from mesh.core.state import Workflow

_STARTS: Final = (EventMatched, WorkflowCalled, ScheduledStart)


class UnknownVersion(Exception):
    """A route version, by digest, that this router has not read yet."""


class KnownVersions:
    """`definitions`: the topic, for messages. `missing`: digests that were looked for in vain."""

    def __init__(self, route_of: Callable[[str], Route | None], definitions: str) -> None:
        self.missing: set[str] = set()
        self._route_of = route_of
        self._definitions = definitions

    def deciding_on(self, given: Input, workflow: Workflow | None) -> Route | None:
        """The version that decides on this input; None where the input needs none.

        Raises `UnknownVersion`, or `LookupError` for one that is not to be found.
        """
        if isinstance(given, _STARTS):
            digest = given.digest
        elif workflow is not None and workflow.status == "running":
            digest = workflow.digest
        elif isinstance(given, EventOffered):
            digest = given.digest
        else:
            return None
        route = self._route_of(digest)
        if route is None:
            if digest in self.missing:
                raise LookupError(
                    f"the definition {digest} of {given.workflow_id} is not on {self._definitions}; "
                    "publish the route file that it was made of"
                )
            raise UnknownVersion(digest)
        return route

    def migrating_to(self, given: Input) -> Route | None:
        """The version that a command to migrate or to fork names.

        None if there is none that can be read.
        """
        if not (isinstance(given, CommandGiven) and given.to):
            return None
        target = self._route_of(given.to)
        if target is None:
            if given.to not in self.missing:
                raise UnknownVersion(given.to)
            self.missing.discard(given.to)  # by the next command it may be stored
        return target
