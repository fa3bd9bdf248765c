"""The chunk critic: one causal transformer over [state, a_1 … a_T] that values every prefix of a chunk.

From CO-RFT (arXiv 2508.02219, fig. 2): the output at action i has seen the state and the actions up to i, so it is Q(s, a_1…a_i), the
return of doing just these and then following the policy. One pass values all T prefixes, and a terminal reward travels back T steps
in one backup. Several critics side by side (`members`) are a twin (TD3) or an ensemble.

The state is what the policy's backbone made of it, the readouts of a frozen `Context`: a critic sees with the policy's eyes.

Shapes: B samples, n chunks per sample, T = horizon, A action dimensions, K readouts of width D, M members, O outputs of a value.
In: `readout [B,K,D]`, actions `[B,n,T,A]`, normalised. Out: `[M,B,n,T]`.
"""

from __future__ import annotations

from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from backbones.context import Context
from heads.critic_outputs import OUTPUTS, HLGauss, Scalar
from heads.head import Output
from robot_io import UserError
from robot_io.registry import ComponentConfig


class Critic(nn.Module):
    """The contract of a critic: values of all prefixes, and the loss that moves them towards targets."""

    def forward(self, context: Context, actions: Float[Tensor, "b n t a"]) -> Float[Tensor, "m b n t"]:
        raise NotImplementedError

    def regress(self, context: Context, actions: Float[Tensor, "b n t a"], target: Float[Tensor, "b n t"],
                ) -> tuple[Float[Tensor, "m b n t"], Float[Tensor, "m b n t"]]:
        """The values, and how far each is from its target, in one pass."""
        raise NotImplementedError


class Member(nn.Module):
    """One causal transformer: `[B, K·D]` and `[B, n, T, A]` to `[B, n, T, O]`."""

    def __init__(self, config: ChunkCritic.Config, output: Output, outputs: int) -> None:
        super().__init__()
        width, size = config.width, output.queries * output.context_dim
        self.state = nn.Sequential(nn.LayerNorm(output.context_dim), nn.Flatten(1), nn.Linear(size, width), nn.GELU(),
                                   nn.Dropout(config.dropout), nn.Linear(width, width))
        self.action = nn.Linear(output.action_dim, width)
        self.position = nn.Parameter(torch.randn(output.horizon + 1, width) * 0.02)
        layer = nn.TransformerEncoderLayer(width, config.heads, 4 * width, config.dropout, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, config.layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.value = nn.Linear(width, outputs)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(output.horizon + 1), persistent=False)

    def forward(self, readout: Float[Tensor, "b k d"], actions: Float[Tensor, "b n t a"]) -> Float[Tensor, "b n t o"]:
        batch, n, steps = actions.shape[:3]
        state = self.state(readout)[:, None, None].expand(-1, n, -1, -1)
        tokens = rearrange(torch.cat([state, self.action(actions)], 2), "b n t w -> (b n) t w") + self.position[: steps + 1]
        hidden = self.layers(tokens, self.mask[: steps + 1, : steps + 1], is_causal=True)
        return self.value(hidden[:, 1:]).unflatten(0, (batch, n))


class ChunkCritic(Critic):
    """`members` causal transformers. Chunks shorter than the horizon are valued as they are."""

    class Config(ComponentConfig):
        """Its size.

        Attributes:
            width, layers, heads: of each transformer (CO-RFT reports none of them).
            members: transformers, independently initialised; 2 is a twin critic.
            output: how a value is expressed: a number, or a histogram (HL-Gauss).
        """

        kind: Literal["chunk"] = "chunk"
        width: int = Field(default=128, ge=1)
        layers: int = Field(default=2, ge=1)
        heads: int = Field(default=4, ge=1)
        members: int = Field(default=2, ge=1)
        dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
        output: Scalar.Config | HLGauss.Config = Field(default=Scalar.Config(), discriminator="kind")

    def __init__(self, config: Config, output: Output) -> None:
        super().__init__()
        if config.width % config.heads:
            raise UserError("critic.width", f"{config.width}", f"a multiple of critic.heads = {config.heads}", "change one of them")
        if output.queries < 1:
            raise UserError("critic", "the backbone has no readouts", "at least one learnable action query",
                            "choose a backbone with readouts, or set backbone.queries")
        self.config = config
        self.output = OUTPUTS[config.output.kind](config.output)
        self.members = nn.ModuleList(Member(config, output, self.output.size) for _ in range(config.members))
        for member in self.members:
            self.output.start_low(member.value)

    def forward(self, context: Context, actions: Float[Tensor, "b n t a"]) -> Float[Tensor, "m b n t"]:
        return self.output.value(self.raw(context, actions))

    def regress(self, context: Context, actions: Float[Tensor, "b n t a"], target: Float[Tensor, "b n t"],
                ) -> tuple[Float[Tensor, "m b n t"], Float[Tensor, "m b n t"]]:
        raw = self.raw(context, actions)
        return self.output.value(raw), self.output.loss(raw, target)

    def raw(self, context: Context, actions: Float[Tensor, "b n t a"]) -> Float[Tensor, "m b n t o"]:
        """What the members say, before it is read as values."""
        return torch.stack([member(context.readout, actions) for member in self.members])


class StateValue(nn.Module):
    """V(s), an MLP on the readouts: `[B, K, D]` to `[B]`. What IQL (arXiv 2110.06169) bootstraps from."""

    def __init__(self, width: int, output: Output) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.LayerNorm(output.context_dim), nn.Flatten(1), nn.Linear(output.queries * output.context_dim, width), nn.GELU(),
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        nn.init.zeros_(self.network[-1].weight)
        nn.init.zeros_(self.network[-1].bias)

    def forward(self, context: Context) -> Float[Tensor, " b"]:
        return self.network(context.readout).squeeze(-1)
