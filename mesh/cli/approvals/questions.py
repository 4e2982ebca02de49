"""`mesh approvals ask-back | inform ID`: questions before an answer, and the answers to them."""

import click

from mesh.cli.approvals.commands import Answer, answer_by_id, answers
from mesh.cli.session import Session
from mesh.core.questions import MOST_QUESTIONS


@click.command(short_help="Ask back before you answer.")
@click.argument("approval_id", metavar="ID")
@click.argument("text", metavar="TEXT")
@click.option("--to", default="", metavar="NAME", help="Whom you ask; not needed where the route names one alone.")
@answers
def ask_back(session: Session, *, approval_id: str, text: str, to: str, by: str, timeout_s: float) -> None:
    """Ask TEXT about ID, and wait for the receipt. Exits with 1 if it is refused.

    The route says who can be asked, and whether the deadline moves. The approval stays open, and
    `mesh approvals show ID` shows the answer. ID is as in `mesh approvals approve`.
    """
    answer = Answer(decision="ask", text=text, to=to)
    session.run(answer_by_id(session, approval_id, answer, by=by, timeout_s=timeout_s))


@click.command(short_help="Answer a question that was asked back.")
@click.argument("approval_id", metavar="ID")
@click.argument("text", metavar="TEXT")
@click.option(
    "--question",
    default=0,
    type=click.IntRange(0, MOST_QUESTIONS),
    metavar="N",
    help="Which question; not needed where one alone is open.",
)
@answers
def inform(session: Session, *, approval_id: str, text: str, question: int, by: str, timeout_s: float) -> None:
    """Answer a question about ID with TEXT, and wait for the receipt.

    Exits with 1 if it is refused. Only who was asked can answer; it is no vote. ID is as in `mesh
    approvals approve`.
    """
    answer = Answer(decision="inform", text=text, question=question)
    session.run(answer_by_id(session, approval_id, answer, by=by, timeout_s=timeout_s))
