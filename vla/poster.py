"""The picture in the README: a policy at work, its pictures drawn again at a size that people like to look at.

    python -m vla.poster runs/demo/policy --seed 20003

The policy sees what it always sees. A twin of the robot with larger pictures repeats its actions in lockstep, which the
simulator's determinism allows; five of its moments make the strip, front camera above, wrist camera below.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from robot_io import Observation
from robot_io.tabletop.robot import TabletopRobot
from vla.evaluate.drivers import find, make_robot, open_driver
from vla.evaluate.episode import run_episode

MOMENTS, SIZE, GAP = 5, 320, 4


def poster(policy: str, seed: int, path: Path) -> bool:
    """Draw the trial of `seed` into `path`; says whether it succeeded."""
    source = find(policy)
    robot, twin = make_robot(source.robot), TabletopRobot(**{**source.robot, "image_size": SIZE})
    twin.reset(seed)
    seen: list[np.ndarray] = []

    def watch(observation: Observation, action: np.ndarray) -> None:
        seen.append(_column(twin))
        twin.act(action)

    trial = run_episode(robot, open_driver(source, robot), seed=seed, execute=source.execute, observer=watch)
    seen.append(_column(twin))
    chosen = [seen[i] for i in np.linspace(0, len(seen) - 1, MOMENTS).round().astype(int)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([np.pad(c, [(0, 0), (0, GAP), (0, 0)], constant_values=255) for c in chosen], 1)).save(
        path, optimize=True)
    print(f"{path}: '{trial.instruction}', seed {seed}, {'success' if trial.success else 'failure'} in {trial.seconds:.1f} s")
    return trial.success


def _column(robot: TabletopRobot) -> np.ndarray:
    return np.concatenate([frame.rgb for frame in robot.observe().cameras.values()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", help="a policy folder")
    parser.add_argument("--seed", type=int, default=20_000, help="the scene")
    parser.add_argument("--out", type=Path, default=Path("docs/images/demo.png"))
    options = parser.parse_args()
    poster(options.policy, options.seed, options.out)


if __name__ == "__main__":
    main()
