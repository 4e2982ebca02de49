"""Where a console listens: an address of this machine alone.

Owns the socket. People of other machines can't sign in yet, so nobody else may reach it.
"""

import socket
from errno import EADDRINUSE
from ipaddress import ip_address
from typing import Final

from mesh.errors import OperatorError

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_BACKLOG: Final = 128


def listen_on(address: str, *, is_chosen: bool) -> socket.socket:
    """A socket that listens there.

    `is_chosen`: somebody has named this address. Otherwise another port is taken where this one is
    in use. Raises `OperatorError`.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if host != "localhost" and not _is_loopback(host):
        raise OperatorError(
            f"the console can't listen at {address}: people of other machines can't sign in yet. Name an address of this machine "
            "(127.0.0.1:PORT) in MESH_CONSOLE_ADDRESS"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return _bound(family, host, int(port))
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == EADDRINUSE and not is_chosen:
            return _bound(family, host, 0)
        raise OperatorError(
            f"the console can't listen at {address}: {getattr(error, 'strerror', None) or error}. Name another address in "
            "MESH_CONSOLE_ADDRESS (port 0: any that is free)"
        ) from error


def _bound(family: socket.AddressFamily, host: str, port: int) -> socket.socket:
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(_BACKLOG)
    except BaseException:
        found.close()
        raise
    return found


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback and host in LOOPBACK
    except ValueError:
        return False


def url_of(listening: socket.socket) -> str:
    """The URL of a console that listens there."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
