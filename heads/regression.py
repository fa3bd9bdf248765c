"""The whole chunk, regressed in one pass: OpenVLA-OFT's L1 head (arXiv 2502.19645, sec. 4), VLM4VLA's (arXiv 2601.03309).

Deterministic and as fast as a head can be. It predicts one chunk: where demonstrations disagree (left or right around the
obstacle) L1 gives a median and MSE the mean of what they do, which may be neither.

Trunks, from the readouts to a chunk:

- `ResidualTrunk` (`oft`): the readouts of a step as one vector through a residual MLP that all steps share.
- `FCDecoder` (`fc`): all readouts as one vector through a common MLP, then one for the arm and one for the gripper.

Shapes: B samples, T = horizon, A action dimensions, K readouts of width D. In: `readout [B,K,D]`. Out: `[B,1,T,A]`, normalised.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from backbones.context import Context
from backbones.openvla.weights import extra_file, load_extra, locate
from heads.head import Guide, Head, Loss, Output, Prefix
from robot_io import UserError
from robot_io.registry import ComponentConfig

ERRORS = {"l1": F.l1_loss, "mse": F.mse_loss, "huber": F.huber_loss}


class ResidualTrunk(nn.Module):
    """OFT's action head (app. A): `[B, K, D]` → `[B, T, A]`, each step from its own K / T readouts (published: 56 / 8)."""

    class Config(ComponentConfig):
        """`width` of the `depth` residual blocks; null for the context's."""

        kind: Literal["oft"] = "oft"
        width: int | None = Field(default=None, ge=1)
        depth: int = Field(default=2, ge=0)

    def __init__(self, config: Config, output: Output, gripper: int | None) -> None:
        super().__init__()
        if output.queries % output.horizon:
            raise UserError("head.trunk 'oft'", f"the backbone has {output.queries} readouts",
                            f"a multiple of the horizon, {output.horizon}",
                            f"set backbone.queries={output.horizon * output.action_dim}, or head.trunk.kind=fc")
        self.steps, width = output.horizon, config.width or output.context_dim
        read = output.queries // output.horizon * output.context_dim
        self.layer_norm1, self.fc1 = nn.LayerNorm(read), nn.Linear(read, width)
        self.mlp_resnet_blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU()) for _ in range(config.depth))
        self.layer_norm2, self.fc2 = nn.LayerNorm(width), nn.Linear(width, output.action_dim)

    def forward(self, context: Context) -> Float[Tensor, "b t a"]:
        hidden = F.relu(self.fc1(self.layer_norm1(context.readout.unflatten(1, (self.steps, -1)).flatten(2))))
        for block in self.mlp_resnet_blocks:
            hidden = hidden + block(hidden)
        return self.fc2(self.layer_norm2(hidden))


