"""The faults of `benchmarks/faults.py`: each a run with something going wrong in it, and whether it ended as it should.

A fault's own text says what it does and what should come of it.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from fault_rig import EXECUTE, HORIZON, SPEC, Proxy, Seer, WatchedRobot
from websockets.sync.server import serve as serve_frames

from robot_io import UserError
from robot_io.client import PolicyClient
from robot_io.dataset import Recorder
from robot_io.execution.freshness import Freshness
from robot_io.execution.log import Log
from robot_io.handshake import ServerLost
from robot_io.messages import decode_observation, encode_chunk
from robot_io.robot import Driver
from robot_io.runner import Patience, Report, Runner
from robot_io.wire import packb, unpackb
from vla.serve import PolicyServer

PATIENCE = Patience(first=20.0, answer=1.0, stale=1.0, silence=2.0)
SERVE = (sys.executable, str(Path(__file__).with_name("faults.py")), "--serve")
"""A server in a process of its own, which can be killed."""


@dataclass
class Bench:
    """What a fault works with: its randomness, a robot, a folder with one recorded episode, and how chunks are carried out."""

    random: random.Random
    robot: WatchedRobot
    log: Path
    execution: str
    reserve: int = 0
    report: Report | None = None

    @contextlib.contextmanager
    def at_step(self, step: int, fault: Callable[[], object]) -> Iterator[None]:
        """Let something happen once the robot has made so many steps."""

        def watch() -> None:
            while len(self.robot.told) < step:
                time.sleep(0.005)
            fault()

        thread = threading.Thread(target=watch)
        thread.start()
        yield
        thread.join()

    def run(self, driver: Driver, patience: Patience = PATIENCE) -> Report:
        log = Log(Recorder(self.log, SPEC), reserve=self.reserve)
        # A pixel of its cameras is 0.065 wide.
        self.report = Runner(self.robot, driver, execution=self.execution, execute=EXECUTE, patience=patience, log=log,
                             freshness=Freshness(motion=0.15)).run(seconds=120)
        return self.report


Fault = Callable[[Bench], bool]
"""Runs a trial; says whether it ended as it should."""


def client(port: int, **options: object) -> PolicyClient:
    return PolicyClient(f"127.0.0.1:{port}", robot_spec=SPEC, timeout=1.0, wait=8.0, **options)


def server_killed(bench: Bench) -> bool:
    """SIGKILL at a random step; then another server is started on the same port. It should hold, go on, and succeed."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    servers = [start_server(port)]

    def kill() -> None:
        servers[0].kill()
        servers[0].wait()
        servers.append(start_server(port))

    try:
        with client(port) as policy, bench.at_step(bench.random.randint(2, 25), kill):
            report = bench.run(policy, replace(PATIENCE, silence=60.0))
        return bool(report.success) and len(servers) == 2
    finally:
        for server in servers:
            server.kill()


