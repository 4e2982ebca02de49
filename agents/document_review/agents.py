"""A writer that fixes what a critic found, and the critic.

`mesh agent agents.document_review.agents`.
"""

from pydantic import BaseModel

from mesh import NonRetryable, agent

from .plain import Review, improved, reviewed


class Document(BaseModel):
    title: str
    text: str


class Draft(BaseModel):
    text: str
    round: int


class Task(BaseModel):
    document: Document
    round: int = 1
    draft: Draft | None = None  # the last round's
    review: Review | None = None


@agent("plain-writer")
def write(task: Task) -> Draft:
    """The document as it came, or the last draft with one kind of finding fixed."""
    if not task.document.text.strip():
        raise NonRetryable(f"{task.document.title or 'the document'} has no text", kind="no_text")
    if task.draft is None or task.review is None:
        return Draft(text=task.document.text, round=task.round)
    return Draft(text=improved(task.draft.text, task.review.findings), round=task.round)


@agent("plain-critic")
def criticise(draft: Draft) -> Review:
    """How plain it is, and what a reader would stumble over."""
    return reviewed(draft.text)
