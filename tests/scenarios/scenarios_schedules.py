"""The scenario of schedules.

Cron's finest unit is a minute, so on a real broker it waits for the next one, of a real clock.
"""

from datetime import UTC, datetime

from scenario_table import long_scenario

from mesh.testing import MeshKit


@long_scenario
def a_schedule_until_an_operator_ends_it(mesh: MeshKit) -> None:
    """The next minute starts one workflow, which knows its time.

    Then an operator ends the schedule, and it has no next time any more.
    """
    mesh.agent("reporter", lambda at: f"until {at}")
    report = {"agent": "reporter", "input": "${{ event.data.scheduled_at }}"}
    on = {"schedule": "* * * * *", "timezone": "Europe/Berlin"}
    mesh.route({"route": "minutely", "on": on, "steps": {"report": report}})
    began = mesh.now
    run = mesh.next_start("minutely")
    mesh.run("mesh.schedule:minutely").cancel(by="op", reason="one is enough")
    time = run.id.removeprefix("minutely:")
    assert run.outcome.data == {"report": f"until {time}"}
    at = datetime.strptime(time, "%Y-%m-%dT%H:%M:00Z").replace(tzinfo=UTC)
    assert began < at
