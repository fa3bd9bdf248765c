"""The value along a rollout, as a strip under its film: where the critic sees success come near, and where it sees it slip away."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file

from heads.critic import ChunkCritic
from perception.percept import Batch
from robot_io import ActionChunk, Observation
from robot_io.robot import Simulator
from vla.evaluate.episode import Trial, run_episode
from vla.evaluate.film import FAILURE, SUCCESS, Frame, write_film
from vla.policy import Policy
from vla.rl.loop import output_of
from vla.rl.recipe import RLRecipe
from vla.sealed import check_seal

HEIGHT = 56
CURVE, NOW = (88, 166, 255), (240, 246, 252)


def load_critic(run: Path | str) -> tuple[ChunkCritic, Policy, RLRecipe]:
    """A run's critic and the policy through whose eyes it looks: the one that the run began with."""
    folder = Path(run) / "critic"
    check_seal(folder, "critic")
    recipe = RLRecipe.from_yaml(folder / "rl.yaml")
    eyes = Policy.load(recipe.init, overrides=recipe.open)
    critic = ChunkCritic(recipe.critic, output_of(eyes))
    critic.load_state_dict(load_file(folder / "critic.safetensors"))
    return critic.eval(), eyes, recipe


@dataclass
class Judge:
    """Drives a robot by `policy` and values every chunk that it predicts."""

    policy: Policy
    critic: ChunkCritic
    eyes: Policy
    chunk: int
    values: list[float] = field(default_factory=list)

    def reset(self, seed: int = 0) -> None:
        self.policy.reset(seed)
        self.values = []

    def infer(self, observation: Observation) -> ActionChunk:
        chunk = self.policy.infer(observation)
        self.values.append(self.value(observation, chunk))
        return chunk

    @torch.inference_mode()
    def value(self, observation: Observation, chunk: ActionChunk) -> float:
        batch = Batch.stack([observation], self.eyes.cameras, self.eyes.device, None)
        actions = self.eyes.normalizer.action.normalize(torch.from_numpy(chunk.actions))[None, None, : self.chunk]
        return float(self.critic(self.eyes.context(batch), actions).amin(0)[0, 0, -1])


def value_film(run: Path | str, robot: Simulator, seed: int, path: Path | str) -> tuple[Trial, list[float]]:
    """Roll the run's policy out on the scene `seed` and film it with its values; returns the trial and the value at every prediction."""
    critic, eyes, recipe = load_critic(run)
    policy = Policy.load(Path(run) / "policy")
    judge = Judge(policy, critic, eyes, recipe.chunk or policy.recipe.horizon)
    frames: list[Frame] = []
    at: list[int] = []

    def watch(observation: Observation, action: np.ndarray) -> None:
        frames.append(np.concatenate([frame.rgb for frame in observation.cameras.values()], 1))
        at.append(len(judge.values) - 1)

    trial = run_episode(robot, judge, seed=seed, execute=policy.recipe.execute, observer=watch)
    values = np.array([judge.values[i] for i in at], np.float32)
    write_film(path, under(frames, values, trial.success), robot.spec.action.rate_hz)
    return trial, judge.values


def under(frames: list[Frame], values: Float[np.ndarray, " t"], success: bool) -> list[Frame]:
    """Every frame with the values so far drawn beneath, the whole curve on one scale of 0 to 1; the last in the outcome's colour."""
    width = frames[0].shape[1]
    columns = np.linspace(0, width - 1, len(values)).round().astype(int)
    heights = ((1 - values.clip(0, 1)) * (HEIGHT - 5)).round().astype(int) + 2
    made = []
    for now, frame in enumerate(frames):
        strip = np.full((HEIGHT, width, 3), 24, np.uint8)
        for step in range(now + 1):
            left = columns[step - 1] if step else columns[0]
            strip[heights[step] :, left : columns[step] + 1] = np.array(CURVE) // 3
            strip[heights[step] - 1 : heights[step] + 1, left : columns[step] + 1] = CURVE
        strip[:, columns[now]] = NOW
        if now == len(frames) - 1:
            strip[-3:] = SUCCESS if success else FAILURE
        made.append(np.concatenate([frame, strip]))
    return made
