"""What both clients (`robot_io.client`, `robot_io.async_client`) know about a policy server: its address, its first message, and what
each way of losing it is called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from robot_io.errors import UserError
from robot_io.specs import RobotSpec
from robot_io.wire import MAX_BYTES, unpackb

DEFAULT_PORT = 8000
RETRY_SECONDS = 0.25
LOST = (OSError, EOFError, ConnectionClosed)
"""What a server that is not there yet, or is just going, makes of an attempt to connect."""


class ServerLost(UserError):
    """The server did not answer: hold the robot. The next request connects anew."""


@contextmanager
def losses_explained(url: str, timeout: float) -> Iterator[None]:
    """Silence and broken connections become `ServerLost`."""
    try:
        yield
    except TimeoutError:
        raise ServerLost(
            f"policy server at {url}",
            f"no answer within {timeout:g} s",
            "one in time",
            "hold the robot; check the server, or raise the timeout",
        ) from None
    except ConnectionClosed as error:
        raise ServerLost(
            f"policy server at {url}",
            f"the connection was lost ({error})",
            "an open connection",
            "hold the robot; see the server's log",
        ) from None


@contextmanager
def refusals_explained(url: str) -> Iterator[None]:
    """A server that is there but does not let us in, or is none of ours."""
    try:
        yield
    except InvalidStatus as error:
        raise refused(url, error.response.status_code) from None
    except (InvalidHandshake, InvalidURI) as error:
        if isinstance(error.__cause__, LOST):
            raise error.__cause__ from None  # it broke off in the middle
        raise UserError(
            f"server at {url}",
            f"does not speak the websocket protocol ({error})",
            "a policy server",
            "check host and port",
        ) from None


def unreachable(url: str, error: Exception) -> ServerLost:
    return ServerLost(
        f"policy server at {url}",
        f"cannot be reached ({error})",
        "a running server",
        "start it with `vla serve`, and check host, port and firewall",
    )


def read_answer(answer: bytes | str, url: str, max_bytes: int = MAX_BYTES) -> Any:
    """Decode an answer. Text is openpi's way to report an error; the connection stays usable."""
    if isinstance(answer, str):
        raise UserError(f"policy server at {url}", f"it answered: {answer}")
    return unpackb(answer, max_bytes=max_bytes)


def require_answer_to(request_id: int, reply: Any, url: str) -> dict[str, Any]:
    """The reply, if it answers that request; any other must not move the robot."""
    if not isinstance(reply, dict) or reply.get("request_id") != request_id:
        raise ServerLost(f"policy server at {url}", "answered another request", f"request {request_id}", "hold the robot")
    return reply


def url_of(address: str) -> str:
    if "://" in address:
        parts = urlsplit(address)
        if parts.scheme in ("ws", "wss") and parts.hostname:
            return address
        raise UserError(f"policy server '{address}'", f"scheme '{parts.scheme}'", "ws:// or wss://", "write host:port")
    parts = urlsplit(f"//{address}")
    try:
        port = parts.port or DEFAULT_PORT
    except ValueError:
        port = None
    if not parts.hostname or port is None:
        raise UserError(
            f"policy server '{address}'", "not an address", "host or host:port", "for example 127.0.0.1:8000"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"ws://{host}:{port}"


def read_metadata(metadata: Any, url: str) -> RobotSpec:
    """The robot spec in a server's first message."""
    if not isinstance(metadata, dict) or "robot_spec" not in metadata:
        raise UserError(
            f"policy server at {url}",
            "does not say which robot its policy was made for",
            "a server of this project",
            "serve the policy with `vla serve`",
        )
    lengths = metadata.get("execute"), metadata.get("horizon")
    if not all(type(length) is int for length in lengths) or not 1 <= lengths[0] <= lengths[1]:
        raise UserError(
            f"policy server at {url}",
            f"announces execute {lengths[0]!r}, horizon {lengths[1]!r}",
            "1 <= execute <= horizon",
            "serve the policy with `vla serve`",
        )
    return RobotSpec.from_dict(metadata["robot_spec"])


def refused(url: str, status: int) -> UserError:
    if status == 401:
        return UserError(
            f"policy server at {url}",
            "the API key is missing or wrong",
            "the server's own",
            "pass api_key, the key the server was started with",
        )
    return UserError(f"server at {url}", f"refused with HTTP status {status}", "a policy server", "check host and port")
