"""Where a server may listen and whom it lets in: on loopback anybody, beyond it only who has the key; and TLS.

Nothing heavy is imported, so the command line asks `check_port` before it loads a policy.
"""

from __future__ import annotations

import errno
import hmac
import ipaddress
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

from robot_io.errors import UserError

RECEIVE_BUFFER = 2**20
"""Bytes that the kernel takes in for a connection: a frame with its pictures, so that the server is woken once for it, not five times."""


def require_key_beyond_loopback(host: str, api_key: str | None) -> None:
    """Refuse to let the whole network move a robot."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback and not api_key:
        raise UserError(
            f"policy server on '{host}'",
            "can be reached by other machines, and no API key is set",
            "a key, or the host 127.0.0.1",
            "set an API key on both sides, or tunnel to loopback with ssh -L",
        )


def key_fits(sent: Sequence[str], api_key: str | None) -> bool:
    """Whether these `Authorization` headers are the one that `api_key` asks for; compared in constant time."""
    if api_key is None:
        return True
    expected = f"Api-Key {api_key}"
    return len(sent) == 1 and hmac.compare_digest(sent[0].encode(errors="surrogateescape"), expected.encode())


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """For a server with this certificate chain and private key (PEM files); TLS 1.2 at least."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise UserError(f"TLS certificate '{certificate}' with key '{key}'", f"cannot be used ({error})",
                        "a PEM certificate chain and its unencrypted private key", "check both files") from None
    return context


def check_port(host: str, port: int) -> None:
    """Refuse a port that cannot be had; to be asked before a policy is loaded."""
    listen(host, port).close()


def listen(host: str, port: int) -> socket.socket:
    """A socket that accepts connections on that host and port, or one error that says why not."""
    thing = f"port {port} on '{host}'"
    if not 0 <= port < 2**16:
        raise UserError(thing, "not a port number", "0 to 65535", "choose another with --port (0 picks a free one)")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # 'localhost' is often both; clients in the wild mostly try IPv4.
        family, kind, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
        listener = socket.socket(family, kind)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            listener.bind(address)
            listener.listen()
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        raise UserError(
            thing,
            "in use by another program" if in_use else f"cannot be had ({error})",
            "a free port of this machine",
            "stop the other program, or choose another port with --port (0 picks a free one)",
        ) from None
    return listener
