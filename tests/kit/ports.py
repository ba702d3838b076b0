"""Free ports on loopback."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Return a port that is free now, for a server that must keep its port after a restart."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
