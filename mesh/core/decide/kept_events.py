"""Kept events: they came before a step waited for them, and are kept up to a bound."""

from typing import Final

import msgspec

from mesh.core.decide.draft import Draft
from mesh.core.events import EventKept, EventUnclaimed
from mesh.core.state import KeptEvent, Workflow

KEPT: Final = 100  # events of one workflow


KEPT_BYTES: Final = 512 * 1024  # of theirs, once there is more than one


_encode = msgspec.json.Encoder().encode


def is_kept(workflow: Workflow, event: KeptEvent) -> bool:
    """Whether this event is already kept and came the same way."""
    # the alias belongs to it: one event may come by the key and by an alias, for different steps
    name = (event.cloud_event["source"], event.cloud_event["id"], event.alias)
    return any((one.cloud_event["source"], one.cloud_event["id"], one.alias) == name for one in workflow.kept)


def keep(draft: Draft, kept: KeptEvent, route: str, digest: str, key: str) -> None:
    """Keep the event, unless too many are kept. Then it is put aside at once."""
    others = () if draft.workflow is None else draft.workflow.kept
    # at its end the workflow puts all of them aside in one decision, which must fit into one
    # record; an event alone always does, since it came in one
    if others and (len(others) == KEPT or len(_encode((*others, kept))) > KEPT_BYTES):
        reason = f"{len(others)} events are kept already, and no step has taken them"
        draft.add(EventUnclaimed(kept=kept, reason=reason))
        return
    expires = draft.now_ms + int(draft.route.keep_events_s * 1000)
    draft.add(EventKept(kept=kept, route=route, digest=digest, key=key, expires_at_ms=expires))
