"""A router tells, at its start and when the file changes, which roles nobody has."""

from structlog.testing import capture_logs

from mesh.routes.compiler import compile_route
from mesh.wiring import warn_of_roles

ROUTE = compile_route(
    {
        "route": "r",
        "on": {"type": "t"},
        "steps": {
            "one": {"approval": {"ask": "Good?", "payload": 1, "role": "lead"}},
            "two": {"needs": "one", "approval": {"ask": "Good?", "payload": 1, "role": "boss"}},
            "three": {"needs": "two", "agent": "a", "input": 1},
        },
    }
)


def test_each_approval_whose_role_nobody_has_is_warned_of() -> None:
    with capture_logs() as logs:
        warn_of_roles([ROUTE], {"ana": frozenset({"lead", "other"}), "bo": frozenset()})
    assert [(log["event"], log["log_level"], log["role"], log["route"], log["step"]) for log in logs] == [
        ("nobody_has_the_role", "warning", "boss", "r", "two")
    ]


def test_nothing_is_said_where_all_roles_are_held() -> None:
    with capture_logs() as logs:
        warn_of_roles([ROUTE], {"ana": frozenset({"lead"}), "bo": frozenset({"boss"})})
    assert not logs
