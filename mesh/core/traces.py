"""The trace context that a run carries on from the event that started it (W3C Trace Context).

Owns what of the upstream's context goes into what the mesh sends: the trace's id, the sampled flag,
and `tracestate` as it came. `mesh.core.decide` and the router's spans call it.
"""

import re
from typing import Final

from mesh.core.state import Workflow

TRACEPARENT: Final = re.compile(
    "(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?"
)
"""A traceparent (W3C Trace Context, sections 3.2 and 4).

A later version may append fields. Ids of zeros and version ff are invalid.
"""

TRACESTATE: Final = re.compile("[\\x20-\\x7e]{1,512}")
"""A tracestate that may be passed on (section 3.3): at most 512 printable ASCII characters."""

_SAMPLED: Final = 1


def flags(workflow: Workflow) -> str:
    """The flags of the run's trace: whether it is recorded. A trace of the mesh's own is."""
    found = TRACEPARENT.fullmatch(_said(workflow, "traceparent")) if workflow.parent_span_id else None
    # this flag alone: the standard wants all that are not known to be zero (section 3.2)
    return f"{int(found[3], 16) & _SAMPLED:02x}" if found else "01"


def tracestate(workflow: Workflow) -> str:
    """What other systems on the way wrote down for theirs; empty if there is nothing to pass on."""
    # without a valid traceparent it says nothing, and must not be passed on (W3C, section 3.3)
    if not workflow.parent_span_id:
        return ""
    said = _said(workflow, "tracestate")
    return said if TRACESTATE.fullmatch(said) else ""


def _said(workflow: Workflow, attribute: str) -> str:
    return str((workflow.cloud_event or {}).get(attribute, ""))
