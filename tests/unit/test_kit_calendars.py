"""Working hours in a test's mesh: a weekend passes, and a newer calendar moves nothing open."""

from pathlib import Path
from typing import Any

import pytest

from mesh.testing import MeshKit
from mesh.testing.kit.errors import KitError

BERLIN = """\
calendar: berlin
timezone: Europe/Berlin
hours: {mon-fri: 09:00-17:00}
"""
FRIDAY = "2026-03-27T14:00:00Z"  # three in the afternoon in Berlin; clocks change on Sunday


def begin(mesh: MeshKit, **more: Any) -> Any:
    mesh.person("ana", roles="manager")
    mesh.person("lea", roles="lead")
    terms = {"ask": "Pay?", "payload": 1, "role": "manager", **more}
    mesh.route(
        {"route": "pay", "on": {"type": "t"}, "key": "${{ event.id }}", "steps": {"review": {"approval": terms}}}
    )
    mesh.calendar(BERLIN)
    return mesh.publish(type="t", id="1")


def test_a_deadline_goes_over_a_weekend_in_which_the_clocks_change() -> None:
    with MeshKit(begins_at=FRIDAY) as mesh:
        escalate = [{"after": {"working": "1h", "calendar": "berlin"}, "to": "lead"}]
        run = begin(mesh, deadline={"working": "4h", "calendar": "berlin"}, escalate=escalate)
        mesh.advance("30m")
        with pytest.raises(Exception, match="not among those who may"):
            run.approve("review", by="lea")
        # until a moment before eleven on Monday, which is nine in UTC by now
        mesh.advance(f"{(9 + 24 * 3 - 14) * 60 - 31}m")
        assert run.steps["review"] == "asking"
        mesh.advance("2m")
        assert run.outcome.status == "rejected"


def test_a_newer_calendar_holds_for_what_is_asked_after_it(tmp_path: Path) -> None:
    (tmp_path / "berlin.yaml").write_text(BERLIN.replace("17:00", "16:00"))
    with MeshKit(begins_at=FRIDAY, folder=tmp_path) as mesh:
        first = begin(mesh, deadline={"working": "90m", "calendar": "berlin"})
        mesh.calendar("berlin.yaml")
        second = mesh.publish(type="t", id="2")
        mesh.advance("2h")
        assert first.outcome.status == "rejected", "at half past four"
        assert second.steps["review"] == "asking", "until half past nine on Monday"
        with pytest.raises(KitError, match="there is no"):
            mesh.calendar("other.yaml")
