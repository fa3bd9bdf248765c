"""How a critic expresses a value: a number under squared error, or a histogram under cross-entropy (HL-Gauss).

HL-Gauss (Imani and White, arXiv 1806.04613; Farebrother et al., arXiv 2403.03950, sec. 3.1): the target is a Gaussian around the number,
cut into bins; the value is the histogram's mean. Classification is steadier than regression where targets are noisy, but its range
must be known: returns of a sparse success reward lie in [0, 1].

Shapes: any leading dimensions `…`; O outputs per value (1, or one per bin).
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from robot_io import UserError
from robot_io.registry import ComponentConfig


class Scalar(nn.Module):
    """A number."""

    class Config(ComponentConfig):
        kind: Literal["scalar"] = "scalar"

    size = 1

    def __init__(self, config: Config) -> None:
        super().__init__()

    def value(self, raw: Float[Tensor, "*b o"]) -> Float[Tensor, "*b"]:
        return raw.squeeze(-1)

    def loss(self, raw: Float[Tensor, "*b o"], target: Float[Tensor, "*t"]) -> Float[Tensor, "*b"]:
        return (raw.squeeze(-1) - target).square()

    def start_low(self, last: nn.Linear) -> None:
        """Every value begins at 0: nothing is promising until a reward has been seen."""
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)


class HLGauss(nn.Module):
    """A histogram of `bins` between `low` and `high`; `sigma` is the target's, in bins."""

    class Config(ComponentConfig):
        kind: Literal["hl_gauss"] = "hl_gauss"
        low: float = -0.1
        high: float = 1.1
        bins: int = Field(default=61, ge=2)
        sigma: float = Field(default=0.75, gt=0)

        @model_validator(mode="after")
        def _in_order(self) -> HLGauss.Config:
            if self.low >= self.high:
                raise UserError("critic.output", f"low = {self.low}, high = {self.high}", "low < high", "swap them")
            return self

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.size = config, config.bins
        edges = torch.linspace(config.low, config.high, config.bins + 1)
        self.register_buffer("edges", edges, persistent=False)
        self.register_buffer("centres", (edges[1:] + edges[:-1]) / 2, persistent=False)

    def value(self, raw: Float[Tensor, "*b o"]) -> Float[Tensor, "*b"]:
        return raw.softmax(-1) @ self.centres

    def loss(self, raw: Float[Tensor, "*b o"], target: Float[Tensor, "*t"]) -> Float[Tensor, "*b"]:
        return -(self.histogram(target) * raw.log_softmax(-1)).sum(-1)

    def histogram(self, target: Float[Tensor, "*t"]) -> Float[Tensor, "*t o"]:
        """The Gaussian around each target in bins, that of the nearest end where it lies outside."""
        width = self.edges[1] - self.edges[0]
        centre = target.clamp(self.centres[0], self.centres[-1])
        below = torch.special.ndtr((self.edges - centre.unsqueeze(-1)) / (self.config.sigma * width))
        return below.diff(dim=-1) / (below[..., -1:] - below[..., :1])

    def start_low(self, last: nn.Linear) -> None:
        """Every value begins at 0, or at the end of the range that is nearest to it."""
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_((self.histogram(torch.zeros(())) + 1e-4).log())


OUTPUTS = {"scalar": Scalar, "hl_gauss": HLGauss}
