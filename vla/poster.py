"""The picture in the README: a policy at work, and beneath it what it sees of that.

    python -m vla.poster runs/demo/policy --seed 20003 robot.task.distractors=5

A twin of the robot with larger pictures repeats its actions in lockstep, which the simulator's determinism allows. Five moments make the
strip: above the front camera at a size that people like to look at, below what perception leaves of both cameras' pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from perception.percept import Batch, perceive
from robot_io import Observation
from robot_io.tabletop.robot import TabletopRobot
from vla.evaluate.drivers import find, make_robot, open_driver, preload
from vla.evaluate.episode import run_episode
from vla.overrides import apply_overrides
from vla.policy import Policy

MOMENTS, SIZE, GAP = 5, 320, 4


@dataclass
class Eye:
    """A second copy of the policy's perception, with a memory of its own."""

    policy: Policy
    memory: dict[str, Any] = field(default_factory=dict)

    @torch.inference_mode()
    def see(self, observation: Observation) -> np.ndarray:
        """Its pictures side by side, `uint8 [(SIZE - GAP) / 2, SIZE, 3]`; none if it sees none."""
        batch = Batch.stack([observation], self.policy.cameras, memory=[self.memory])
        images, side = perceive(self.policy.front_ends, batch).images, (SIZE - GAP) // 2
        if images is None:
            return np.zeros((0, SIZE, 3), np.uint8)
        pictures = (255 * images[0, :2]).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        wide = [np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.LANCZOS)) for picture in pictures]
        row = np.full((side, SIZE, 3), 255, np.uint8)
        for place, picture in enumerate(wide):
            row[:, place * (side + GAP):][:, :side] = picture
        return row


def poster(policy: str, seed: int, path: Path, overrides: Sequence[str] = ()) -> bool:
    """Draw the trial of `seed` into `path`; says whether it succeeded."""
    preload()
    source = find(policy)
    options = apply_overrides({"robot": source.robot}, overrides)["robot"]
    robot, twin = make_robot(options), TabletopRobot(**{**options, "image_size": SIZE})
    eye, seen = Eye(Policy.load(policy)), []
    twin.reset(seed)

    def watch(observation: Observation, action: np.ndarray) -> None:
        seen.append(_column(twin, eye.see(observation)))
        twin.act(action)

    trial = run_episode(robot, open_driver(source, robot), seed=seed, execute=source.execute, observer=watch)
    seen.append(_column(twin, eye.see(robot.observe())))
    chosen = [seen[i] for i in np.linspace(0, len(seen) - 1, MOMENTS).round().astype(int)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate([np.pad(c, [(0, 0), (0, GAP), (0, 0)], constant_values=255) for c in chosen], 1)).save(
        path, optimize=True)
    print(f"{path}: '{trial.instruction}', seed {seed}, {'success' if trial.success else 'failure'} in {trial.seconds:.1f} s")
    return trial.success


def _column(twin: TabletopRobot, below: np.ndarray) -> np.ndarray:
    return np.concatenate([twin.observe().cameras["front"].rgb, np.full((GAP, SIZE, 3), 255, np.uint8), below])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", help="a policy folder")
    parser.add_argument("overrides", nargs="*", metavar="robot.KEY=VALUE", help="what differs from the policy's robot")
    parser.add_argument("--seed", type=int, default=20_000, help="the scene")
    parser.add_argument("--out", type=Path, default=Path("docs/images/demo.png"))
    options = parser.parse_intermixed_args()
    poster(options.policy, options.seed, options.out, options.overrides)


if __name__ == "__main__":
    main()
