"""The classifier: what kind of issue it is, how severe, and how sure that is.

`mesh agent agents.issue_triage.classifier`.
"""

from mesh import Context, NonRetryable, agent

from .faults import demo_fault
from .models import Issue, Triage
from .triage import triage


@agent("classifier", concurrency=8)
def classify(issue: Issue, ctx: Context) -> Triage:
    """Label an issue, by the evidence in its text."""
    if not issue.title.strip():
        raise NonRetryable(f"issue #{issue.number} has no title, so there is nothing to classify", kind="no_title")
    demo_fault("classifier", issue.number, ctx.attempt)
    found = triage(issue)
    ctx.log.info("classified", labels=found.labels, severity=found.severity, confidence=found.confidence)
    return found
