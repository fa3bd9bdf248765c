"""Imitation training: `train(recipe, run_dir)` makes a policy folder out of a data set, and picks up where it was killed.

Everything random in step i (dropout, augmentation, diffusion noise, which frames) is a function of (seed, i), and the learning
rate is one of i, so the state is weights, AdamW's moments and the moving average: on a CPU a run that was killed and started
again ends with the same bits as one that was not. Accelerate places the model on a device, casts, and joins processes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor

from robot_io import RobotSpec, UserError
from vla.cache import weights_digest
from vla.data import Demonstrations, Samples
from vla.normalize import Normalizer
from vla.policy import Policy
from vla.recipe import Recipe
from vla.seeds import mix
from vla.train.checkpoint import State, restore_newest, save_checkpoint
from vla.train.display import Display
from vla.train.features import Features, obstacle, reach
from vla.train.optimizer import Ema, learning_rate, make_optimizer
from vla.train.run import Run, TrainResult
from vla.tuning import parts_table

VALIDATION_FRAMES = 512
STUDIED_CHUNKS = 50_000

Build = Callable[[Recipe, RobotSpec, Normalizer], Policy]
"""Makes the policy that is trained, given the robot and the statistics of the data."""


def train(recipe: Recipe, run_dir: str | Path, *, progress: bool = True, build: Build = Policy.build) -> TrainResult:
    """Train, or continue to train, and save the policy as `run_dir/policy`.

    Args:
        build: what to train, if not a new policy.

    Raises:
        UserError: bad data, a run folder of another recipe, damaged checkpoints. All before any compute is spent.
    """
    run = Run(recipe, Path(run_dir))
    if not run.finished:
        with Display(progress) as display:
            Trainer(recipe, run, display, build).fit()
    return run.result()


class Trainer:
    """One process' share of a run."""

    def __init__(self, recipe: Recipe, run: Run, display: Display, build: Build = Policy.build) -> None:
        self.recipe, self.run, self.display = recipe, run, display
        self.demonstrations = Demonstrations(recipe)
        policy = build(recipe, self.demonstrations.spec, self.demonstrations.normalizer())
        policy.head.study(lambda: self._chunks(policy))
        if recipe.train.gradient_checkpointing:
            policy.plain_backbone.enable_checkpointing()
        self.caching = _may_cache(policy)
        display.print(parts_table(policy, recipe.train))
        AcceleratorState._reset_state()  # else a second run in this process could not have another precision
        self.accelerator = Accelerator(cpu=recipe.train.device == "cpu",
                                       mixed_precision={"float32": "no", "bfloat16": "bf16"}[recipe.train.precision])
        self.policy = policy.to(self.accelerator.device)
        digests = {"data": self.demonstrations.digest, "frozen weights": weights_digest(policy, trainable=False)}
        ema = Ema(policy, recipe.train.ema) if recipe.train.ema is not None else None
        self.state = State(policy, make_optimizer(policy, recipe.train), ema, digests)
        restore_newest(self.state, run.checkpoints)
        run.claim()
        run.rewind_log(self.state.step)
        self.model, self.optimizer = self.accelerator.prepare(policy, self.state.optimizer)

    def fit(self) -> None:
        """Take the remaining steps and save the policy."""
        train, state = self.recipe.train, self.state
        began = time.perf_counter() - state.seconds
        if state.step < train.steps:
            self._open_pictures()
        recent: list[dict[str, Tensor]] = []
        while state.step < train.steps:
            recent.append(self.advance(state.step))
            state.step += 1
            state.seconds = time.perf_counter() - began
            numbers: dict[str, float] = {}
            if self._due(train.log_every) or self._due(train.save_every):
                numbers = self._log(recent)
                recent = []
            if self._due(train.val_every) and len(self.demonstrations.validation):
                numbers["val_loss"] = self.validate()
                self.run.log({"step": state.step, "val_loss": numbers["val_loss"], "seconds": state.seconds})
            if self._due(train.save_every) and self.accelerator.is_main_process:
                save_checkpoint(state, self.run.checkpoints)
            self.display.step(state.step, train.steps, numbers)
        if state.ema is not None:
            state.ema.apply()
        if self.accelerator.is_main_process:
            self.policy.eval().save(self.run.policy)

    def advance(self, step: int) -> dict[str, Tensor]:
        """Step `step` of the optimizer; returns what to log of it, still on the device."""
        train, accelerator = self.recipe.train, self.accelerator
        torch.manual_seed(mix(train.seed, step, accelerator.process_index))
        samples = self.samples(self.demonstrations.order(step)[accelerator.process_index :: accelerator.num_processes])
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, train)
        self.model.train()
        parts = samples.split(train.accumulate)
        logged: dict[str, Tensor] = {}
        for number, part in enumerate(parts, start=1):
            share = part.valid.sum() / samples.valid.sum()  # losses are means over valid steps, so parts add up exactly
            with accelerator.no_sync(self.model) if number < len(parts) else nullcontext():
                loss = self.model(part.batch, part.actions, part.valid, part.percept)
                accelerator.backward(loss.total * share)
            for name, value in {**loss.parts, "loss": loss.total}.items():
                logged[name] = logged.get(name, 0) + value.detach() * share
        logged["grad_norm"] = accelerator.clip_grad_norm_(self.model.parameters(), train.grad_clip or math.inf)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.state.ema is not None:
            self.state.ema.update(step)
        return logged

    def samples(self, index: np.ndarray) -> Samples:
        """Frames `index [B]` with what the policy needs of them: cached percepts, or pictures."""
        samples = self.demonstrations.columns(index, self.policy.device)
        if self.features is not None:
            return replace(samples, percept=self.features.percept(index, self.policy.device))
        if foresight := self.demonstrations.foresight:
            self.frames.expect(self.demonstrations.order(self.state.step + foresight))
        return replace(samples, batch=self.frames.add_to(samples.batch, index))

    @torch.no_grad()
    def validate(self) -> float:
        """Loss on held-out episodes with the averaged weights, always with the same noise on the same frames."""
        frames = self.demonstrations.validation
        frames = frames[np.linspace(0, len(frames) - 1, min(len(frames), VALIDATION_FRAMES)).astype(int)]
        torch.manual_seed(mix(self.recipe.train.seed))
        self.model.eval()
        total = count = 0.0
        with self.state.ema.applied() if self.state.ema is not None else nullcontext():
            for index in np.array_split(frames, math.ceil(len(frames) / self.recipe.train.batch_size)):
                samples = self.samples(index)
                steps = float(samples.valid.sum())
                total += steps * float(self.model(samples.batch, samples.actions, samples.valid, samples.percept).total)
                count += steps
        return total / count

    def _chunks(self, policy: Policy) -> tuple[Tensor, Tensor]:
        """Demonstrated chunks as the head sees them, evenly spread over the training frames, and which of their steps are valid."""
        frames = self.demonstrations.training
        frames = frames[np.linspace(0, len(frames) - 1, min(len(frames), STUDIED_CHUNKS)).astype(int)]
        actions, valid = self.demonstrations.windows(frames)
        return policy.normalizer.action.normalize(torch.from_numpy(actions)), torch.from_numpy(valid)

    def _open_pictures(self) -> None:
        self.features = Features(self.policy, self.demonstrations, self.display.track) if self.caching else None
        self.frames = None if self.caching else self.demonstrations.open_frames(self.display.track, depth=self.policy.needs_depth)

    def _due(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step == self.recipe.train.steps

    def _log(self, recent: list[dict[str, Tensor]]) -> dict[str, float]:
        """Append the means since the last call to the log.

        Raises:
            UserError: the loss is not a number any more; the last checkpoint is from before.
        """
        means = {name: float(torch.stack([torch.as_tensor(row[name]).float() for row in recent]).mean()) for name in recent[0]}
        if not math.isfinite(means["loss"]):
            raise UserError("training", f"the loss is {means['loss']} at step {self.state.step}", "a finite loss",
                            f"lower train.learning_rate (now {self.recipe.train.learning_rate}) and use a new run folder")
        rate = learning_rate(self.state.step - 1, self.recipe.train)
        if self.accelerator.is_main_process:
            self.run.log({"step": self.state.step, **means, "lr": rate, "seconds": round(self.state.seconds, 3)})
        return {"loss": means["loss"], "lr": rate}


def _may_cache(policy: Policy) -> bool:
    """Whether perception is computed once, as the recipe asks (`train.cache_features`) or allows."""
    wanted, reason = policy.recipe.train.cache_features, obstacle(policy)
    if wanted and reason is not None:
        raise UserError("train.cache_features", f"perception cannot be cached: {reason}", "all of it frozen, up to the "
                        "backbone's vision tower", "set train.cache_features=null, or freeze it (tuning.vision=frozen)")
    return wanted is not False and reach(policy) is not None
