"""The networks of the diffusion head (`heads.denoisers`) as experts: they read the readouts, and the level is the time."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from backbones.context import Context
from heads.denoisers import DENOISERS, DenoiserConfig
from heads.experts.expert import Expert, Seen
from heads.head import Output
from robot_io import UserError


class DenoiserExpert(Expert):
    """A denoiser whose output is taken for the velocity."""

    def __init__(self, config: DenoiserConfig, output: Output) -> None:
        super().__init__()
        if output.queries == 0:
            raise UserError(f"head.expert '{config.kind}'", "it reads the readouts, and this backbone has none",
                            "an expert that reads hidden states or layers", "set head.expert.kind to cross or joint")
        self.denoiser = DENOISERS[config.kind](config, output)
        self.condition_shapes = (self.denoiser.condition_shape,)

    def condition(self, context: Context) -> Seen:
        return Seen((self.denoiser.condition(context),))

    def forward(self, noisy: Float[Tensor, "b t a"], time: Float[Tensor, " b"], seen: Seen) -> Float[Tensor, "b t a"]:
        return self.denoiser(noisy, time, *seen.parts)
