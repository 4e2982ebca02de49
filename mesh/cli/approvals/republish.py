"""`mesh approvals republish`: put on the topic of open approvals what the log has open.

Owns the command; `mesh.inspection.inbox.repair` says what is to be sent.
"""

from typing import TYPE_CHECKING, Final

import click

from mesh.cli.session import Session, mesh_command
from mesh.cli.text.format import counted
from mesh.errors import BrokerError, OperatorError

if TYPE_CHECKING:
    from mesh.inspection.inbox.repair import Repair

_PORTION: Final = 500  # records in one call of the broker


@click.command("republish", short_help="Put what is open on the topic that approvers read.")
@mesh_command
def republish(session: Session) -> None:
    """Compare the topic of open approvals with the log, and correct the topic.

    For operators: after an upgrade from a version without the topic, and where the topic was lost.
    It may be run at any time, beside the routers, and again after it was cut off.
    """
    repair = session.run(_republish(session))
    restored = {approval_id for approval_id, _ in repair.restored}
    removed = {approval_id for approval_id, _ in repair.removed - repair.restored} - restored
    if session.as_json:
        session.emit({"restored": sorted(restored), "removed": sorted(removed)})
    elif not restored and not removed:
        session.show("The topic has what the log has open.")
    else:
        session.show(f"{counted(len(restored), 'approval')} written, {len(removed):,} taken away.")


async def _republish(session: Session) -> "Repair":
    from mesh.inspection.inbox.repair import ROUNDS, Repair  # noqa: PLC0415 - it reads the log, which no approver does

    async with session.inbox(read_only=False) as (broker, inbox), session.model() as (_, model):
        repair = Repair(session.topics, inbox, model)
        for _ in range(ROUNDS):
            records = await repair.round()
            if not records:
                return repair
            for start in range(0, len(records), _PORTION):
                portion = records[start : start + _PORTION]
                failures = await broker.send(portion)
                if failures:
                    raise BrokerError(f"{session.topics.open_approvals} does not take a record: {failures[0].message}")
    raise OperatorError("the log changes faster than it can be followed: run it again when less is decided")
