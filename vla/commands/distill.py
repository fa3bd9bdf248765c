"""`vla distill`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vla.commands.shared import Json, Overrides, tell


def distill(
    teacher: Annotated[Path, typer.Argument(help="Folder of a policy whose head denoises: flow, or diffusion with ddim or dpm-solver.")],
    overrides: Overrides = None,
    run: Annotated[Path | None, typer.Option(help="Folder of the run; runs/NAME-one-step if left out. Goes on where it stopped.")] = None,
    as_json: Json = False,
) -> None:
    """Train a one-step student of a policy: the chunk that its head gives in many steps, in one. The result is RUN/policy.

    Perception and backbone are the teacher's and stay as they are; the demonstrations are looked at, their actions not used.

    Examples:

    - `vla distill runs/flow/policy`

    - `vla distill runs/flow/policy train.steps=1000 'head.expert={kind: unet}' --run runs/fast`
    """
    from vla.distill import distill as go

    result = go(teacher, run, overrides or [])
    found = {"policy": str(result.policy_dir), "steps": result.steps, "seconds": result.seconds,
             "loss": result.losses[-1] if result.losses else None}
    tell(found, as_json, f"{result.policy_dir}: {result.steps} steps in {result.seconds:.0f} s. "
                         f"Next: vla evaluate {result.policy_dir}")
