"""What people say of themselves: whom they let answer for them, and when they are away.

Decided by the built-in workflow of the person (`mesh.core.ids.person_id`), which has no state: what
follows is on the topic of delegations, made of these events alone.
"""

from mesh.core.delegations import Absence, Delegation, DelegationEnd
from mesh.core.events.event import LogEvent


class DelegationGiven(LogEvent, tag="DelegationGiven.1", frozen=True, kw_only=True):
    """A person lets somebody answer for them."""

    delegation: Delegation
    answer_id: str


class DelegationTakenBack(LogEvent, tag="DelegationTakenBack.1", frozen=True, kw_only=True):
    """A person ends a delegation of theirs."""

    end: DelegationEnd
    answer_id: str


class AbsenceSaid(LogEvent, tag="AbsenceSaid.1", frozen=True, kw_only=True):
    """A person says when they are away. It takes the place of what they have said before."""

    absence: Absence
    answer_id: str
