"""The recipe of a reinforcement-learning run: which policy it begins with, which episodes it learns from, and how.

Like `vla.recipe.Recipe`, it is written into the run, is accepted wherever a preset is, and its hash stands in every result. The
perception, the backbone and the head are those of the policy it begins with.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from heads.critic import ChunkCritic
from robot_io import UserError
from robot_io.errors import nearest
from robot_io.registry import component
from vla.overrides import apply_overrides, explain
from vla.recipe import RUN_ONLY, Document, Section
from vla.rl import ALGORITHMS


class Rewards(Section):
    """Where rewards come from and what they are worth."""

    source: Literal["auto", "success", "column", "every_episode_succeeds"] = Field(
        "auto", description="auto: column 'next.success' if it is there, else `column`")
    column: str = Field("next.reward", description="the reward of the action of each frame")
    gamma: float = Field(0.98, gt=0, le=1, description="discount per control step: below 1, sooner is better")
    success_repeat: int = Field(5, ge=1, description="how often the frames that end in success are drawn, against once")


class Transitions(Section):
    """Which episodes."""

    roots: Annotated[tuple[Path, ...], RUN_ONLY] = Field((), description="folders of LeRobotDatasets, of any quality")
    validation: float = Field(0.1, ge=0, lt=1, description="share of each data set's episodes held out")
    rewards: Rewards = Rewards()
    absorbing: bool = Field(True, description="learn chunks that outlast their episode, as worth what was earned to its end; "
                                              "without, nothing learns what a whole chunk is worth shortly before the end")
    cache: Annotated[Path | None, RUN_ONLY] = None


class Optim(Section):
    """How the critic and the actor are optimised, and what is kept on the way."""

    steps: int = Field(2000, ge=1)
    batch_size: int = Field(128, ge=1)
    critic_learning_rate: float = Field(3e-4, gt=0)
    actor_learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(1e-4, ge=0)
    grad_clip: float = Field(10.0, gt=0)
    tau: float = Field(0.02, gt=0, le=1, description="how far targets move towards what is learnt, per step; the values made of them rest besides")
    refresh: int = Field(50, ge=1, description="steps between new bootstrap values of all frames, from the targets")
    seed: int = Field(0, ge=0)
    save_every: Annotated[int, RUN_ONLY] = Field(500, ge=1)
    log_every: Annotated[int, RUN_ONLY] = Field(50, ge=1)
    val_every: int = Field(250, ge=1)


class RLRecipe(Document):
    """See the module's text.

    Attributes:
        init: the policy folder it begins with, made by `vla train`.
        tune: `head` keeps the backbone as imitation left it, so that contexts are computed once; `all` tunes what imitation tuned (its LoRA,
            its full trunk), while the critic keeps looking through the policy it began with.
        chunk: prefixes that the critic is asked for; null for the policy's whole horizon, 1 for no chunking.
        backup: steps of return before the bootstrap; null for each prefix its own number. Longer than the prefix is the biased n-step
            return; with all prefixes, the whole chunk's return for each is CO-RFT's equation 6 read literally.
    """

    name: Annotated[str, RUN_ONLY] = "unnamed"
    init: Annotated[Path, RUN_ONLY] = Field(Path("policy"), description="policy folder to begin with")
    open: tuple[str, ...] = Field((), description="how the policy is opened, e.g. head.temperature=0.7 for tokens that draw")
    data: Transitions = Transitions()
    algorithm: component(ALGORITHMS, lambda error, kind: explain(error, ALGORITHMS.load(kind).Config, f"algorithm '{kind}'"))
    critic: ChunkCritic.Config = ChunkCritic.Config()
    tune: Literal["head", "all"] = "head"
    chunk: int | None = Field(None, ge=1)
    backup: int | None = Field(None, ge=1)
    optim: Optim = Optim()


def load_rl_recipe(source: str | Path, overrides: list[str] | None = None, *, data: list[Path] | None = None,
                   init: Path | None = None) -> RLRecipe:
    """A preset of `vla.rl.presets` or a YAML file, with `path=value` overrides.

    Args:
        data: folders of data sets, instead of those it names.
        init: policy folder to begin with, or the run that made it, instead of the one it names.

    Raises:
        UserError: no such preset or file, an unknown key, a value out of range.
    """
    from vla.rl.presets import PRESETS  # made of this module's classes

    presets: dict[str, Callable[[], RLRecipe]] = PRESETS
    if str(source) in presets:
        recipe = presets[str(source)]()
    elif Path(source).is_file():
        recipe = RLRecipe.from_yaml(Path(source))
    else:
        raise UserError("RL recipe", f"no preset and no file is called '{source}'", f"a preset ({', '.join(presets)}) or the path of "
                        "an rl.yaml", nearest(str(source), presets))
    values: dict[str, Any] = recipe.to_dict()
    if data:
        values["data"]["roots"] = [str(root) for root in data]
    if init is not None:
        values["init"] = str(init / "policy" if (init / "policy").is_dir() else init)
    return RLRecipe.from_dict(apply_overrides(values, overrides or []))
