"""The agents that act on the fleet.

Owns what each agent does; `fleet` has the state. Each does one thing, may be repeated, and has
another agent that undoes it. `mesh agent agents.incident_response.agents`.
"""

from pydantic import BaseModel

from mesh import NonRetryable, agent

from .fleet import open_fleet


class Alert(BaseModel):
    service: str


class Diagnosis(BaseModel):
    service: str
    release: str
    previous: str
    healthy: bool
    hosts: list[str]


class Host(BaseModel):
    host: str


class Release(BaseModel):
    service: str
    release: str


class Deployed(BaseModel):
    service: str
    release: str
    replaced: str


class Unhealthy(Exception):
    """The service is still ill."""


@agent("fleet-doctor")
def diagnose(alert: Alert) -> Diagnosis:
    """What runs where, and whether it works."""
    with open_fleet() as fleet:
        try:
            release, previous = fleet.releases(alert.service)
        except LookupError as error:
            raise NonRetryable(str(error), kind="unknown_service") from error
        return Diagnosis(
            service=alert.service,
            release=release,
            previous=previous,
            healthy=fleet.is_healthy(alert.service),
            hosts=[host for host, _ in fleet.hosts(alert.service)],
        )


@agent("fleet-drainer")
def drain(host: Host) -> Host:
    """Let a host take no new requests."""
    with open_fleet() as fleet:
        fleet.set_draining(host.host, draining=True)
    return host


@agent("fleet-restorer")
def restore(hosts: list[str]) -> list[str]:
    """Let hosts take requests again."""
    with open_fleet() as fleet:
        for host in hosts:
            fleet.set_draining(host, draining=False)
    return hosts


@agent("fleet-deployer")
def deploy(wanted: Release) -> Deployed:
    """Run a release of a service."""
    with open_fleet() as fleet:
        replaced, _ = fleet.releases(wanted.service)
        fleet.deploy(wanted.service, wanted.release)
    return Deployed(service=wanted.service, release=wanted.release, replaced=replaced)


@agent("fleet-verifier")
def verify(alert: Alert) -> Diagnosis:
    """Check the service as the doctor does, but fail if it is ill."""
    found = diagnose(alert)
    if not found.healthy:
        raise Unhealthy(f"{found.service} is still ill with release {found.release}")
    return found
