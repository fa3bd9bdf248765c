"""Presets: functions that return an `RLRecipe`, by the name that `vla rl NAME` takes.

The last three are controls: the same loop without a chunk critic, without chunks at all, and without any critic.
"""

from __future__ import annotations

from collections.abc import Callable

from heads.critic import ChunkCritic
from heads.critic_outputs import HLGauss
from vla.rl.cal_ql import CalQL
from vla.rl.co_rft import CoRFT
from vla.rl.edits import Edits
from vla.rl.iql import IQL
from vla.rl.q_chunking import QChunking
from vla.rl.recipe import RLRecipe

CRITIC = ChunkCritic.Config(width=64, layers=2, heads=4, output=HLGauss.Config())
"""Small enough for a run of minutes on a core; a histogram, as returns of a sparse reward lie in [0, 1]."""


def co_rft() -> RLRecipe:
    return RLRecipe(name="co_rft", algorithm=CoRFT.Config(), critic=CRITIC)


def cal_ql() -> RLRecipe:
    return RLRecipe(name="cal_ql", algorithm=CalQL.Config(), critic=CRITIC)


def q_chunking() -> RLRecipe:
    return RLRecipe(name="q_chunking", algorithm=QChunking.Config(), critic=CRITIC)


def q_distilled() -> RLRecipe:
    return RLRecipe(name="q_distilled", algorithm=QChunking.Config(extract="distil"), critic=CRITIC)


def edits() -> RLRecipe:
    return RLRecipe(name="edits", algorithm=Edits.Config(), critic=CRITIC)


def iql() -> RLRecipe:
    return RLRecipe(name="iql", algorithm=IQL.Config(), critic=CRITIC)


def n_step() -> RLRecipe:
    """Q-chunking's ablation: returns over 8 steps, but a critic that reads one action."""
    return q_chunking().model_copy(update={"name": "n_step", "chunk": 1, "backup": 8})


def one_step_td() -> RLRecipe:
    return q_chunking().model_copy(update={"name": "one_step_td", "chunk": 1})


def imitate() -> RLRecipe:
    """More imitation of the successful episodes, as many steps: IQL's actor with every weight alike."""
    return RLRecipe(name="imitate", algorithm=IQL.Config(beta=0.0, successes_only=True, actor_after=0), critic=CRITIC)


PRESETS: dict[str, Callable[[], RLRecipe]] = {
    preset.__name__: preset for preset in (co_rft, cal_ql, q_chunking, q_distilled, edits, iql, n_step, one_step_td, imitate)}
