"""What serving costs, against a server built as openpi's is (`benchmarks/openpi_peer.py`), in the same run.

    python -m venv /tmp/openpi_env
    /tmp/openpi_env/bin/pip install openpi-client==0.1.2 typing_extensions websockets==17.4
    python benchmarks/serving.py POLICY --openpi /tmp/openpi_env/bin/python     # docs/results/serving*.json; then: python -m vla.results

`serving_wire`: the round trip of two 224 px views without a model, asked by the unmodified openpi-client; ours validates, the peer does not.
All sides take turns, call by call, so that a busy machine is busy for all; intervals are over blocks.

`serving_robots`: eight robots that ask the policy at POLICY again as soon as they are answered; ours batches, the peer computes one request after
the other. Each may have the machine: the peer computes on one thread, and in a second server on a thread for each core; ours on one thread, and in
a second server with a copy of the policy for each core (`vla serve --replicas`). Both again with torch.compile (`--compile`). On a CPU that
multiplies in bfloat16 there is one more of ours, with what `vla quantize … vision=bf16` makes of the policy. Robots are plain sockets that send a
frame prepared ahead: they cost next to nothing of the cores that the servers compute on. Sides take turns block by block, and
`times_the_peers` is ours divided by the peer's, block by block: by its best, of those compiled if ours is. `bare model` is what there is to win
on one thread: the policy alone, without a server, in the same turns, one observation as the peer computes it, and eight at once as ours does.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
OUT = Path("docs/results")
COMMAND = "python benchmarks/serving.py"
SIDES = ("openpi's structure", "ours")
CORES = os.cpu_count() or 1
THREADED, COPIES, COMPILED = f"openpi's structure, {CORES} threads", f"ours, {CORES} copies", ", compiled"
PEERS = (SIDES[0], THREADED, SIDES[0] + COMPILED)
OURS = (SIDES[1], COPIES, COPIES + COMPILED)
HALF, HALF_EYE = "ours, its eye in bfloat16", {"vision": "bf16"}
ROBOTS = 8


# --- what runs in other processes ------------------------------------------------------------------------------------


def serve_nothing() -> None:
    """Our server, with a policy that costs nothing."""
    from types import SimpleNamespace

    from robot_io import ActionChunk, ActionSpec, CameraSpec, ObservationSpec, RobotSpec
    from vla.serve import PolicyServer

    spec = RobotSpec("none", ObservationSpec((CameraSpec("base", 224, 224), CameraSpec("wrist", 224, 224)), tuple("abcdefgh"), ("1",) * 8),
                     ActionSpec(tuple("abcdefg"), ("1",) * 7, (-1.0,) * 7, (1.0,) * 7, ("delta",) * 7, rate_hz=10.0))
    chunk = ActionChunk(np.zeros((10, 7), np.float32), spec.action)

    class Policy:
        recipe = SimpleNamespace(name="none", hash="0", horizon=10, execute=5)

        def session(self):
            return self

        def infer(self, observation):
            return chunk

    Policy.spec = spec
    server = PolicyServer(Policy(), port=0)
    server.serve_forever(lambda: print(server.port, flush=True))


def serve_policy(folder: str, side: str) -> None:
    """The policy at `folder` behind one of the servers."""
    import torch

    from robot_io.messages import decode_observation, encode_chunk
    from vla.policy import Policy
    from vla.serve import PolicyServer
    from vla.serve.compiled import compiled
    from vla.serve.quantize import quantize_policy
    from vla.serve.replicas import serving_copy

    torch.set_num_threads(CORES if side == THREADED else 1)
    if side not in PEERS:
        devices = ["cpu"] * (CORES if COPIES in side else 1)
        ours = quantize_policy(Policy.load(folder), HALF_EYE) if side == HALF else serving_copy(Path(folder), devices, COMPILED in side)
        server = PolicyServer(ours, port=0)
        server.serve_forever(lambda: print(server.port, flush=True))
        if COPIES in side:
            ours.close()
    else:
        import openpi_peer

        policy = compiled(Policy.load(folder)) if COMPILED in side else Policy.load(folder)
        openpi_peer.serve_forever(lambda message: encode_chunk(policy.infer(decode_observation(message, policy.spec.observation))), {})


def ask_stock(servers: list[tuple[int, int]], blocks: int, calls: int) -> None:
    """In openpi-client's environment: calls to each port in turn; prints as JSON, for each server and block, the milliseconds of every call and
    those that the server computed for one."""
    from openpi_client.websocket_client_policy import WebsocketClientPolicy

    random = np.random.default_rng(0)
    base, wrist = random.integers(0, 256, (2, 224, 224, 3)).astype(np.uint8)
    observation = {"observation/image": base, "observation/wrist_image": wrist, "observation/state": np.zeros(8, np.float32), "prompt": "open it"}
    clients = [WebsocketClientPolicy("127.0.0.1", port) for port, _ in servers]
    found: list[list[tuple[list[float], float]]] = [[] for _ in servers]
    for block in range(blocks + 1):
        before, times = [cpu_seconds(pid) for _, pid in servers], [[] for _ in servers]
        for _ in range(calls):
            for client, mine in zip(clients, times):  # noqa: B905, numpy<2 may come with an old Python
                started = time.perf_counter()
                client.infer(observation)
                mine.append(1e3 * (time.perf_counter() - started))
        for (_, pid), began, mine, blocks_of in zip(servers, before, times, found) if block else ():  # noqa: B905, the first warms up
            blocks_of.append((mine, 1e3 * (cpu_seconds(pid) - began) / calls))
    print(json.dumps(found))


# --- the two measurements --------------------------------------------------------------------------------------------


@contextmanager
def process(*command: str) -> Iterator[tuple[int, int]]:
    """Another process that prints its port: `(port, process id)`."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as server:
        try:
            yield int(server.stdout.readline()), server.pid
        finally:
            server.terminate()


