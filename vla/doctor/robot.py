"""A robot as it stands there: whether it looks, whether what it sees is what the data and the policy know, and how fast the policy
answers. Nothing is moved."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from robot_io import Observation, UserError
from robot_io.robot import Driver, Robot, Simulator
from robot_io.specs import differences
from vla.doctor.columns import Columns
from vla.doctor.finding import Finding, bad, compare_specs, good, odd
from vla.doctor.pictures import sample
from vla.evaluate.drivers import Source, make_robot, preload

ANSWERS = 4


def examine_robot(config: dict[str, Any], columns: Columns | None, source: Source | None, driver: Driver | None) -> Iterator[Finding]:
    preload()
    try:
        robot = make_robot(config)
    except UserError as error:
        yield bad("opening", str(error))
        return
    try:
        if isinstance(robot, Simulator):
            robot.reset(20_000)
        if columns is not None:
            yield from compare_specs("data and robot", columns.spec, robot.spec)
        if source is not None:
            yield from compare_specs("policy and robot", source.spec, robot.spec)
        observation = yield from look(robot)
        if observation is not None and columns is not None:
            yield from familiar(observation, columns)
        if observation is not None and source is not None and not differences(source.spec, robot.spec):
            yield from ask(driver, observation, source)
    finally:
        robot.close()


def look(robot: Robot) -> Iterator[Finding]:
    """Look twice; returns the observation, or None."""
    try:
        began = time.perf_counter()
        first = robot.observe()
        took = time.perf_counter() - began
        robot.observe()
    except UserError as error:
        yield bad("looking", str(error))
        return None
    period = 1 / robot.spec.action.rate_hz
    if not np.isfinite(first.state).all():
        yield bad("looking", f"the state holds NaN: {first.state.tolist()}", "check that sensor")
    for camera in robot.spec.observation.cameras:
        frame = first.cameras.get(camera.name)
        if frame is None or frame.rgb.shape[:2] != (camera.height, camera.width):
            yield bad("looking", f"camera '{camera.name}' gives {'nothing' if frame is None else frame.rgb.shape[:2]}, its specification says "
                      f"{(camera.height, camera.width)}", "configure the camera")
        elif frame.rgb.mean() < 8:
            yield bad("looking", f"camera '{camera.name}' is black", "check its cap and its exposure")
        elif camera.depth and not (frame.depth is not None and (frame.depth > 0).mean() > 0.3):
            yield odd("looking", f"camera '{camera.name}' measures depth in few of its pixels", "check its distance and its lamp")
    if took > 5 * period:
        yield odd("looking", f"the first look took {took:.2f} s", "the devices wake up; look once before the run")
    yield good("looking", f"cameras {', '.join(first.cameras) or 'none'}, {len(first.state)} numbers of state")
    return first


def familiar(observation: Observation, columns: Columns) -> Iterator[Finding]:
    """Whether state and pictures are like those of the data: units, frames, colours, exposure."""
    low, high = np.quantile(columns.state, [0.0, 1.0], axis=0) if columns.state.size else (np.empty(0), np.empty(0))
    span = np.maximum(high - low, 1e-3)
    strange = [f"'{name}' is {observation.state[i]:.4g}, the data have {low[i]:.4g} to {high[i]:.4g}"
               for i, name in enumerate(columns.spec.observation.state[: len(observation.state)])
               if not low[i] - 0.5 * span[i] <= observation.state[i] <= high[i] + 0.5 * span[i]]
    if strange:
        yield bad("familiarity", f"the robot is where the data never were: {'; '.join(strange)}",
                  "check units and frame, or bring the robot to a usual start")
    else:
        yield good("familiarity", "the state lies in the range of the data")
    for camera, frame in observation.cameras.items():
        if camera not in columns.data.cameras:
            continue
        known = np.concatenate([columns.data.rgb(camera, columns.data.episodes[number])[::4] for number in sample(columns.data)])
        yield from colours(camera, frame.rgb, known)


def colours(camera: str, picture: np.ndarray, known: np.ndarray) -> Iterator[Finding]:
    """A picture's mean colour against those of the data: brightness, and red and blue exchanged."""
    seen, usual = picture.reshape(-1, 3).mean(0), known.reshape(len(known), -1, 3).mean(1)
    spread = np.maximum(usual.std(0), 6.0)
    here, swapped = (np.abs(colour - usual.mean(0)) / spread for colour in (seen, seen[::-1]))
    text = f"camera '{camera}' has a mean colour of {seen.round().astype(int).tolist()}, the data {usual.mean(0).round().astype(int).tolist()}"
    if here.max() > 4 and swapped.max() < 0.5 * here.max():
        yield bad("familiarity", f"{text}: red and blue seem to be exchanged", "convert BGR to RGB")
    elif here.max() > 4:
        yield odd("familiarity", f"{text}: another exposure or another scene", "look at it; adjust the lamp or the exposure")
    else:
        yield good("familiarity", text)


def ask(driver: Driver, observation: Observation, source: Source) -> Iterator[Finding]:
    """A few answers: finite, within the limits, and how long they take. None is carried out."""
    spec, times = source.spec.action, []
    try:
        driver.reset(0)
        for _ in range(ANSWERS):
            began = time.perf_counter()
            actions = driver.infer(observation).actions
            times.append(time.perf_counter() - began)
    except UserError as error:
        yield bad("asking", str(error))
        return
    span = np.array(spec.high) - np.array(spec.low)
    beyond = (actions < np.array(spec.low) - 0.1 * span) | (actions > np.array(spec.high) + 0.1 * span)
    if beyond.any():
        names = ", ".join(spec.names[i] for i in np.flatnonzero(beyond.any(0)))
        yield bad("asking", f"it commands {names} beyond its limits", "wrong statistics, or a policy that never saw this")
    latency, steps = float(np.median(times[1:])), float(np.median(times[1:])) * spec.rate_hz
    text = f"answers take {1e3 * latency:.0f} ms, {steps:.1f} control steps"
    if steps > (source.execute or 1):
        yield odd("asking", f"{text}, more than the {source.execute} that each chunk brings", "use --execution real_time, or a faster machine")
    else:
        yield good("asking", text)
