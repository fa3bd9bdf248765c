"""What every algorithm is: losses for a critic and an actor, a bootstrap value for every state, and a head that acts in the end.

The loop (`vla.rl.loop`) owns batches, optimiser, targets' values and checkpoints. Since the critic's contexts are fixed, the bootstrap
values of all N frames are a table that the loop asks for anew every `optim.refresh` steps.

Shapes: B samples, T = chunk, H = horizon ≥ T, A action dimensions, M critics.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import functional_call

from backbones.context import Context
from heads.critic import ChunkCritic
from heads.head import Head, Loss, Output
from robot_io import UserError
from robot_io.registry import ComponentConfig

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True)
class Batch:
    """Drawn transitions. `context` is the critic's, `seen` the actor's: the same, or with gradients into the backbone (`tune: all`)."""

    index: Int[Tensor, " b"]
    context: Context
    seen: Context
    actions: Float[Tensor, "b h a"]
    inside: Bool[Tensor, "b h"]
    target: Float[Tensor, "b t"]
    valid: Bool[Tensor, "b t"]
    mc: Float[Tensor, " b"]
    success: Bool[Tensor, " b"]
    step: int

    @property
    def chunk(self) -> Float[Tensor, "b 1 t a"]:
        """What was done, as one chunk to be valued."""
        return self.actions[:, None, : self.target.shape[1]]


class Algorithm(nn.Module):
    """The contract. `head` is the actor, `critic` learns, `target` follows it. Built as `Kind(config, head, critic, chunk, output)`."""

    tunes_backbone = True
    """Whether `tune: all` is possible."""

    def __init__(self, head: Head, critic: ChunkCritic, chunk: int) -> None:
        super().__init__()
        self.head, self.critic, self.target, self.chunk = head, critic, follower(critic), chunk

    def train(self, mode: bool = True) -> Algorithm:
        """As for any module, but followers stay in evaluation mode."""
        super().train(mode)
        for part in self.children():
            if next(part.parameters(), None) is None:
                part.eval()
        return self

    def prepare(self, contexts: Context) -> None:
        """Once before the first step, with the contexts of all frames. The random state is that of the run's seed."""

    def critic_loss(self, batch: Batch) -> Loss:
        """Every prefix on its own return, and nothing else."""
        value, error = self.critic.regress(batch.context, batch.chunk, batch.target[:, None])
        td = masked_mean(error, batch.valid)
        return Loss(td, {"td": td.detach(), "q": masked_mean(value.detach(), batch.valid)})

    def actor_loss(self, batch: Batch) -> Loss | None:
        """None in steps in which the actor rests."""
        raise NotImplementedError

    def state_values(self, context: Context, seen: Context, index: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """V of the frames `index`, from the targets. Called without gradients, in evaluation mode."""
        raise NotImplementedError

    def act(self, context: Context, seen: Context) -> Float[Tensor, "b 1 h a"]:
        """The chunk that the policy would do now."""
        return self.head.sample(seen)

    def follow(self, tau: float) -> None:
        """Move the targets, after every step."""
        move(self.target, self.critic, tau)

    def acting(self, config: ComponentConfig, output: Output) -> tuple[ComponentConfig, Head]:
        """What the policy acts with in the end, given the configuration of the head it began with."""
        return config, self.head


def follower(network: Net) -> Net:
    """A copy whose weights are a state that follows, not parameters that are trained."""
    copied = copy.deepcopy(network)
    for module in copied.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach())
    return copied.eval()


@torch.no_grad()
def move(followed: nn.Module, network: nn.Module, tau: float) -> None:
    """θ' ← θ' + τ (θ − θ')."""
    named = dict(network.named_parameters())
    theirs = dict(followed.named_buffers())
    torch._foreach_lerp_([theirs[name] for name in named], [p.detach() for p in named.values()], tau)


def values_fixed(critic: ChunkCritic, context: Context, actions: Float[Tensor, "b n t a"]) -> Float[Tensor, "m b n t"]:
    """The critic's values with gradients to the actions alone."""
    weights = {name: parameter.detach() for name, parameter in critic.named_parameters()}
    return functional_call(critic, weights, (context, actions))


def masked_mean(values: Tensor, valid: Bool[Tensor, "b t"]) -> Tensor:
    """Of `[M, B, n, T]` or `[B, n, T]`, over the valid prefixes."""
    mask = valid[:, None].expand(values.shape)
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def imitation(head: Head, batch: Batch, chosen: Bool[Tensor, " b"] | None = None) -> Tensor:
    """The head's own imitation loss on the batch, or on the samples that are `chosen`; 0 if none is."""
    if chosen is None:
        return head.loss(batch.seen, batch.actions, batch.inside).total
    if not bool(chosen.any()):
        return batch.seen.readout.sum() * 0.0
    seen = Context(batch.seen.hidden[chosen], batch.seen.mask[chosen], batch.seen.readout[chosen])
    return head.loss(seen, batch.actions[chosen], batch.inside[chosen]).total


def follows_gradients(head: Head, context: Context) -> bool:
    """Whether the head's chunk is a function of its parameters alone that a critic's gradient can improve: no draws, no decoding."""
    few = Context(context.hidden[:2], context.mask[:2], context.readout[:2])
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        first = head.eval().sample(few)
        torch.manual_seed(1)
        return first.requires_grad and torch.equal(first, head.sample(few))


@torch.no_grad()
def draws(head: Head, context: Context) -> bool:
    """Whether the head proposes several chunks for one context."""
    few = Context(context.hidden[:2], context.mask[:2], context.readout[:2])
    try:
        with torch.random.fork_rng(devices=[]):
            first, second = head.eval().sample(few, n=2).unbind(1)
    except UserError:
        return False
    return not torch.equal(first, second)