def wire(openpi: str, blocks: int, calls: int) -> list[dict]:
    with process(openpi, str(HERE / "openpi_peer.py")) as peer, process(sys.executable, __file__, "--serve-nothing") as ours:
        output = subprocess.run([openpi, __file__, "--ask", *map(str, (*peer, *ours, blocks, calls))], check=True,
                                capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(HERE.parent)}).stdout
    rows, per_block = [], {}
    for side, measured in zip(SIDES, json.loads(output), strict=True):
        found = per_block[side] = {"server_cpu_ms": [cpu for _, cpu in measured]}
        for metric, percentile in (("round_trip_p50_ms", 50), ("round_trip_p99_ms", 99)):
            found[metric] = [float(np.percentile(times, percentile)) for times, _ in measured]
        rows += [row({"server": side}, metric, values, blocks * calls) for metric, values in found.items()]
    for metric, ours_of in per_block[SIDES[1]].items():
        ratios = [mine / theirs for mine, theirs in zip(ours_of, per_block[SIDES[0]][metric], strict=True)]
        rows.append(row({"server": SIDES[1]}, f"times_the_peers_{metric.removesuffix('_ms')}", ratios, blocks * calls))
    return rows


def robots(policy: str, blocks: int, seconds: float) -> list[dict]:
    from robot_io import RobotSpec
    from robot_io.tabletop.robot import TabletopRobot
    from vla.serve.quantize import has_bfloat16

    spec, robot, observations = RobotSpec.from_dict(json.loads((Path(policy) / "spec.json").read_text())), TabletopRobot(), []
    for seed in range(ROBOTS):
        robot.reset(10_000 + seed)
        observations.append(robot.observe())
    robot.close()
    half = has_bfloat16()
    sides = (*PEERS, *OURS, *([HALF] if half else []))
    measured: dict[str, list[tuple[list[float], float]]] = {side: [] for side in sides}
    compute = bare_model(policy, observations, half)
    bare: dict[str, list[float]] = {name: [] for name in compute}
    with ExitStack() as stack:
        servers = [stack.enter_context(process(sys.executable, __file__, "--serve-policy", policy, side)) for side in sides]
        for block in range(blocks + 1):
            for side, (port, pid) in zip(sides, servers, strict=True):
                before = cpu_seconds(pid)
                times = drive(port, spec, observations, seconds if block else 2.0)
                if block:  # the first warms up
                    measured[side].append((times, cpu_seconds(pid) - before))
            for name, rates in bare.items():
                rate = compute[name](seconds / 2)
                if block:
                    rates.append(rate)
    rows, rates_of = [], dict(bare)
    for side, of_blocks in measured.items():
        requests, cell = sum(len(times) for times, _ in of_blocks), {"server": side}
        rates_of[side] = [len(times) / seconds for times, _ in of_blocks]
        rows.append(row(cell, "requests_per_second", rates_of[side], requests))
        rows.append(row(cell, "requests_per_cpu_second", [len(times) / cpu for times, cpu in of_blocks], requests))
        for metric, percentile in (("latency_p50_ms", 50), ("latency_p99_ms", 99)):
            rows.append(row(cell, metric, [float(np.percentile(times, percentile)) for times, _ in of_blocks], requests))
    for name, rates in bare.items():
        rows.append(row({"server": name}, "requests_per_second", rates, round(sum(rates) * seconds / 2)))
    alone, *together = bare
    best = {kind: [max(rates) for rates in zip(*(rates_of[side] for side in PEERS if (COMPILED in side) == kind), strict=True)]
            for kind in (False, True)}
    for side, base in [(side, best[COMPILED in side]) for side in sides[len(PEERS):]] + [(name, rates_of[alone]) for name in together]:
        ratios = [mine / theirs for mine, theirs in zip(rates_of[side], base, strict=True)]
        rows.append(row({"server": side}, "times_the_peers", ratios, len(ratios)))
    return rows


