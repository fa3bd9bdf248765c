"""A websocket policy server built as openpi's is, to measure ours against: openpi's server is on no package index.

Written anew from its published structure (`openpi.serving.websocket_policy_server`): one coroutine per connection sends the metadata,
then receives, unpacks, calls `policy.infer` on the event loop, adds the timings, packs and sends, with one reused packer, no
compression, no size limit and no validation. The codec is openpi-client's own `msgpack_numpy` where that is installed, else ours,
which writes the same bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

try:
    from openpi_client import msgpack_numpy

    pack, unpack = msgpack_numpy.Packer().pack, msgpack_numpy.unpackb
except ImportError:
    from robot_io.wire import packb as pack
    from robot_io.wire import unpackb as unpack


def serve_forever(infer: Callable[[dict[str, Any]], dict[str, Any]], metadata: dict[str, Any]) -> None:
    """Serve on a free port of loopback, which is printed."""

    async def handle(connection: Any) -> None:
        await connection.send(pack(metadata))
        previous = None
        try:
            while True:
                started = time.monotonic()
                observation = unpack(await connection.recv())
                began = time.monotonic()
                result = infer(observation)
                result["server_timing"] = {"infer_ms": 1e3 * (time.monotonic() - began)}
                if previous is not None:
                    result["server_timing"]["prev_total_ms"] = 1e3 * previous
                await connection.send(pack(result))
                previous = time.monotonic() - started
        except ConnectionClosed:
            pass

    async def run() -> None:
        async with serve(handle, "127.0.0.1", 0, compression=None, max_size=None) as server:
            print(server.sockets[0].getsockname()[1], flush=True)
            await server.serve_forever()

    asyncio.run(run())


if __name__ == "__main__":
    import numpy as np

    actions = np.zeros((10, 7), np.float32)
    serve_forever(lambda observation: {"actions": actions}, {})
