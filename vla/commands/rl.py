"""`vla rl`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vla.commands.shared import Json, Overrides, tell


def rl(
    preset: Annotated[str, typer.Argument(help="co_rft, cal_ql, q_chunking, q_distilled, iql, a control, or an rl.yaml.")],
    overrides: Overrides = None,
    data: Annotated[list[Path] | None, typer.Option(help="Recorded episodes, good and bad; several times for several data sets.")] = None,
    init: Annotated[Path | None, typer.Option(help="The policy to begin with: its folder, or the run that made it.")] = None,
    run: Annotated[Path | None, typer.Option(help="Folder of the run; runs/PRESET if left out. Goes on where it stopped.")] = None,
    as_json: Json = False,
) -> None:
    """Improve a policy by chunked offline reinforcement learning; the result is RUN/policy.

    Episodes need success labels (`vla collect` writes them, with `--policy` also of a policy's own rollouts) or a column of rewards.
    Presets: `co_rft` and `cal_ql` climb a critic (deterministic heads), `q_chunking` and `q_distilled` choose among what the head draws,
    `iql` suits any head; `n_step`, `one_step_td` and `imitate` are controls.

    Examples:

    - `vla rl q_chunking --data data/pick --data data/rollouts --init runs/pick --run runs/qc`

    - `vla rl co_rft --data data/pick --init runs/regressed optim.steps=4000 algorithm.conservative=0.5`

    - `vla rl iql --data data/their_robot --init runs/pick data.rewards.source=column data.rewards.column=next.reward`
    """
    from vla.rl.diagnostics import advice, read_log
    from vla.rl.loop import learn
    from vla.rl.recipe import load_rl_recipe

    recipe = load_rl_recipe(preset, overrides, data=data, init=init)
    folder = run or Path("runs") / recipe.name
    result = learn(recipe, folder)
    found = {"policy": str(result.policy_dir), "recipe": recipe.hash, "steps": result.steps, "seconds": result.seconds,
             "advice": advice(read_log(folder))}
    tell(found, as_json, f"{result.policy_dir}: {result.steps} steps in {result.seconds:.0f} s. {found['advice']} "
                         f"Next: vla evaluate {result.policy_dir}")
