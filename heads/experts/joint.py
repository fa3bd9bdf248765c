"""An action expert that runs beside the backbone, layer by layer: π0's joint attention (arXiv 2410.24164, sec. IV, app. B).

Block i attends, in one softmax, to the keys and values that layer i of the backbone computed for its own sequence and to
those of the chunk. The expert has weights of its own and may be much narrower than the backbone; only number and size of the heads
of keys and values must agree. Gradients reach the backbone through them. π0's own expert with its published weights is
`head.kind=pi0`; this one is small, starts anew, and reads any backbone with `Context.layers`: `tiny` has 3 of 4 heads of 32.

Shapes: B samples, T = horizon, A action dimensions, L positions, G heads of keys and values of size E.
In: `layers`, a pair `[B,G,L,E]` for every layer. Out: `[B,T,A]`.
"""

from __future__ import annotations

from itertools import chain
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from backbones.context import Context
from heads.experts.expert import Expert, Seen
from heads.experts.transformer import Block, Steps, TransformerConfig, Velocity
from heads.head import Output
from robot_io import UserError


class Joint(Expert):
    """As many blocks as the backbone has layers."""

    class Config(TransformerConfig):
        """`depth`, `kv_heads` (or `attention_heads`) and `head_dim` are the backbone's."""

        kind: Literal["joint"] = "joint"

    def __init__(self, config: Config, output: Output) -> None:
        super().__init__()
        config.require_sizes()
        self.config = config
        self.steps = Steps(config.width, output)
        self.blocks = nn.ModuleList(Block(config, own=True) for _ in range(config.depth))
        self.velocity = Velocity(config.width, output)
        self.condition_shapes = ((config.shared_heads, 1, config.head_dim),) * (2 * config.depth)

    def condition(self, context: Context) -> Seen:
        """The backbone's keys and values.

        Raises:
            UserError: it gives none, or of other sizes than configured.
        """
        dtype = self.velocity.predict.weight.dtype
        self._require_layers(context)
        return Seen(tuple(tensor.to(dtype) for tensor in chain(*context.layers)), context.mask)

    def forward(self, noisy: Float[Tensor, "b t a"], time: Float[Tensor, " b"], seen: Seen) -> Float[Tensor, "b t a"]:
        tokens = self.steps(noisy, time)
        for block, keys, values in zip(self.blocks, seen.parts[::2], seen.parts[1::2], strict=True):
            tokens = block(tokens, (keys, values), seen.mask)
        return self.velocity(tokens)

    def _require_layers(self, context: Context) -> None:
        if context.layers is None:
            raise UserError("head.expert 'joint'", "this backbone gives no keys and values of its layers",
                            "a backbone that does, such as tiny", "set head.expert.kind=cross")
        keys = context.layers[0][0]
        found = (len(context.layers), keys.shape[1], keys.shape[3])
        wanted = (self.config.depth, self.config.shared_heads, self.config.head_dim)
        if found != wanted:
            words = "{} layers with {} heads of keys and values of size {}"
            raise UserError("head.expert 'joint'", f"the backbone has {words.format(*found)}", f"{words.format(*wanted)}",
                            "set head.expert.depth={} head.expert.kv_heads={} head.expert.head_dim={}".format(*found))
