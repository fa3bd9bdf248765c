"""The worker's side of an evaluation: open the policy and the robot once, then run one trial per seed.

Apart from `evaluate` so that a worker imports no more than it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vla.evaluate.drivers import Source, make_robot, open_driver, preload
from vla.evaluate.episode import Trial, run_episode
from vla.evaluate.film import Film, write_film


def trial_runner(source: Source, robot_config: dict[str, Any], execute: int | None, max_steps: int | None,
                 films: dict[int, Path]) -> Callable[[int], Trial]:
    """For `vla.workers.parallel`: `run(seed)`; seeds in `films` are filmed into the file named there."""
    preload()
    robot = make_robot(robot_config)
    driver = open_driver(source, robot)

    def run(seed: int) -> Trial:
        film = Film() if seed in films else None
        trial = run_episode(robot, driver, seed=seed, execute=execute, max_steps=max_steps, observer=film)
        if film is not None:
            film.add(robot.observe())
            write_film(films[seed], film.frames, robot.spec.action.rate_hz)
        return trial

    return run
