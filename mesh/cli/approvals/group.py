"""`mesh approvals`: what waits for a person, and people's answers.

Owns the group and its help; each verb is in a module of its own.
"""

import click

from mesh.cli.approvals.answer import answer
from mesh.cli.approvals.listing import list_approvals, show_approval
from mesh.cli.approvals.orders import claim, extend, reassign, unclaim, void
from mesh.cli.approvals.questions import ask_back, inform
from mesh.cli.approvals.republish import republish
from mesh.cli.approvals.verdicts import approve, reject
from mesh.cli.approvals.votes import choose, comment, withdraw
from mesh.cli.grammar import NounGroup


@click.group(cls=NounGroup, short_help="List what waits for a person, show it, answer it.")
def approvals() -> None:
    """Approvals: questions that workflows ask people. Without a verb: list.

    \b
    mesh approvals                               what waits, the nearest deadline first
    mesh approvals answer                        one by one, with one key for each
    mesh approvals show ID                       the question and its whole payload
    mesh approvals approve ID                    also: mesh approve ID
    mesh approvals reject ID --reason TEXT       also: mesh reject ID --reason TEXT
    mesh approvals choose ID CHOICE              also: mesh choose ID CHOICE
    mesh approvals withdraw ID                   take your vote back; also: mesh withdraw ID
    mesh approvals comment ID TEXT               also: mesh comment ID TEXT
    mesh approvals ask-back ID TEXT --to NAME    ask before you answer; also: mesh ask-back ID TEXT
    mesh approvals inform ID TEXT                answer such a question; also: mesh inform ID TEXT
    mesh approvals claim ID                      say that you are looking; also: mesh claim ID
    mesh approvals unclaim ID                    give it back; also: mesh unclaim ID
    mesh approvals extend ID --plus 4h           operators: move the deadline
    mesh approvals reassign ID --person NAME     operators: let others answer
    mesh approvals void ID --voter NAME          operators: take back a vote
    mesh approvals republish                     for operators: repair the topic of what is open
    """  # noqa: D301 - \b is click's mark of a paragraph to leave as it is


for _command in (
    list_approvals,
    show_approval,
    approve,
    reject,
    choose,
    withdraw,
    comment,
    ask_back,
    inform,
    claim,
    unclaim,
    extend,
    reassign,
    void,
    answer,
    republish,
):
    approvals.add_command(_command)
