"""An action expert that looks at the context by cross-attention and at its own steps by self-attention, block by block in turn.

The pattern is SmolVLA's (Shukor et al., arXiv 2506.01844, sec. 3.1); unlike there, steps attend to each other without a causal
order. It reads the last hidden states, so it goes with every backbone.

Shapes: B samples, T = horizon, A action dimensions, L positions (or K readouts) of width D.
In: `hidden [B,L,D]` or `readout [B,K,D]`. Out: `[B,T,A]`.
"""

from __future__ import annotations

from itertools import chain
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from backbones.context import Context
from heads.experts.expert import Expert, Seen
from heads.experts.transformer import Block, KeysAndValues, Steps, TransformerConfig, Velocity
from heads.head import Output
from robot_io import UserError


class Cross(Expert):
    """Blocks 1, 3, … look at the context, blocks 2, 4, … at the chunk. Keys and values of the context are computed once."""

    class Config(TransformerConfig):
        """`reads`: the whole sequence, or the readouts alone."""

        kind: Literal["cross"] = "cross"
        reads: Literal["hidden", "readout"] = "hidden"
        depth: int = 4

    def __init__(self, config: Config, output: Output) -> None:
        super().__init__()
        config.require_sizes()
        if config.reads == "readout" and output.queries == 0:
            raise UserError("head.expert.reads", "'readout', and this backbone has none", "'hidden'", "set head.expert.reads=hidden")
        self.config = config
        self.steps = Steps(config.width, output)
        self.norm = nn.LayerNorm(output.context_dim)
        looking = range(0, config.depth, 2)
        self.reading = nn.ModuleList(KeysAndValues(output.context_dim, config) for _ in looking)
        self.blocks = nn.ModuleList(Block(config, own=index not in looking) for index in range(config.depth))
        self.velocity = Velocity(config.width, output)
        self.condition_shapes = ((config.shared_heads, 1, config.head_dim),) * (2 * len(looking))

    def condition(self, context: Context) -> Seen:
        """Keys and values, one pair for every looking block."""
        whole = self.config.reads == "hidden"
        memory = self.norm(context.hidden if whole else context.readout)
        return Seen(tuple(chain(*(read(memory) for read in self.reading))), context.mask if whole else None)

    def forward(self, noisy: Float[Tensor, "b t a"], time: Float[Tensor, " b"], seen: Seen) -> Float[Tensor, "b t a"]:
        tokens = self.steps(noisy, time)
        for index, block in enumerate(self.blocks):
            given = None if block.own else (seen.parts[index], seen.parts[index + 1])
            tokens = block(tokens, given, seen.mask)
        return self.velocity(tokens)
