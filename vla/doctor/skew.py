"""Whether a policy does on recorded frames what was recorded: the trace of any difference between how it was trained and how it is run.

It is shown frames as a robot would show them, through the very path that serves it, and its first actions are held against the
recorded ones. A policy that does no better than the mean action on the data that it is said to be trained on is not fed as it was trained.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from robot_io import CameraFrame, Observation
from robot_io.robot import Driver
from vla.doctor.columns import Columns
from vla.doctor.finding import Finding, bad, good, odd
from vla.doctor.pictures import sample

FRAMES = 24
STEPS = 4
"""Actions of each chunk that are compared."""


def policy_on_data(driver: Driver, columns: Columns) -> Iterator[Finding]:
    yield from check_scale(driver, columns)
    frames = [frame for number in sample(columns.data) for frame in _spread(columns, number)]
    recorded, said = [], []
    for frame, observation in _observations(columns, frames):
        chunk = driver.infer(observation).actions[:STEPS]
        said.append(chunk)
        recorded.append(columns.actions[frame : frame + len(chunk)])
    yield from compare(np.concatenate(said), np.concatenate(recorded), columns)


def check_scale(driver: Driver, columns: Columns) -> Iterator[Finding]:
    """The policy's statistics against the data's; a server keeps its own to itself."""
    normalizer = getattr(driver, "normalizer", None)
    if normalizer is None:
        return
    wrong = []
    for what, affine, values in (("action", normalizer.action, columns.actions), ("state", normalizer.state, columns.state)):
        if affine is None:
            continue
        mean, std = values.mean(0), np.maximum(values.std(0), 1e-6)
        stored = affine.statistics.values
        off = np.maximum(np.abs(stored["mean"] - mean) / std, np.abs(np.log(np.maximum(stored["std"], 1e-6) / std)))
        wrong += [f"{what} '{name}' (mean {stored['mean'][i]:.4g} ± {stored['std'][i]:.4g} in the policy, {mean[i]:.4g} ± {std[i]:.4g} here)"
                  for i, name in enumerate(affine.statistics.names) if off[i] > 0.5]
    if wrong:
        yield bad("normalisation", f"the policy was trained on other numbers: {'; '.join(wrong)}",
                  "use the data it was trained on, or train on these")
    else:
        yield good("normalisation", "the policy's statistics are those of these data")


def compare(said: Float[np.ndarray, "n a"], recorded: Float[np.ndarray, "n a"], columns: Columns) -> Iterator[Finding]:
    """Errors as a share of what always commanding the mean would make."""
    mean = columns.actions.mean(0)
    names, kept = columns.spec.action.names, columns.actions.std(0) > 1e-6
    error, base = np.abs(said - recorded).mean(0), np.maximum(np.abs(recorded - mean).mean(0), 1e-9)
    for i in np.flatnonzero(kept & (np.ptp(said, axis=0) > 0) & (np.ptp(recorded, axis=0) > 0)):
        if (agreement := np.corrcoef(said[:, i], recorded[:, i])[0, 1]) < -0.3:
            yield bad("train/serve skew", f"action '{names[i]}' goes the other way than recorded (correlation {agreement:.2f})",
                      "check the sign and frame of this dimension on both sides")
    share = float((error / base)[kept].mean())
    text = f"on {len(said)} recorded actions the policy errs by {100 * share:.0f} % of what the mean action does"
    if share > 0.95:
        yield bad("train/serve skew", f"{text}: it does not know these frames",
                  "is it trained on them, with these cameras in this order, and this normalisation?")
    elif share > 0.7:
        yield odd("train/serve skew", f"{text}: little better than the mean", "train longer, or look at what it sees with `vla look`")
    else:
        yield good("train/serve skew", text)


def _spread(columns: Columns, episode: int) -> list[int]:
    """Frames spread over an episode that have STEPS actions after them."""
    start, stop = columns.starts[episode], columns.starts[episode + 1]
    return sorted({int(frame) for frame in np.linspace(start, max(start, stop - STEPS), FRAMES // 3)})


def _observations(columns: Columns, frames: list[int]) -> Iterator[tuple[int, Observation]]:
    """The frames as a robot would have shown them."""
    data = columns.data
    cameras = columns.spec.observation.cameras
    for episode in data.episodes:
        inside = [frame for frame in frames if episode.start <= frame < episode.stop]
        if not inside:
            continue
        rgb = {camera.name: data.rgb(camera.name, episode) for camera in cameras}
        depth = {camera.name: data.depth(camera.name, episode) if camera.depth else None for camera in cameras}
        pose = {camera.name: data.camera_pose(camera.name, episode) for camera in cameras}
        for frame in inside:
            step = frame - episode.start
            seen = {name: CameraFrame(rgb[name][step], None if depth[name] is None else depth[name][step], data.intrinsics(name),
                                      None if pose[name] is None else pose[name][step]) for name in rgb}
            yield frame, Observation(seen, columns.state[frame].astype(np.float32), episode.instruction, step / data.fps)
