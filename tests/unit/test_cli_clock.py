"""What `mesh clock release` says of its receipts."""

from typing import Literal

from mesh.cli.clock import _outcome
from mesh.codec.commands import CommandReceipt
from mesh.core.receipts import Place


def receipt(
    partition: int, status: Literal["accepted", "refused"], code: str = "accepted", message: str = ""
) -> CommandReceipt:
    return CommandReceipt(
        command_id=f"c{partition}",
        workflow_id=f"mesh.clock:{partition}",
        command="release",
        status=status,
        code=code,
        message=message,
        source=Place(topic="mesh.commands", partition=0, offset=partition),
    )


def test_releases_are_counted_and_each_refusal_is_named() -> None:
    assert _outcome([]) == "no clock is held: nothing to release"
    assert _outcome([receipt(0, "accepted")]).endswith("in 1 partition")
    said = _outcome([receipt(0, "accepted"), receipt(1, "refused", "no_hold", "its clock is not held")])
    assert said.splitlines()[0].endswith("in 1 partition")
    assert said.splitlines()[1] == "refused (no_hold)  mesh.clock:1: its clock is not held"
    assert "released" not in _outcome([receipt(1, "refused", "no_hold", "its clock is not held")])
