"""The loop of offline reinforcement learning: `learn(recipe, run_dir)` makes a better policy folder, and goes on where it was killed.

    RUN/rl.yaml          whose run this is; another recipe is refused
    RUN/metrics.jsonl    losses, and what `vla.rl.diagnostics` measures on held-out episodes
    RUN/checkpoints/     see `vla.train.checkpoint`
    RUN/critic/          the critic, for diagnostics and films
    RUN/policy/          the result, a policy folder like any other

As in imitation, all that is random in step i is a function of (seed, i), and the state is weights, followers, Adam's moments and the
table of bootstrap values: a run that was killed ends with the same bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from backbones.context import Context
from heads.critic import ChunkCritic
from heads.head import Output
from robot_io import UserError
from vla.cache import weights_digest
from vla.policy import Policy
from vla.recipe import Recipe
from vla.rl import ALGORITHMS
from vla.rl.algorithm import Algorithm, Batch
from vla.rl.contexts import Eyes, in_parts, join, require_readouts, rows
from vla.rl.data import Transitions, open_data, transitions
from vla.rl.diagnostics import measure
from vla.rl.recipe import Optim, RLRecipe
from vla.sealed import sealing
from vla.seeds import mix
from vla.train.checkpoint import State, restore_newest, save_checkpoint
from vla.train.crew import Crew
from vla.train.display import Display
from vla.train.run import Run, TrainResult

AT_ONCE = 512


def learn(recipe: RLRecipe, run_dir: str | Path, *, progress: bool = True) -> TrainResult:
    """Train, or continue to train.

    Raises:
        UserError: bad data or no rewards in them, a head that the algorithm cannot improve, a run folder of another recipe.
    """
    run = Run(recipe, Path(run_dir), "rl.yaml")
    if not run.finished:
        with Display(progress) as display:
            Session(recipe, run, display).fit()
    return run.result()


class Learner(nn.Module):
    """All that changes: an algorithm, the policy if its backbone is tuned too, and the bootstrap values of all frames `[N]`."""

    def __init__(self, algorithm: Algorithm, policy: Policy | None, frames: int) -> None:
        super().__init__()
        self.algorithm, self.policy = algorithm, policy
        self.register_buffer("table", torch.zeros(frames))


class Trainer:
    """Steps on transitions and contexts that are at hand, wherever they come from.

    Args:
        contexts: of all frames, as the critic sees them.
        look: frames to what the actor sees, with gradients; None if that is the same.
        policy: whose backbone is tuned, too; None if it is not.
    """

    def __init__(self, algorithm: Algorithm, contexts: Context, data: Transitions, optim: Optim, *,
                 look: Callable[[Tensor], Context] | None = None, policy: Policy | None = None) -> None:
        self.algorithm, self.contexts, self.data, self.optim, self.look = algorithm, contexts, data, optim, look
        self.learner = Learner(algorithm, policy, len(data))
        actor = dict.fromkeys([*algorithm.head.parameters(), *(policy.parameters() if policy is not None else ())])
        self.groups = {"actor": [p for p in actor if p.requires_grad]}
        self.groups["critic"] = [p for p in algorithm.parameters() if p.requires_grad and p not in actor]
        rates = {"actor": optim.actor_learning_rate, "critic": optim.critic_learning_rate}
        self.optimizer = torch.optim.AdamW(
            [{"params": self.groups[name], "lr": rates[name], "peak": rates[name]} for name in self.groups], weight_decay=optim.weight_decay,
            fused=True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(optim.seed))
            algorithm.eval().prepare(contexts)

    def advance(self, step: int) -> dict[str, Tensor]:
        """Step `step`; returns what to log of it."""
        torch.manual_seed(mix(self.optim.seed, step))
        if step % self.optim.refresh == 0:
            self.refresh()
        self.learner.train()
        batch = self.batch(step)
        losses = {"critic": self.algorithm.critic_loss(batch), "actor": self.algorithm.actor_loss(batch)}
        self.optimizer.zero_grad()
        sum(loss.total for loss in losses.values() if loss is not None).backward()
        progress = (1 + math.cos(math.pi * step / self.optim.steps)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * (0.1 + 0.9 * progress)
            nn.utils.clip_grad_norm_(group["params"], self.optim.grad_clip)
        self.optimizer.step()
        self.algorithm.follow(self.optim.tau)
        logged = {"loss": losses["critic"].total.detach()}
        for loss in losses.values():
            logged |= loss.parts if loss is not None else {}
        return logged

    @torch.no_grad()
    def refresh(self) -> None:
        """Bootstrap values of all frames, from the targets as they are now."""
        self.learner.eval()
        self.learner.table.copy_(in_parts(len(self.data), AT_ONCE, self._values))

    def _values(self, part: slice) -> Tensor:
        index = torch.arange(part.start, part.stop)
        context = rows(self.contexts, part)
        return self.algorithm.state_values(context, context if self.look is None else self.look(index), index)

    def batch(self, step: int) -> Batch:
        data = self.data
        index = data.draw(self.optim.batch_size, self.optim.seed, step)
        context = rows(self.contexts, index)
        target = data.earned[index] + data.discount[index] * self.learner.table[data.next[index]]
        return Batch(index, context, context if self.look is None else self.look(index), data.actions[index], data.inside[index],
                     target, data.valid[index], data.mc[index], data.success[index], step)


class Session:
    """One run: opens the policy and the data, takes the steps, writes what came out."""

    def __init__(self, recipe: RLRecipe, run: Run, display: Display) -> None:
        self.recipe, self.run, self.display = recipe, run, display
        self.policy = Policy.load(recipe.init, overrides=recipe.open)
        require_readouts(self.policy.recipe.head)
        began_with = weights_digest(self.policy)
        opened = open_data(self.policy, recipe)
        self.data = transitions(self.policy, opened, recipe)
        display.print("\n".join([*self.data.summary(), *too_few_backups(self.data, recipe)]))
        self.eyes = [Eyes(self.policy, each, display.track) for each in opened]
        contexts = join([eyes.all(display.track) for eyes in self.eyes])
        self.algorithm = build(recipe, self.policy)
        tuned = recipe.tune == "all"
        if not tuned:
            self.policy.backbone.requires_grad_(False)
        self.trainer = Trainer(self.algorithm, contexts, self.data, recipe.optim, look=self.look if tuned else None,
                               policy=self.policy if tuned else None)
        digests = {"data": "+".join(each.digest for each in opened), "the policy it began with": began_with}
        self.crew = Crew(self.policy.recipe)  # of one
        self.state = State(self.trainer.learner, self.trainer.optimizer, None, digests)
        restore_newest(self.state, run.checkpoints)
        run.claim()
        run.rewind_log(self.state.step)

    def look(self, index: Tensor) -> Context:
        """Frames through the policy's present eyes."""
        bounds = [0, *torch.tensor([len(eyes.demonstrations.actions) for eyes in self.eyes]).cumsum(0).tolist()]
        parts, places = [], []
        for eyes, first, last in zip(self.eyes, bounds, bounds[1:], strict=False):
            own = ((index >= first) & (index < last)).nonzero().squeeze(1)
            if len(own):
                parts.append(eyes.context((index[own] - first).numpy()))
                places.append(own)
        return rows(join(parts), torch.cat(places).argsort())

    def fit(self) -> None:
        optim, state = self.recipe.optim, self.state
        began, recent = time.perf_counter() - state.seconds, []
        while state.step < optim.steps:
            recent.append(self.trainer.advance(state.step))
            state.step, state.seconds = state.step + 1, time.perf_counter() - began
            numbers: dict[str, float] = {}
            if self._due(optim.log_every) or self._due(optim.save_every):
                numbers, recent = self._log(recent), []
            if self._due(optim.val_every) and len(self.data.validation):
                self.run.log({"step": state.step, **measure(self.trainer), "seconds": state.seconds})
            if self._due(optim.save_every):
                save_checkpoint(state, self.run.checkpoints, self.crew)
            self.display.step(state.step, optim.steps, numbers)
        self._save_critic()
        self._save_policy()

    def _due(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step == self.recipe.optim.steps

    def _log(self, recent: list[dict[str, Tensor]]) -> dict[str, float]:
        names = dict.fromkeys(name for row in recent for name in row)
        means = {name: float(torch.stack([row[name].float() for row in recent if name in row]).mean()) for name in names}
        if not all(map(math.isfinite, means.values())):
            raise UserError("reinforcement learning", f"a loss is not a number any more at step {self.state.step}: {means}", "finite losses",
                            "lower optim.critic_learning_rate or optim.actor_learning_rate and use a new run folder")
        self.run.log({"step": self.state.step, **means, "seconds": round(self.state.seconds, 3)})
        return {name: means[name] for name in ("loss", "q", "q_policy", "bc") if name in means}

    def _save_critic(self) -> None:
        with sealing(self.run.folder / "critic") as partial:
            (partial / "rl.yaml").write_text(self.recipe.to_yaml(), encoding="utf-8")
            save_file({name: tensor.contiguous() for name, tensor in self.algorithm.critic.state_dict().items()},
                      partial / "critic.safetensors")

    def _save_policy(self) -> None:
        config, head = self.algorithm.acting(self.policy.recipe.head, output_of(self.policy))
        recipe = Recipe.from_dict(self.policy.recipe.to_dict() | {"head": config.model_dump(mode="json"), "name": self.recipe.name})
        self.policy.recipe, self.policy.head = recipe, head
        self.policy.eval().save(self.run.policy)


def too_few_backups(data: Transitions, recipe: RLRecipe) -> list[str]:
    """A warning if a reward at the end of the longest episode cannot be known at its start: every refresh carries it a backup further, once
    the targets have followed."""
    longest, optim = int(torch.bincount(data.episode).max()), recipe.optim
    needed = math.ceil(longest / (recipe.backup or data.chunk))
    if needed <= (made := math.ceil(optim.steps * min(1 / optim.refresh, optim.tau))):
        return []
    return [f"warning: {made} backups ({optim.steps} steps, new values every {optim.refresh}, τ = {optim.tau}) carry a reward less than the "
            f"{longest} steps of the longest episode, which need {needed}: lower optim.refresh, raise optim.tau or optim.steps"]


def build(recipe: RLRecipe, policy: Policy) -> Algorithm:
    """A new algorithm around a policy's head.

    Raises:
        UserError: it cannot tune a backbone, and is asked to.
    """
    kind = ALGORITHMS.load(recipe.algorithm.kind)
    if recipe.tune == "all" and not kind.tunes_backbone:
        raise UserError(f"algorithm '{recipe.algorithm.kind}'", "acts with a critic that looks through the frozen backbone", "tune=head",
                        "set tune=head, or take co_rft or iql")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(recipe.optim.seed, 1))
        output = output_of(policy)
        return kind(recipe.algorithm, policy.head, ChunkCritic(recipe.critic, output), recipe.chunk or output.horizon, output)


def output_of(policy: Policy) -> Output:
    """The sizes that heads and critics of this policy are built from."""
    backbone = policy.plain_backbone
    return Output(policy.recipe.horizon, policy.spec.action.dim, backbone.dim, backbone.queries)