class FCDecoder(nn.Module):
    """VLM4VLA's decoder: D → D/2 → `width`, then `width`, /2, /4 for the arm (bounded by tanh) and again for the gripper."""

    class Config(ComponentConfig):
        kind: Literal["fc"] = "fc"
        width: int = Field(default=1024, ge=4)

    def __init__(self, config: Config, output: Output, gripper: int | None) -> None:
        super().__init__()
        dim, width, self.gripper = output.queries * output.context_dim, config.width, gripper
        self.common = nn.Sequential(nn.Flatten(), nn.Linear(dim, dim // 2), nn.ReLU(), nn.Linear(dim // 2, width))
        arm = output.action_dim - (gripper is not None)
        self.arm = self._mlp(width, output.horizon, arm)
        self.grip = None if gripper is None else self._mlp(width, output.horizon, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    @staticmethod
    def _mlp(width: int, horizon: int, numbers: int) -> nn.Sequential:
        return nn.Sequential(nn.Linear(width, width // 2), nn.ReLU(), nn.Linear(width // 2, width // 4), nn.ReLU(),
                             nn.Linear(width // 4, horizon * numbers), nn.Unflatten(1, (horizon, numbers)))

    def forward(self, context: Context) -> Float[Tensor, "b t a"]:
        common = self.common(context.readout)
        arm = self.arm(common).tanh()
        if self.grip is None:
            return arm
        return torch.cat([arm[..., :self.gripper], self.grip(common), arm[..., self.gripper:]], -1)


TRUNKS = {"oft": ResidualTrunk, "fc": FCDecoder}


class Regression(Head):
    """One chunk, regressed. With a gripper dimension, that one is a decision between open and closed instead."""

    class Config(ComponentConfig):
        """What to regress and how.

        Attributes:
            error: per number; OFT takes `l1`, VLM4VLA's code `huber` (its paper writes the squared error).
            gripper: index of an action dimension that is open or closed, null for none. Its output is then the logit of the
                upper of both values: trained by cross-entropy, sampled as -1 or 1.
            gripper_weight: of that cross-entropy (0.01 in VLM4VLA's code).
            trunk: the network.
            weights: an OFT checkpoint to take the published action head from, a folder or a hub id; null for none.
        """

        kind: Literal["regression"] = "regression"
        error: Literal["l1", "mse", "huber"] = "l1"
        gripper: int | None = Field(default=None, ge=0)
        gripper_weight: float = Field(default=0.01, ge=0.0)
        trunk: ResidualTrunk.Config | FCDecoder.Config = Field(default=FCDecoder.Config(), discriminator="kind")
        weights: str | None = None

    def __init__(self, config: Config, output: Output) -> None:
        super().__init__()
        if config.gripper is not None and config.gripper >= output.action_dim:
            raise UserError("head.gripper", f"{config.gripper}", f"an index below {output.action_dim}, the action dimensions",
                            "name the index of the gripper, or null")
        self.config, self.output = config, output
        self.trunk = TRUNKS[config.trunk.kind](config.trunk, output, config.gripper)
        arm = [a for a in range(output.action_dim) if a != config.gripper]
        self.register_buffer("arm", torch.tensor(arm, dtype=torch.long), persistent=False)

    def load_pretrained(self) -> None:
        """Start from the published action head, if `config.weights` names one.

        Raises:
            UserError: not to be had, of another size, or a name too many or too few.
        """
        if self.config.weights is None:
            return
        folder = locate(self.config.weights, "head.weights")
        file = extra_file(folder, "action_head")
        if file is None or not isinstance(self.trunk, ResidualTrunk):
            held = file.name if file else "no action_head--…_checkpoint.pt"
            raise UserError("head.weights", f"{folder} has {held}, the trunk is '{self.config.trunk.kind}'",
                            "that file and the trunk 'oft', whose weights it holds",
                            "name an OFT checkpoint, such as moojink/openvla-7b-oft-finetuned-libero-spatial")
        load_extra(self.trunk, file, {"model.": "", ".ffn.": "."})

    def loss(self, context: Context, actions: Float[Tensor, "b t a"], valid: Bool[Tensor, "b t"]) -> Loss:
        """Mean error over the numbers of the valid steps, plus the weighted cross-entropy of the gripper."""
        predicted, wanted = self.trunk(context)[valid], actions[valid]
        steps = valid.sum().clamp(min=1)
        error = ERRORS[self.config.error](predicted[:, self.arm], wanted[:, self.arm], reduction="sum")
        total = error / (steps * len(self.arm))
        parts = {self.config.error: total.detach()}
        if (gripper := self.config.gripper) is not None:
            upper = (wanted[:, gripper] > 0).to(predicted)
            entropy = F.binary_cross_entropy_with_logits(predicted[:, gripper], upper, reduction="sum") / steps
            total = total + self.config.gripper_weight * entropy
            parts["gripper"] = entropy.detach()
        return Loss(total, parts)

    def sample(self, context: Context, *, n: int = 1, noise: Tensor | None = None, guide: Guide | None = None,
               condition: Tensor | None = None, prefix: Prefix | None = None) -> Float[Tensor, "b n t a"]:
        """The one chunk."""
        self.refuse_unsupported(noise=noise, guide=guide, condition=condition, prefix=prefix)
        if n > 1:
            raise UserError(f"{n} draws of head 'regression'", "it predicts one chunk", "n = 1",
                            "take a head that draws, such as diffusion")
        chunk = self.trunk(context)
        if (gripper := self.config.gripper) is not None:
            chunk[..., gripper] = torch.where(chunk[..., gripper] > 0, 1.0, -1.0)
        return chunk.unsqueeze(1)
