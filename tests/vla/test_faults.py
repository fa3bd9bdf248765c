"""A run in real time while something goes wrong on the wire: the quick ones of `benchmarks/faults.py`'s trials, with a real server."""

from __future__ import annotations

import threading
import time

from fault_rig import EXECUTE, SPEC, Proxy, Seer, WatchedRobot

from robot_io.client import PolicyClient
from robot_io.execution.freshness import Freshness
from robot_io.runner import Patience, Report, Runner
from vla.serve import PolicyServer


def drive(robot: WatchedRobot, port: int, **patience: float) -> Report:
    with PolicyClient(f"127.0.0.1:{port}", robot_spec=SPEC, timeout=1.0) as policy:
        return Runner(robot, policy, execution="asynchronous", execute=EXECUTE, freshness=Freshness(motion=0.15),
                      patience=Patience(first=20.0, answer=1.0, stale=1.0, **patience)).run(seconds=60)


def a_robot(seed: int = 1) -> WatchedRobot:
    robot = WatchedRobot()
    robot.reset(seed)
    return robot


def test_a_server_that_goes_and_comes_back_is_found_again() -> None:
    robot, first = a_robot(), PolicyServer(Seer(), port=0).start()
    second = PolicyServer(Seer(), port=first.port)

    def swap() -> None:
        while len(robot.told) < 5:
            time.sleep(0.01)
        first.stop()
        second.start()

    thread = threading.Thread(target=swap)
    thread.start()
    report = drive(robot, first.port, silence=20.0)
    thread.join()
    second.stop()
    assert report.success and report.faults["no answer"] and not robot.moved_wrongly


def test_a_server_that_does_not_come_back_stops_the_robot() -> None:
    robot, over = a_robot(), threading.Event()

    def silence(request: int) -> None:
        if request > 2:
            over.wait(20)

    with PolicyServer(Seer(silence), port=0) as server:
        report = drive(robot, server.port, silence=0.5)
        over.set()
    assert report.reason == "silence" and robot.stopped == 1 and not robot.moved_wrongly


def test_late_packets_and_broken_connections_only_cost_time() -> None:
    robot = a_robot()
    with PolicyServer(Seer(), port=0) as server:
        proxy = Proxy(server.port, delay=(0.0, 0.03), loss=0.05)
        report = drive(robot, proxy.port, silence=20.0)
        proxy.close()
    assert report.success and proxy.pieces > 10 and not robot.moved_wrongly