def start_server(port: int) -> subprocess.Popen:
    process = subprocess.Popen([*SERVE, str(port)], stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    return process


def stall(bench: Bench) -> bool:
    """The policy thinks for two seconds, once. The answer is too old when it comes; it should hold, ask again, and succeed."""
    moment = bench.random.randint(2, 5)

    def trouble(request: int) -> None:
        if request == moment:
            time.sleep(2.0)

    with PolicyServer(Seer(trouble), port=0) as server, client(server.port) as policy:
        report = bench.run(policy, replace(PATIENCE, silence=5.0))
    return report.success and report.held > 20


def loss_and_delay(bench: Bench) -> bool:
    """Every piece 0 to 80 ms late, one in twenty by a retransmission timeout more. It should succeed, later."""
    return through(bench, delay=(0.0, 0.08), loss=0.05)


def resets(bench: Bench) -> bool:
    """One piece in ten resets the connection. It should connect anew each time, and succeed."""
    return through(bench, delay=(0.0, 0.01), reset=0.1)


def through(bench: Bench, **wire: object) -> bool:
    with PolicyServer(Seer(), port=0) as server:
        proxy = Proxy(server.port, seed=bench.random.randrange(2**31), **wire)
        try:
            for _ in range(20):  # the first connection may be the one that is reset
                with contextlib.suppress(ServerLost):
                    policy = client(proxy.port)
                    break
            with policy:
                return bool(bench.run(policy, replace(PATIENCE, silence=20.0)).success)
        finally:
            proxy.close()


def malformed(bench: Bench) -> bool:
    """Every second answer is cut, has bytes changed, is noise, or is text. None should move the robot; in the end it succeeds."""
    seer = Seer()

    def mangle(frame: bytes) -> bytes | str:
        kind = bench.random.randrange(5)
        if kind == 0:
            return frame[: bench.random.randrange(len(frame))]
        if kind == 1:  # in the map's own bytes: in the numbers a changed byte is a number
            place = bench.random.randrange(min(40, len(frame)))
            return frame[:place] + bytes([frame[place] ^ 1 << bench.random.randrange(8)]) + frame[place + 1 :]
        if kind == 2:
            return bench.random.randbytes(bench.random.randrange(300))
        return "the policy failed" if kind == 3 else packb({"actions": np.full((HORIZON, 2), np.inf, np.float32)})

    with frames(lambda request: mangle(good(request, seer)) if bench.random.random() < 0.5 else good(request, seer)) as port, client(port) as policy:
        return bool(bench.run(policy, replace(PATIENCE, silence=20.0)).success)


def oversized(bench: Bench) -> bool:
    """One answer is a 70 MB frame. It should be refused unread, and the run goes on."""
    seer, moment, count = Seer(), bench.random.randint(3, 6), 0

    def answer(request: dict) -> bytes:
        nonlocal count
        count += 1
        return bytes(70 * 2**20) if count == moment else good(request, seer)

    with frames(answer) as port, client(port) as policy:
        return bool(bench.run(policy, replace(PATIENCE, silence=20.0)).success)


def good(request: dict, seer: Seer) -> bytes:
    """A right answer, as a server would give it."""
    if request.get("reset"):
        return packb({"reset": True, "request_id": request["request_id"]})
    chunk = seer.infer(decode_observation(request, SPEC.observation))
    return packb(encode_chunk(chunk) | {"request_id": request["request_id"]})


@contextlib.contextmanager
def frames(answer: Callable[[dict], bytes | str]) -> Iterator[int]:
    """A server that answers with any bytes."""
    metadata = packb({"robot_spec": SPEC.to_dict(), "policy": "mangled", "horizon": HORIZON, "execute": EXECUTE})

    def talk(connection) -> None:
        connection.send(metadata)
        for frame in connection:
            connection.send(answer(unpackb(frame)))

    with serve_frames(talk, "127.0.0.1", 0, max_size=None, compression=None) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.socket.getsockname()[1]
        running.shutdown()


def wrong_key(bench: Bench) -> bool:
    """The client has another key. It should be told, and nothing moves."""
    with PolicyServer(Seer(), port=0, api_key="right") as server:
        try:
            client(server.port, api_key="wrong")
        except UserError as error:
            return "API key" in str(error) and not bench.robot.told
    return False


def another_robots_policy(bench: Bench) -> bool:
    """The server comes back with a policy for another robot. It should be refused; the robot holds and is stopped."""
    other = Seer()
    other.spec = replace(SPEC, action=replace(SPEC.action, modes=("absolute", "absolute")))
    first = PolicyServer(Seer(), port=0).start()
    second = PolicyServer(other, port=first.port)

    def swap() -> None:
        first.stop()
        second.start()

    with client(first.port) as policy, bench.at_step(bench.random.randint(2, 12), swap):
        report = bench.run(policy)
    second.stop()
    return report.reason == "silence" and bench.robot.stopped == 1


def idle_connections(bench: Bench) -> bool:
    """A hundred clients connect and say nothing. It should succeed as if alone."""
    with PolicyServer(Seer(), port=0) as server, contextlib.ExitStack() as crowd:
        for _ in range(100):
            crowd.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        with client(server.port) as policy:
            return bool(bench.run(policy).success)


def disk_full(bench: Bench) -> bool:
    """The log's file system (a 3 MB tmpfs) fills up during the run. It should succeed, and keep what was recorded before."""
    stuffing = bench.log.parent / "stuffing"
    free = shutil.disk_usage(bench.log).free
    stuffing.write_bytes(bytes(max(0, free - bench.random.randrange(40_000))))
    report = bench.run(Seer())
    stuffing.unlink()
    return bool(report.success) and report.log_problem is not None


def disk_nearly_full(bench: Bench) -> bool:
    """As above, with room reserved. It should succeed, and every frame up to the reserve is kept as an episode."""
    bench.reserve = 1_500_000
    stuffing = bench.log.parent / "stuffing"
    with bench.at_step(bench.random.randint(2, 25), lambda: stuffing.write_bytes(bytes(shutil.disk_usage(bench.log).free - 1_200_000))):
        report = bench.run(Seer())
    stuffing.unlink()
    return bool(report.success) and "nearly full" in (report.log_problem or "") and report.logged > 0


def frozen_camera(bench: Bench) -> bool:
    """Both cameras repeat their last picture from a random step on. It should hold, and be stopped."""
    bench.robot.frozen_at = bench.random.randint(3, 12)
    report = bench.run(Seer())
    return report.reason == "silence" and "frozen camera" in report.faults and bench.robot.stopped == 1


def not_a_number(bench: Bench) -> bool:
    """From a random answer on, chunks turn into NaN after they were checked. It should hold, and be stopped."""
    moment = bench.random.randint(2, 6)

    class Poisoned(Seer):
        def infer(self, observation):
            chunk = super().infer(observation)
            if self._requests >= moment:
                chunk.actions[bench.random.randrange(HORIZON) :] = bench.random.choice([np.nan, np.inf])
            return chunk

    report = bench.run(Poisoned())
    return report.reason == "silence" and "not a number" in report.faults and bench.robot.stopped == 1


def policy_crashes(bench: Bench) -> bool:
    """Every third answer raises inside the policy. It should hold for a moment, ask again, and succeed."""
    def trouble(request: int) -> None:
        if request % 3 == 2:
            raise ZeroDivisionError
    with PolicyServer(Seer(trouble), port=0) as server, client(server.port) as policy:
        report = bench.run(policy)
    return bool(report.success) and report.faults["no answer"] > 0


def protective_stop(bench: Bench) -> bool:
    """The robot refuses from a random step on. The run should end and say so."""
    bench.robot.refuses_at = bench.random.randint(2, 20)
    report = bench.run(Seer())
    return report.reason == "robot" and "protective stop" in report.detail


FAULTS: dict[str, Fault] = {
    "server killed": server_killed, "policy stalls 2 s": stall, "policy crashes": policy_crashes, "packets lost and late": loss_and_delay,
    "connections reset": resets, "malformed answers": malformed, "oversized answer": oversized, "wrong key": wrong_key,
    "another robot's policy": another_robots_policy, "100 idle connections": idle_connections, "camera frozen": frozen_camera,
    "NaN actions": not_a_number, "protective stop": protective_stop, "disk full": disk_full, "disk nearly full": disk_nearly_full,
}
