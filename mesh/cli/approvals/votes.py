"""`mesh approvals choose | withdraw | comment ID`: what people say where several people vote.

`mesh.cli.approvals.commands` has approve and reject, and sends all of them.
"""

import click

from mesh.cli.approvals.commands import Answer, answer_by_id, answers, form_of, form_option
from mesh.cli.session import Session


@click.command(short_help="Vote for one of the choices.")
@click.argument("approval_id", metavar="ID")
@click.argument("choice", metavar="CHOICE")
@click.option("--reason", default="", metavar="TEXT", help="Why; it is kept with the vote.")
@form_option
@answers
def choose(
    session: Session,
    *,
    approval_id: str,
    choice: str,
    by: str,
    reason: str,
    form: str | None,
    timeout_s: float,
) -> None:
    """Vote for CHOICE in ID, and wait for the receipt. Exits with 1 if the answer is refused.

    `mesh approvals show ID` says what there is to choose from. ID is as in `mesh approvals
    approve`.
    """
    answer = Answer(decision="choose", choice=choice, reason=reason, form=form_of(form))
    session.run(answer_by_id(session, approval_id, answer, by=by, timeout_s=timeout_s))


@click.command(short_help="Take your vote back.")
@click.argument("approval_id", metavar="ID")
@answers
def withdraw(session: Session, *, approval_id: str, by: str, timeout_s: float) -> None:
    """Take your vote in ID back, and wait for the receipt. Exits with 1 if it is refused.

    A vote that was sent before and is not read yet will not count either. ID is as in `mesh
    approvals approve`.
    """
    session.run(answer_by_id(session, approval_id, Answer(decision="withdraw"), by=by, timeout_s=timeout_s))


@click.command(short_help="Comment, without a vote.")
@click.argument("approval_id", metavar="ID")
@click.argument("text", metavar="TEXT")
@answers
def comment(session: Session, *, approval_id: str, text: str, by: str, timeout_s: float) -> None:
    """Add TEXT to ID as a comment, and wait for the receipt. Exits with 1 if it is refused.

    It is in the log and in the timeline of the workflow, and changes no vote. ID is as in `mesh
    approvals approve`.
    """
    answer = Answer(decision="comment", text=text)
    session.run(answer_by_id(session, approval_id, answer, by=by, timeout_s=timeout_s))