def bare_model(folder: str, observations: list, half: bool) -> dict[str, Callable[[float], float]]:
    """The policy in this process: for so many seconds, how many observations a second it answers. Alone as the peer has it, together as our
    servers have it."""
    import torch

    from vla.policy import Policy
    from vla.serve.quantize import for_serving, quantize_policy

    torch.set_num_threads(1)

    def rate(policy: Policy, size: int) -> Callable[[float], float]:
        sessions = [policy.session() for _ in range(size)]

        def measure(seconds: float) -> float:
            began, count = time.perf_counter(), 0
            while time.perf_counter() - began < seconds:
                policy.infer_together(sessions, observations[:size])
                count += size
            return count / (time.perf_counter() - began)

        return measure

    eight = f"bare model, {len(observations)} at once"
    found = {"bare model, 1 at once": rate(Policy.load(folder), 1), eight: rate(for_serving(Policy.load(folder)), len(observations))}
    if half:
        found[f"{eight}, its eye in bfloat16"] = rate(quantize_policy(Policy.load(folder), HALF_EYE), len(observations))
    return found


def cpu_seconds(pid: int) -> float:
    """What a process has computed so far, all its threads and the processes it started together (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")).split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + sum(cpu_seconds(int(child)) for child in children)


def drive(port: int, spec, observations: list, seconds: float) -> list[float]:
    """Robots in step with nothing but their own answers; milliseconds of every answer."""
    from robot_io.messages import encode_observation
    from robot_io.wire import packb

    times: list[list[float]] = [[] for _ in observations]
    until = time.perf_counter() + seconds

    def run(mine: list[float], observation) -> None:
        frame = masked(packb(encode_observation(observation, spec.observation)))
        with connected(port) as connection:
            while (started := time.perf_counter()) < until:
                connection.sendall(frame)
                read_frame(connection)
                mine.append(1e3 * (time.perf_counter() - started))

    threads = [threading.Thread(target=run, args=pair) for pair in zip(times, observations, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [each for mine in times for each in mine]


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    """A websocket without a library (RFC 6455), after its handshake and the server's first message."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                           "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += exactly(connection, 1)
        assert head.startswith(b"HTTP/1.1 101"), head
        read_frame(connection)
        yield connection


def masked(payload: bytes) -> bytes:
    """A binary frame from a client, under the mask that changes nothing."""
    return struct.pack("!BBQ4x", 0x82, 0x80 | 127, len(payload)) + payload


def read_frame(connection: socket.socket) -> None:
    """One binary frame; pings, which come every 20 s, are passed over."""
    while True:
        kind, short = exactly(connection, 2)
        size = {126: "!H", 127: "!Q"}.get(short)
        exactly(connection, short if size is None else struct.unpack(size, exactly(connection, struct.calcsize(size)))[0])
        if kind == 0x82:
            return
        assert kind == 0x89, f"frame of kind {kind:#x}: text is an error"


def exactly(connection: socket.socket, size: int) -> bytes:
    found = connection.recv(size, socket.MSG_WAITALL)
    assert len(found) == size, "the server hung up"
    return found


def row(cell: dict[str, str], metric: str, blocks: list[float], n: int) -> dict:
    """The mean over blocks, with its interval; `n` counts requests."""
    from vla.evaluate.statistics import mean_of

    return {"cell": cell, "metric": metric, **mean_of(blocks).to_dict(), "n": n, "seeds": [], "recipe": "", "command": COMMAND}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", help="a policy folder for the tabletop")
    parser.add_argument("--openpi", required=True, help="Python with openpi-client")
    parser.add_argument("--only", choices=("wire", "robots"))
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--calls", type=int, default=200, help="round trips a block")
    parser.add_argument("--seconds", type=float, default=10.0, help="of a block with robots")
    options = parser.parse_args()
    from vla.results import save_rows

    measurements = {"wire": lambda: wire(options.openpi, options.blocks, options.calls),
                    "robots": lambda: robots(options.policy, options.blocks, options.seconds)}
    for part, measure in measurements.items():
        if options.only not in (None, part):
            continue
        name, rows = f"serving_{part}", measure()
        save_rows(OUT / f"{name}.json", rows)
        for each in rows:
            print(name, each["cell"]["server"], each["metric"], f"{each['mean']:.2f} [{each['low']:.2f}, {each['high']:.2f}]")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve-nothing"]:
        serve_nothing()
    elif sys.argv[1:2] == ["--serve-policy"]:
        serve_policy(*sys.argv[2:])
    elif sys.argv[1:2] == ["--ask"]:
        *pairs, block_count, call_count = map(int, sys.argv[2:])
        ask_stock(list(zip(pairs[::2], pairs[1::2])), block_count, call_count)  # noqa: B905
    else:
        main()
