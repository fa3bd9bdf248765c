"""What a protocol on a port of its own looks like to the server, and seats for clients without a connection."""

from __future__ import annotations

import ssl
from collections import OrderedDict
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from vla.serve.service import Seat, Service

MAX_SEATS = 256


class Adapter(Protocol):
    """Opened by the server with its policies, its host and its key; closed when the server stops."""

    def serving(self, service: Service, host: str, api_key: str | None,
                tls: ssl.SSLContext | None) -> AbstractAsyncContextManager[None]: ...


class Seats:
    """Seats by whatever tells clients apart where there is no connection to tell them by; the longest unused one goes first."""

    def __init__(self, service: Service, most: int = MAX_SEATS) -> None:
        self.service, self.most = service, most
        self._seats: OrderedDict[tuple[str | None, object], Seat] = OrderedDict()

    def of(self, client: object, policy: str | None = None) -> Seat:
        """The client's own seat, the same at every request."""
        key = policy, client
        if key not in self._seats:
            self._seats[key] = self.service.seat(policy)
        self._seats.move_to_end(key)
        while len(self._seats) > self.most:
            self._seats.popitem(last=False)
        return self._seats[key]
