"""Imitation training: `train(recipe, run_dir)` makes a policy folder out of a data set, and picks up where it was killed.

Everything random in step i (dropout, augmentation, diffusion noise, which frames) is a function of (seed, i), and the learning
rate is one of i, so the state is weights, AdamW's moments and the moving average: on a CPU a run that was killed and started
again ends with the same bits as one that was not. Several processes may share a run (`vla.train.crew`).
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
from torch import Tensor

from robot_io import RobotSpec, UserError
from vla.cache import weights_digest
from vla.data import Demonstrations, Samples
from vla.frames import Frames
from vla.normalize import Normalizer
from vla.policy import Policy
from vla.recipe import Recipe
from vla.seeds import mix
from vla.train.checkpoint import State, restore_newest, save_checkpoint
from vla.train.crew import Crew, first_of_crew
from vla.train.display import Display
from vla.train.features import Features, obstacle, reach
from vla.train.meter import Meter
from vla.train.optimizer import Ema, learning_rate, make_optimizer
from vla.train.run import Run, TrainResult
from vla.train.trackers import Trackers
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
        with Display(progress and first_of_crew()) as display:
            Trainer(recipe, run, display, build).fit()
    return run.result()


class Trainer:
    """One process' share of a run."""

    def __init__(self, recipe: Recipe, run: Run, display: Display, build: Build = Policy.build) -> None:
        self.recipe, self.run, self.display, self.build = recipe, run, display, build
        self.demonstrations = Demonstrations(recipe)
        self.crew = Crew(recipe)
        policy = self._new_policy()
        if recipe.train.gradient_checkpointing:
            policy.plain_backbone.enable_checkpointing()
        self.caching = _may_cache(policy)
        display.print(parts_table(policy, recipe.train))
        self.policy = policy.to(self.crew.device)
        digests = {"data": self.demonstrations.digest, "frozen weights": weights_digest(policy, trainable=False)}
        self.frames: Frames | None = None
        self.features: Features | None = None
        if self.crew.shards:
            self._open_pictures()  # what is computed ahead needs whole weights
            self.crew.shard(policy)
        ema = Ema(policy, recipe.train.ema) if recipe.train.ema is not None else None
        self.state = State(policy, make_optimizer(policy, recipe.train), ema, digests)
        restore_newest(self.state, run.checkpoints)
        self.trackers = Trackers(recipe, run.folder) if self.crew.main else Trackers.none()
        self.crew.wait()
        if self.crew.main:
            run.claim()
            run.rewind_log(self.state.step)
        self.model, self.optimizer = self.crew.wrap(policy).train(), self.state.optimizer
        self.meter = Meter(self.crew.device, torch.bfloat16 if recipe.train.precision == "bfloat16" else torch.float32)

    def fit(self) -> None:
        """Take the remaining steps and save the policy."""
        train, state = self.recipe.train, self.state
        began = time.perf_counter() - state.seconds
        if state.step < train.steps:
            self._open_pictures()
        recent: list[dict[str, Tensor]] = []
        while state.step < train.steps:
            with self.meter.step(count=self.display.shown or bool(train.trackers)):
                recent.append(self.advance(state.step))
            state.step += 1
            state.seconds = time.perf_counter() - began
            numbers: dict[str, float] = {}
            if self._due(train.log_every) or self._due(train.save_every):
                numbers = self._log(recent)
                recent = []
            if self._due(train.val_every) and len(self.demonstrations.validation):
                numbers["val_loss"] = self.validate()
                self._write({"step": state.step, "val_loss": numbers["val_loss"], "seconds": state.seconds})
            if self._due(train.save_every):
                save_checkpoint(state, self.run.checkpoints, self.crew)
            self.display.step(state.step, train.steps, numbers)
        self._finish()

    def _finish(self) -> None:
        """Save the policy, with the averaged weights if there is an average."""
        if self.state.ema is not None:
            self.state.ema.apply()
        if self.crew.shards:
            whole = self.crew.whole(self.policy)
            if self.crew.main:
                self.policy = self._new_policy()
                self.policy.load_state_dict(whole)
        if self.crew.main:
            self.policy.eval().save(self.run.policy)
        self.trackers.close()
        self.crew.wait()

    def advance(self, step: int) -> dict[str, Tensor]:
        """Step `step` of the optimizer; returns what to log of it, this process' share, still on the device."""
        train, crew = self.recipe.train, self.crew
        torch.manual_seed(mix(train.seed, step, crew.rank))
        with self.meter.waiting():
            index = self.demonstrations.order(step)
            views = None if self.features is None else crew.own(self.features.draw(len(index), train.seed, step))
            samples = self.samples(crew.own(index), views)
            valid = int(self.demonstrations.windows(index)[1].sum())  # of all processes' samples
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, train)
        if not self.model.training:  # walking over all modules costs a small policy a fiftieth of a step
            self.model.train()
        parts = samples.split(train.accumulate)
        logged: dict[str, Tensor] = {}
        for number, part in enumerate(parts, start=1):
            last = number == len(parts)
            share = part.valid.sum() / valid  # losses are means over valid steps, so parts add up exactly
            with crew.syncing(self.model, last=last):
                loss = self.model(part.batch, part.actions, part.valid, part.percept)
                crew.backward(self.model, loss.total * share, last=last)
            for name, value in {**loss.parts, "loss": loss.total}.items():
                logged[name] = logged.get(name, 0) + value.detach() * share
        logged["grad_norm"] = crew.clip(self.policy.parameters(), train.grad_clip) / crew.size
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.state.ema is not None:
            self.state.ema.update(step)
        return logged

    def samples(self, index: np.ndarray, views: np.ndarray | None = None) -> Samples:
        """Frames `index [B]` with what the policy needs of them: cached percepts (in these `views [B]`), or pictures."""
        samples = self.demonstrations.columns(index, self.policy.device)
        if self.features is not None:
            return replace(samples, percept=self.features.percept(index, self.policy.device, views))
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
            self.crew.let_go(self.policy)  # before the weights change back
        return total / count

    def _chunks(self, policy: Policy) -> tuple[Tensor, Tensor]:
        """Demonstrated chunks as the head sees them, evenly spread over the training frames, and which of their steps are valid."""
        frames = self.demonstrations.training
        frames = frames[np.linspace(0, len(frames) - 1, min(len(frames), STUDIED_CHUNKS)).astype(int)]
        actions, valid = self.demonstrations.windows(frames)
        return policy.normalizer.action.normalize(torch.from_numpy(actions)), torch.from_numpy(valid)

    def _new_policy(self) -> Policy:
        policy = self.build(self.recipe, self.demonstrations.spec, self.demonstrations.normalizer())
        policy.head.study(lambda: self._chunks(policy))
        return policy

    def _open_pictures(self) -> None:
        if self.frames is not None or self.features is not None:
            return
        self.features = Features(self.policy, self.demonstrations, self.display.track) if self.caching else None
        self.frames = None if self.caching else self.demonstrations.open_frames(self.display.track, depth=self.policy.needs_depth)

    def _due(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step == self.recipe.train.steps

    def _log(self, recent: list[dict[str, Tensor]]) -> dict[str, float]:
        """Append the means since the last call to the log.

        Raises:
            UserError: the loss is not a number any more; the last checkpoint is from before.
        """
        means = {name: float(self.crew.sum(torch.stack([torch.as_tensor(row[name]).float() for row in recent]).mean()))
                 for name in recent[0]}
        if not math.isfinite(means["loss"]):
            raise UserError("training", f"the loss is {means['loss']} at step {self.state.step}", "a finite loss",
                            f"lower train.learning_rate (now {self.recipe.train.learning_rate}) and use a new run folder")
        rate = learning_rate(self.state.step - 1, self.recipe.train)
        speed = self.meter.read(self.recipe.train.batch_size)
        self._write({"step": self.state.step, **means, "lr": rate, "seconds": round(self.state.seconds, 3), **speed})
        return {"loss": means["loss"], "lr": rate, **speed}

    def _write(self, row: dict[str, float]) -> None:
        if self.crew.main:
            self.run.log(row)
            self.trackers.log(row)


def _may_cache(policy: Policy) -> bool:
    """Whether perception is computed once, as the recipe asks (`train.cache_features`) or allows."""
    wanted, reason = policy.recipe.train.cache_features, obstacle(policy)
    if wanted and reason is not None:
        raise UserError("train.cache_features", f"perception cannot be cached: {reason}", "all of it frozen, up to the "
                        "backbone's vision tower", "set train.cache_features=null, or freeze it (tuning.vision=frozen)")
    return wanted is not False and reach(policy) is not None
