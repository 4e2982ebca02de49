"""Where a console listens: an address of this machine alone, unless people sign in with a provider.

Owns the socket. Who has the code of the development login is let in, so nobody else may reach that.
"""

import socket
from errno import EADDRINUSE
from ipaddress import ip_address

from mesh.errors import OperatorError
from mesh.web_server import LOOPBACK, listen


def listen_on(address: str, *, is_chosen: bool, is_open: bool = False) -> socket.socket:
    """A socket that listens there.

    `is_chosen`: somebody has named this address. Otherwise another port is taken where this one is
    in use. `is_open`: others may reach it. Raises `OperatorError`.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not is_open and host != "localhost" and not _is_loopback(host):
        raise OperatorError(
            f"the console can't listen at {address}: people of other machines sign in with a provider, which MESH_CONSOLE_OIDC_ISSUER "
            "names. Name an address of this machine (127.0.0.1:PORT) in MESH_CONSOLE_ADDRESS"
        )
    try:
        return listen(host, int(port))
    except (OSError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == EADDRINUSE and not is_chosen:
            return listen(host, 0)
        raise OperatorError(
            f"the console can't listen at {address}: {getattr(error, 'strerror', None) or error}. Name another address in "
            "MESH_CONSOLE_ADDRESS (port 0: any that is free)"
        ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback and host in LOOPBACK
    except ValueError:
        return False
