"""Everything that can be seen of a finished run: its critic on held-out episodes, as numbers and a figure, and a rollout with its values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from robot_io import UserError
from vla.evaluate.drivers import make_robot
from vla.evaluate.episode import Trial
from vla.rl.diagnostics import draw, read, read_log
from vla.rl.loop import Session
from vla.rl.recipe import RLRecipe
from vla.rl.strip import value_film
from vla.train.display import Display
from vla.train.run import Run


@dataclass(frozen=True)
class Look:
    """`numbers` are the diagnostics of all held-out frames, and of each data set's successes and failures apart."""

    figure: Path
    film: Path
    trial: Trial
    numbers: dict[str, dict[str, float]]


def look(run: Path, out: Path, seed: int) -> Look:
    """Draw `out/critic.png` and film the scene `seed` as `out/values-SEED.mp4`.

    Raises:
        UserError: the run is not finished, or held nothing out.
    """
    if not (run / "critic").is_dir():
        raise UserError(f"run {run}", "has no critic", "a finished run of `vla rl`", "finish it: give the same command again")
    recipe = RLRecipe.from_yaml(run / "rl.yaml")
    session = Session(recipe, Run(recipe, run, "rl.yaml"), Display(False))
    if not len(session.data.validation):
        raise UserError(f"run {run}", "held no episodes out", "some to look at", "set data.validation and run anew")
    reading = read(session.trainer)
    figure, film = out / "critic.png", out / f"values-{seed}.mp4"
    out.mkdir(parents=True, exist_ok=True)
    draw(reading, read_log(run), figure)
    robot = make_robot(session.policy.recipe.robot)
    try:
        trial, _ = value_film(run, robot, seed, film)
    finally:
        robot.close()
    return Look(figure, film, trial, {"all": reading.numbers(), **reading.by_source()})
