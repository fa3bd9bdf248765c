"""The worker's side of an evaluation: open the policy and the robot once, then run one trial per seed.

Apart from `evaluate` so that a worker imports no more than it needs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vla.evaluate.drivers import Source, make_robot, open_driver, preload
from vla.evaluate.episode import Trial, run_episode
from vla.evaluate.film import Film, write_film
from vla.evaluate.trials import Setting


def trial_runner(source: Source, setting: Setting, films: dict[int, Path]) -> Callable[[int], Trial]:
    """For `vla.workers.parallel`: `run(seed)`; seeds in `films` are filmed into the file named there."""
    preload()
    robot = make_robot(setting.robot)
    driver = open_driver(source, robot)

    def run(seed: int) -> Trial:
        film = Film() if seed in films else None
        trial = run_episode(robot, driver, seed=seed, execute=setting.execute, max_steps=setting.max_steps, observer=film,
                            execution=setting.execution, delay=setting.delay)
        if film is not None:
            film.add(robot.observe())
            write_film(films[seed], film.frames, robot.spec.action.rate_hz)
        return trial

    return run
