"""Drive a robot with a policy, in real time: the loop that holds the control rate whatever the policy, the network or the disk does.

    with PolicyClient("gpu-box:8000", robot_spec=robot.spec) as policy:
        report = Runner(robot, policy, execution="real_time", execute=policy.metadata["execute"]).run(seconds=60)

At every control step it reads the robot, takes what the schedule (`robot_io.execution`) says, passes it through the safety layer
(`robot_io.safety`) and sends it. The policy is asked on another thread; the loop waits for it only while there is nothing else to do,
and never past the next step. Whenever there is nothing that may be done (no answer, a stale one, a frozen camera, a forbidden action, a
human's pause) the robot holds; if that lasts longer than `Patience.silence` without a human wanting it, it stops and the run ends. Every
action that was carried out can be logged with what the robot saw: a run is a demonstration, including a human's corrections.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32

from robot_io.errors import SpecMismatch, UserError
from robot_io.execution import DelayEstimate, Schedule, hold, make_schedule, require_prefix
from robot_io.execution.asking import Asking
from robot_io.execution.freshness import Freshness
from robot_io.execution.human import Human
from robot_io.execution.log import Log
from robot_io.execution.pace import Pace
from robot_io.robot import Driver, Robot, Simulator
from robot_io.safety import Safety
from robot_io.types import Observation

LOG = logging.getLogger("robot_io.runner")


@dataclass(frozen=True)
class Patience:
    """How long things may take, in seconds.

    Attributes:
        first: for the first answer, before anything moves: a policy warms up. If it took longer than `stale`, it is asked again.
        answer: for any other answer.
        stale: the oldest observation whose answer may be carried out.
        silence: how long the robot may hold for want of anything to do, or of anything allowed, before it is stopped.
    """

    first: float = 60.0
    answer: float = 3.0
    stale: float = 3.0
    silence: float = 10.0


@dataclass
class Report:
    """How a run went.

    Attributes:
        reason: why it ended: `done` (the simulator's verdict, or the judge's), `time`, `human`, `silence` or `robot`.
        detail: what was last wrong, for `silence` and `robot`.
        steps, held: control steps, and how many of them the robot held.
        chunks: answers that were carried out.
        faults: what went wrong or was intervened, by name.
        latency: seconds of every answer.
        late: control steps that came late; `worst` the longest time between two, in seconds.
        logged: frames on disk; `log_problem` says why not all.
    """

    reason: str = "time"
    detail: str = ""
    success: bool | None = None
    steps: int = 0
    held: int = 0
    human: int = 0
    chunks: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    latency: list[float] = field(default_factory=list)
    late: int = 0
    worst: float = 0.0
    logged: int = 0
    log_problem: str | None = None


class Runner:
    """Runs a driver on a robot.

    Args:
        execution, execute: how chunks are carried out (`robot_io.execution.SCHEDULES`).
        safety: the limits; None keeps only those of the robot's own action space.
        log: where every step goes.
        human: who may pause, take over and stop.
        judge: says at the end whether the run was a success; None asks a simulator, and knows nothing of a real robot.
        stop_without_log: end the run when the log has a problem, instead of going on without it.

    Raises:
        UserError: an execution that does not go with this robot or driver. Nothing has moved then.
    """

    def __init__(self, robot: Robot, driver: Driver, *, execution: str = "synchronous", execute: int | None = None,
                 safety: Safety | None = None, patience: Patience | None = None, log: Log | None = None, human: Human | None = None,
                 freshness: Freshness | None = None, judge: Callable[[], bool] | None = None, stop_without_log: bool = False) -> None:
        self.robot, self.driver = robot, driver
        self.schedule: Schedule = make_schedule(execution, execute, robot.spec.action)
        require_prefix(driver, self.schedule)
        self.safety = safety or Safety(robot.spec)
        self.patience, self.log, self.human = patience or Patience(), log, human or Human()
        self.freshness, self.judge, self.stop_without_log = freshness or Freshness(), judge, stop_without_log

    def run(self, *, seconds: float = np.inf, seed: int = 0) -> Report:
        """Drive until it is done, the time is up, the human stops it, or nothing can be done."""
        self._begin(seed)
        try:
            while not self._over(seconds):
                self._pace.wait()
                self._tick()
        finally:
            self._end()
        return self.report

    def _begin(self, seed: int) -> None:
        self.report = Report()
        self._asking, self._delay = Asking(self.driver), DelayEstimate()
        self._pace = Pace(self.robot.spec.action.rate_hz)
        self._last: np.ndarray | None = None
        self._state: np.ndarray | None = None
        self._ended = ""
        for part in (self.schedule, self.safety, self.freshness):
            part.reset()
        self._greet(seed)
        if self.log is not None:
            self.log.begin()
        self._began = self._useful = time.monotonic()

    def _greet(self, seed: int) -> None:
        """Tell the driver that an episode begins; a message that is lost on the way is sent again. Nothing has moved yet."""
        began = time.monotonic()
        while True:
            try:
                return self.driver.reset(seed)
            except SpecMismatch:
                raise
            except UserError as error:
                self._fault("no answer", error)
                if time.monotonic() - began > self.patience.first or self.human.stopped:
                    raise
                time.sleep(0.1)

    def _over(self, seconds: float) -> bool:
        now = time.monotonic()
        silence = self.patience.silence if self._last is not None else max(self.patience.first, self.patience.silence)
        checks = (
            ("human", self.human.stopped),
            ("done", isinstance(self.robot, Simulator) and self.robot.outcome().done),
            ("time", now - self._began > seconds),
            ("silence", now - self._useful > silence),
            ("log", self.stop_without_log and self.log is not None and self.log.problem is not None),
        )
        self._ended = self._ended or next((reason for reason, true in checks if true), "")
        return bool(self._ended)

    def _tick(self) -> None:
        """One control step."""
        self.report.steps += 1
        observation = self._look()
        self._collect()
        action, by_human = self._choose(observation)
        if action is not None:
            action = self._allowed(action)
        if action is not None or by_human:
            self._useful = time.monotonic()
        held = action is None
        if held:
            self.report.held += 1
            if self._last is None or self._state is None:
                return  # nothing has been commanded yet, so there is nothing to take back
            action = hold(self.robot.spec, self._state, self._last)
        self._send(observation, action, held)

    def _allowed(self, action: Float32[np.ndarray, " a"]) -> Float32[np.ndarray, " a"] | None:
        """What the safety layer leaves of an action; nothing, as long as the robot has never been seen."""
        if self._state is None:
            return None
        verdict = self.safety.check(action, self._state)
        for why in verdict.why:
            self._fault(why)
        return verdict.action

    def _look(self) -> Observation | None:
        """What the robot sees, if it can be had and is the present."""
        try:
            observation = self.robot.observe()
        except Exception as error:
            self._fault("no observation", error)
            return None
        self._state = observation.state
        if frozen := self.freshness.stale(observation):
            self._fault("frozen camera", f"{frozen}: the same picture while the robot moves")
            return None
        return observation

    def _collect(self) -> None:
        """Take the policy's answer, if one has come and is still worth something."""
        answer = self._asking.poll(self.patience.answer if self.report.chunks else self.patience.first)
        if answer is None:
            return
        self.report.latency.append(answer.seconds)
        if answer.error is not None:
            self._fault("no answer" if isinstance(answer.error, (TimeoutError, UserError)) else "driver failed", answer.error)
        elif answer.chunk.spec != self.robot.spec.action:
            self._fault("another robot's chunk", "its action specification is not this robot's")
        elif not np.isfinite(answer.chunk.actions).all():
            self._fault("not a number", "in a chunk, of which nothing is carried out")
        elif answer.seconds > self.patience.stale:
            self._fault("stale answer", f"it took {answer.seconds:.1f} s")
        else:
            try:
                self.schedule.accept(answer.chunk.actions)
            except UserError as error:
                self._fault("unusable chunk", error)
                return
            if self._last is not None:  # before, nothing was underway
                self._delay.add(self.report.steps - answer.asked)
            self.report.chunks += 1

    def _choose(self, observation: Observation | None) -> tuple[Float32[np.ndarray, " a"] | None, bool]:
        """The action of this step, None to hold; and whether a human chose."""
        if self.human.in_charge:
            self.report.human += 1
            # What the policy had in mind was for the world as it was before the human came.
            self.schedule.reset()
            self._asking.forget()
            return self.human.action, True
        if observation is None:
            return None, False
        if self._asking.idle and self.schedule.due():
            prefix = self.schedule.ask(self._delay.steps)
            self._asking.ask(observation, prefix, self.report.steps)
        action = self.schedule.action()
        if action is None:
            # Half a period may still bring the answer, and then no step is lost.
            self._asking.wait(0.5 * self._pace.period)
            self._collect()
            action = self.schedule.action()
        return action, False

    def _send(self, observation: Observation | None, action: Float32[np.ndarray, " a"], held: bool) -> None:
        try:
            self.robot.act(action)
        except Exception as error:
            self._fault("robot refused", error)
            self._ended = "robot"
            return
        self.safety.carried_out(action, self._state)
        self._last = action
        if self.log is not None and observation is not None and not held:
            self.log.add(observation, action)

    def _end(self) -> None:
        """Stop the arm first, then see to the rest."""
        report = self.report
        try:
            if hasattr(self.robot, "stop"):
                self.robot.stop()
            elif self._last is not None:
                self.robot.act(hold(self.robot.spec, self._state, self._last))
        except Exception as error:
            self._fault("stop failed", error)
        report.reason, report.late, report.worst = self._ended or "crash", self._pace.late, self._pace.worst
        if isinstance(self.robot, Simulator):
            report.success = bool(self.robot.outcome().success)
        elif self.judge is not None:
            report.success = self.judge()
        if self.log is not None:
            self.log.end(bool(report.success))
            report.logged, report.log_problem = self.log.saved, self.log.problem

    def _fault(self, name: str, error: object = "") -> None:
        self.report.faults[name] += 1
        self.report.detail = f"{name}: {error}" if str(error) else name
        if self.report.faults[name] == 1:
            LOG.warning("%s", self.report.detail)
