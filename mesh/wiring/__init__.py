"""Wiring: the way from settings to running services.

Owns event loops, signals, and which adapter is behind a port. It must not decide anything about
workflows. The command line calls it, and so does `mesh.connect`. `brokers` opens brokers and
clients, `process` has what all services' processes have in common, and the others run one kind of
service each.
"""

from mesh.wiring.agents import load_agents, run_agents
from mesh.wiring.brokers import connect, make_topics, open_broker
from mesh.wiring.notifier import run_notifier
from mesh.wiring.process import run
from mesh.wiring.router import own_routes, run_router
from mesh.wiring.web import console_tokens, run_console, run_gateway

__all__ = [
    "connect",
    "console_tokens",
    "load_agents",
    "make_topics",
    "open_broker",
    "own_routes",
    "run",
    "run_agents",
    "run_console",
    "run_gateway",
    "run_notifier",
    "run_router",
]
