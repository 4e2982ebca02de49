"""The drafter: the reply that a maintainer would write first.

`mesh agent agents.issue_triage.drafter`.
"""

from mesh import Context, agent

from .faults import demo_fault
from .models import DraftRequest, Reply
from .reply import compose


@agent("drafter", concurrency=8)
def draft(request: DraftRequest, ctx: Context) -> Reply:
    """Write a reply that asks for what the issue lacks and links what it resembles."""
    demo_fault("drafter", request.issue.number, ctx.attempt)
    reply = compose(request)
    ctx.log.info("drafted", labels=reply.labels, characters=len(reply.body))
    return reply
