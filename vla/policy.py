"""A policy is a composition: front-ends → backbone → head, between a robot's units on both sides.

    Observation ──▶ Batch ──front-ends──▶ Percept ──backbone──▶ Context ──head──▶ normalised chunk ──▶ ActionChunk

It is also a `robot_io.robot.Driver`: `infer` one observation at a time, `reset` between episodes. What an episode needs to be
remembered (its seed, what trackers follow) is in a `Session`; a server opens one per robot with `session()`. Sampling never
touches torch's global random state: the k-th call after `reset(seed)` always draws the same noise. `vla.folder` saves and
loads it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from backbones.context import Backbone, Context
from heads.head import Head, Loss, Prefix
from heads.prefix import side_by_side, soft_prefix
from perception.percept import Batch, FrontEnd, Percept, perceive
from robot_io import ActionChunk, Observation, RobotSpec, Underway, UserError
from vla.assembly import assemble, state_index
from vla.draws import own_generators
from vla.normalize import Normalizer
from vla.recipe import Recipe
from vla.seeds import mix
from vla.tuning import tune


class Policy(nn.Module):
    """See the module's text. `spec` is the robot's, narrowed to the cameras (and the depth) that this policy looks at."""

    def __init__(self, recipe: Recipe, spec: RobotSpec, normalizer: Normalizer, front_ends: Iterable[FrontEnd],
                 backbone: nn.Module, head: Head) -> None:
        super().__init__()
        self.recipe, self.spec = recipe, spec
        self.normalizer = normalizer
        self.front_ends = nn.ModuleList(front_ends)
        self.backbone, self.head = backbone, head
        self.register_buffer("state_index", torch.tensor(state_index(recipe, spec), dtype=torch.long), persistent=False)
        for front_end in self.front_ends:
            if front_end.frozen:
                front_end.requires_grad_(False)
        self.eval()
        self._own = Session(self)

    @classmethod
    def build(cls, recipe: Recipe, spec: RobotSpec, normalizer: Normalizer) -> Policy:
        """A new policy for the robot `spec`: pretrained where the backbone is, random (by the recipe's seed) elsewhere.

        Raises:
            UserError: a camera, depth or state entry that the recipe asks for and the robot lacks.
        """
        with torch.random.fork_rng():
            torch.manual_seed(recipe.train.seed)
            spec, front_ends, backbone, head = assemble(recipe, spec)
            for part in (*front_ends, backbone, head):
                part.load_pretrained()
            return cls(recipe, spec, normalizer, front_ends, tune(backbone, recipe.tuning), head)

    @property
    def cameras(self) -> tuple[str, ...]:
        return self.spec.observation.camera_names

    @property
    def needs_depth(self) -> bool:
        return any(camera.depth for camera in self.spec.observation.cameras)

    @property
    def device(self) -> torch.device:
        return self.state_index.device

    @property
    def oracle(self) -> bool:
        """Whether perception reads a simulator's ground truth: an upper bound, never to be served."""
        return any(front_end.oracle for front_end in self.front_ends)

    @property
    def takes_prefix(self) -> bool:
        """Whether the head can go on from what the robot is doing meanwhile: real-time chunking."""
        return "prefix" in self.head.supports

    @property
    def plain_backbone(self) -> Backbone:
        """The backbone without the wrapper that carries its adapters."""
        return self.backbone if isinstance(self.backbone, Backbone) else self.backbone.get_base_model()

    @property
    def frozen_front_ends(self) -> list[FrontEnd]:
        """Those before the first that is trained: training may compute them ahead. Augmenting ones count where their views are cached."""
        views = self.recipe.train.cached_views > 0
        return list(takewhile(lambda front_end: front_end.frozen or (views and front_end.augments), self.front_ends))

    @property
    def trained_front_ends(self) -> list[FrontEnd]:
        """The first that is trained and all after it."""
        return list(self.front_ends)[len(self.frozen_front_ends):]

    def perceive(self, batch: Batch) -> Percept:
        return perceive(self.front_ends, batch)

    def context(self, batch: Batch, percept: Percept | None = None) -> Context:
        """What the head sees. `percept`, of all front-ends, saves perceiving again."""
        percept = self.perceive(batch) if percept is None else percept
        state = batch.state if self.normalizer.state is None else self.normalizer.state.normalize(batch.state)
        return self.backbone(percept, batch.instructions, state[:, self.state_index])

    def loss(self, batch: Batch, actions: Float[Tensor, "b t a"], valid: Bool[Tensor, "b t"],
             percept: Percept | None = None) -> Loss:
        """Imitation loss for `actions` in the robot's own units. `percept` is what the `frozen_front_ends` made, if they ran ahead
        of time."""
        if percept is not None:
            percept = perceive(self.trained_front_ends, batch, percept)
        return self.head.loss(self.context(batch, percept), self.normalizer.action.normalize(actions), valid)

    forward = loss  # what distributed wrappers call

    def sample(self, batch: Batch, n: int = 1, prefixes: Sequence[Underway] | None = None,
               noise: Float[Tensor, "b n t a"] | None = None) -> Float[Tensor, "b n t a"]:
        """n chunks for each observation, in the robot's own units: to hold still where perception says that what was asked for
        is not there; going on from the `prefixes`, one for each observation. Draws from torch's global generator, unless given the `noise`."""
        decided = None if prefixes is None else self._decided(prefixes, len(batch))
        percept = self.perceive(batch)
        chunks = self.normalizer.action.restore(self.head.sample(self.context(batch, percept), n=n, noise=noise, prefix=decided))
        if percept.abstain is None or not percept.abstain.any():
            return chunks
        hold = torch.stack([torch.from_numpy(self.spec.hold(state.cpu().numpy())) for state in batch.state]).to(chunks)
        return torch.where(percept.abstain[:, None, None, None], hold[:, None, None], chunks)

    def act(self, observations: Sequence[Observation], n: int = 1, seed: int | Sequence[int] | None = None,
            memory: list[dict[str, Any]] | None = None, prefixes: Sequence[Underway] | None = None) -> list[ActionChunk]:
        """n chunks for every observation, those of one observation side by side.

        Args:
            seed: fixes the noise of this call; one for each observation makes each draw what it would have drawn alone; None
                continues the sequence that `reset` began.
            memory: per observation what its episode's front-ends remember (see `Batch.memory`); None: nothing.
            prefixes: what the chunks have to go on from, one for each observation, where the head can (`takes_prefix`).

        Raises:
            UserError: an observation that does not match `spec`; a prefix for a head that cannot follow one.
        """
        for observation in observations:
            self._check(observation)
        batch = Batch.stack(observations, self.cameras, self.device, memory)
        seeds = [self._own.next_seed()] if seed is None else [seed] if isinstance(seed, int) else seed
        noise = self.head.draw_noise([torch.Generator(self.device).manual_seed(each) for each in seeds], len(batch), n)
        with torch.inference_mode(), self._evaluating(), self._seeded(seeds) if noise is None else nullcontext():
            chunks = self.sample(batch, n, prefixes, noise).float().cpu().numpy()
        return [ActionChunk(chunk, self.spec.action, observation.time)
                for observation, drawn in zip(observations, chunks, strict=True) for chunk in drawn]

    def session(self) -> Session:
        """A driver with a memory of its own, for one robot among several that share this policy."""
        return Session(self)

    def infer(self, observation: Observation, prefix: Underway | None = None) -> ActionChunk:
        return self._own.infer(observation, prefix)

    @staticmethod
    def infer_together(sessions: Sequence[Session], observations: Sequence[Observation],
                       prefixes: Sequence[Underway] | None = None) -> list[ActionChunk]:
        """What each session of the same policy would infer from its observation, and its prefix, computed in one batch."""
        return sessions[0].policy.act(observations, seed=[session.next_seed() for session in sessions],
                                      memory=[session.memory for session in sessions], prefixes=prefixes)

    def reset(self, seed: int = 0) -> None:
        """Begin an episode: the noise of the calls that follow is a function of `seed` and their number."""
        self._own.reset(seed)

    def train(self, mode: bool = True) -> Policy:
        """As for any module, but frozen parts stay in evaluation mode: no dropout, no moving statistics."""
        super().train(mode)
        frozen: list[nn.Module] = [front_end for front_end in self.front_ends if front_end.frozen]
        if self.recipe.tuning.vision == "frozen" and self.plain_backbone.vision:
            frozen.append(self.plain_backbone.get_submodule(self.plain_backbone.vision))
        for module in frozen:
            module.eval()
        return self

    def save(self, folder: str | Path) -> None:
        """Write the policy folder, in one piece or not at all (see `vla.folder`)."""
        from vla.folder import save_policy

        save_policy(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path, device: torch.device | str = "cpu", overrides: Sequence[str] = ()) -> Policy:
        """Rebuild a saved policy: same weights, same statistics, and for the same seed the same samples.

        Args:
            overrides: changes of its perception, for example `perception.0.ground_every=5`, or of how its head samples, for
                example `head.steps=4` (see `vla.folder.load_policy`).
        """
        from vla.folder import load_policy

        return load_policy(Path(folder), overrides).to(device)

    def _decided(self, prefixes: Sequence[Underway], observations: int) -> Prefix | None:
        """The prefixes as the head wants them; None if there is nothing in any of them."""
        if len(prefixes) != observations:
            raise UserError("prefixes", f"{len(prefixes)} for {observations} observations", "one for each", "give each its own")
        for prefix in prefixes:
            if prefix.actions.shape[1] != self.spec.action.dim:
                raise UserError("prefix", f"actions {prefix.actions.shape}", f"[P, {self.spec.action.dim}]",
                                "give what the robot is carrying out")
        if not any(len(prefix.actions) for prefix in prefixes):
            return None
        self.head.refuse_unsupported(prefix=prefixes)
        return side_by_side([self._soft(prefix) for prefix in prefixes])

    def _soft(self, prefix: Underway) -> Prefix:
        """One of them, normalised; of an empty one every step is free."""
        if not len(prefix.actions):
            free = torch.zeros(1, self.recipe.horizon, self.spec.action.dim, device=self.device)
            return Prefix(free, free[0, :, 0])
        actions = torch.from_numpy(prefix.actions).to(self.device, torch.float32)
        return soft_prefix(self.normalizer.action.normalize(actions), prefix.delay, self.recipe.horizon)

    def _check(self, observation: Observation) -> None:
        for camera in self.spec.observation.cameras:
            frame = observation.cameras.get(camera.name)
            if frame is None:
                continue  # `Batch.stack` says which cameras there are
            if frame.rgb.shape[:2] != (camera.height, camera.width):
                raise UserError(f"camera '{camera.name}'", f"its picture is {frame.rgb.shape[0]}x{frame.rgb.shape[1]}",
                                f"{camera.height}x{camera.width}", "set the camera to the size the policy was trained at")
            if camera.depth and frame.depth is None:
                raise UserError(f"camera '{camera.name}'", "it has no depth", "depth, which this policy's perception needs",
                                "use a depth camera")
        names = self.spec.observation.state
        if observation.state.shape != (len(names),):
            raise UserError("state", f"it has shape {observation.state.shape}", f"({len(names)},): {', '.join(names)}",
                            "send the state in the order of the robot's specification")
        if not np.isfinite(observation.state).all():
            bad = names[int(np.argmin(np.isfinite(observation.state)))]
            raise UserError("state", f"'{bad}' is {observation.state[names.index(bad)]}", "a finite number", "check that sensor")

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = self.training
        # Walking over all modules twice would cost a small policy a tenth of its time.
        if not any(part.training for part in (self, self.backbone, self.head, *self.front_ends)):
            yield
            return
        self.eval()
        try:
            yield
        finally:
            self.train(training)

    @contextmanager
    def _seeded(self, seeds: Sequence[int]) -> Iterator[None]:
        """For heads that draw more than noise: torch's global generator, seeded for a while, or one for each sample."""
        if len(seeds) > 1:
            with own_generators(seeds, self.device):
                yield
            return
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seeds[0])
            yield


class Session:
    """One robot's dealings with a policy: the episode's seed, the number of calls, and what front-ends remember of it."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.reset()

    def reset(self, seed: int = 0, calls: int = 0) -> None:
        """Begin an episode; or go on after so many calls, with nothing remembered."""
        self._seed, self._calls, self.memory = seed, calls, {}

    def next_seed(self) -> int:
        self._calls += 1
        return mix(self._seed, self._calls - 1)

    @property
    def takes_prefix(self) -> bool:
        return self.policy.takes_prefix

    def infer(self, observation: Observation, prefix: Underway | None = None) -> ActionChunk:
        """The next chunk; going on from `prefix`, if the head can."""
        return self.policy.act([observation], seed=self.next_seed(), memory=[self.memory], prefixes=None if prefix is None else [prefix])[0]
