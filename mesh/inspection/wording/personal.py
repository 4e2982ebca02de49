"""Words for people: what they say of themselves, and of no approval.

Owns the two texts of each such event. `mesh.inspection.wording.words_of` calls it.
"""

from mesh.core import events as ev
from mesh.core.delegations import named_briefly
from mesh.inspection.wording.phrases import lasting
from mesh.inspection.wording.said import Said


def words_of(event: ev.Event, decision: ev.Decision) -> Said | None:  # noqa: ARG001 - as all of them
    match event:
        case ev.DelegationGiven(delegation=one):
            scope = named_briefly(one)
            what = f"{one.giver} lets {one.to} answer for them{f' {scope}' if scope else ''}"
            longer = f"delegation {one.id}: {what}, for {lasting(one.until_ms - one.start_ms)}"
            return Said("", longer, "people", one.reason, what)
        case ev.DelegationTakenBack(end=end):
            told = f"{end.by} ends a delegation"
            return Said("", f"delegation {end.id} ended by {end.by}", "people", end.reason, told)
        case ev.AbsenceSaid(absence=absence):
            away_ms = absence.until_ms - absence.start_ms
            what = f"{absence.person} is away for {lasting(away_ms)}" if away_ms else f"{absence.person} is back"
            told = f"{absence.person} is {'away' if away_ms else 'back'}"
            return Said("", what, "people", absence.reason, told)
        case _:
            return None
