"""The names of the mesh's topics and consumer groups. Their contracts are in `topics/`."""

from typing import Final

from mesh import defaults


class Topics:
    """All names under one prefix (`mesh.` by default).

    With different prefixes several meshes can share a cluster.
    """

    __slots__ = (
        "agents",
        "command_receipts",
        "commands",
        "definitions",
        "delegations",
        "dlq",
        "events",
        "inbox",
        "ingress_group",
        "keys",
        "log",
        "notices",
        "notifier_group",
        "open_approvals",
        "operations",
        "outcomes",
        "people",
        "prefix",
        "receipts",
        "requests",
        "responses",
        "results",
        "router_group",
        "routers",
        "withdrawals",
    )

    def __init__(self, prefix: str = defaults.TOPIC_PREFIX) -> None:
        self.prefix: Final = prefix
        self.events: Final = prefix + "events"
        self.inbox: Final = prefix + "inbox"
        self.results: Final = prefix + "results"
        self.log: Final = prefix + "log"
        self.keys: Final = prefix + "keys"
        self.requests: Final = prefix + "approvals.requests"
        self.responses: Final = prefix + "approvals.responses"
        self.open_approvals: Final = prefix + "approvals.open"
        self.receipts: Final = prefix + "approvals.receipts"
        self.people: Final = prefix + "approvals.people"
        self.delegations: Final = prefix + "approvals.delegations"
        self.notices: Final = prefix + "approvals.notices"
        self.commands: Final = prefix + "commands"
        self.command_receipts: Final = prefix + "commands.receipts"
        self.operations: Final = prefix + "operations"
        self.outcomes: Final = prefix + "outcomes"
        self.agents: Final = prefix + "agents"
        self.routers: Final = prefix + "routers"
        self.definitions: Final = prefix + "definitions"
        self.dlq: Final = prefix + "dlq"
        self.withdrawals: Final = prefix + "withdrawals"
        self.router_group: Final = prefix + "router"
        self.ingress_group: Final = prefix + "ingress"
        self.notifier_group: Final = prefix + "notifier"

    def tasks(self, agent: str) -> str:
        """The topic of one agent's tasks."""
        return f"{self.prefix}tasks.{agent}"

    def agent_group(self, agent: str) -> str:
        """The consumer group that the agent's replicas form."""
        return f"{self.prefix}agent.{agent}"
