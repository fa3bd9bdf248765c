"""`openvla_oft`: OpenVLA with parallel decoding, several views and the state (Kim et al., arXiv 2502.19645, sec. 4).

All actions of the chunk are read out in one pass. After the prompt stand K = horizon × action dimensions *empty* positions (a
vector of zeros each, told apart by their place alone) and the stop token; every position attends to every other, in both
directions. The readout is read one place early: the K hidden states which, in a causal model, would predict those positions.

    sequence   [B, L, D]   <s>, 256 patches of each view, state, extra tokens of the percept, prompt, K zeros, </s>
    readout    [B, K, D]   step after step, each with its action dimensions

With `head.kind=regression` this is OFT's own (L1) head; with `vocabulary_parallel`, its discrete variant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from backbones.context import Backbone, Context, Inputs
from backbones.continuation import LanguageHead
from backbones.openvla.prompt import STOP, VOCABULARY
from backbones.openvla.vlm import LORA_TARGETS, VLM, VLMConfig
from backbones.openvla.weights import extra_file, load_extra, locate
from perception.percept import Percept
from robot_io import UserError


class StateProjector(nn.Module):
    """The state as one token, `[B, S]` → `[B, 1, D]`: two layers with GELU between them."""

    def __init__(self, state_dim: int, dim: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(state_dim, dim), nn.Linear(dim, dim)

    def forward(self, state: Float[Tensor, "b s"]) -> Float[Tensor, "b 1 d"]:
        return self.fc2(F.gelu(self.fc1(state.to(self.fc1.weight.dtype))))[:, None]


class OpenVLAOFT(Backbone):
    """See the module's text. A published checkpoint brings its state projector; from OpenVLA's own weights it starts anew."""

    vision, projector = "vlm.vision_backbone", "vlm.projector"
    lora_targets = LORA_TARGETS
    new_modules = ("proprio_projector", "token_projection")

    class Config(VLMConfig):
        kind: Literal["openvla_oft"] = "openvla_oft"
        queries: int = Field(56, ge=1, description="K = horizon × action dimensions; 8 × 7 for LIBERO")

    def __init__(self, config: Config, inputs: Inputs, assets: Path | None = None) -> None:
        super().__init__()
        self.config, self.dim, self.queries = config, config.language.dim, config.queries
        self.vlm = VLM(config, assets)
        self.proprio_projector = StateProjector(inputs.state_dim, self.dim) if inputs.state_dim else None
        self.token_projection = nn.Linear(inputs.token_dim, self.dim) if inputs.token_dim else None

    def load_pretrained(self) -> None:
        """Start from `config.weights`, an OFT checkpoint or OpenVLA's own.

        Raises:
            UserError: not to be had, of another size, a name too many or too few, or a checkpoint that reads the state where this
                policy does not, or the other way round.
        """
        if self.config.weights is None:
            return
        folder = locate(self.config.weights, "backbone.weights")
        published = extra_file(folder, "proprio_projector")
        if published and self.proprio_projector is None:
            raise UserError(f"weights {folder}", "were trained with the robot's state", "a policy that reads it",
                            "set data.state=true, or name the entries it was trained with")
        if self.proprio_projector is not None and not published and extra_file(folder, "action_head"):
            raise UserError(f"weights {folder}", "have an action head but no proprio_projector--…_checkpoint.pt",
                            "that file, since this policy reads the state",
                            f"fetch it from the repository of the weights into {folder}, or set data.state=false")
        self.vlm.load_published()
        if published:
            load_extra(self.proprio_projector, published)

    def save_assets(self, folder: Path) -> None:
        """The tokenizer."""
        self.vlm.save_assets(folder)

    def see(self, percept: Percept) -> Percept:
        return self.vlm.see(percept)

    def forward(self, percept: Percept, instructions: list[str], state: Float[Tensor, "b s"]) -> Context:
        prefix, mask = self.vlm.prefix(percept, instructions, self._soft(percept, state))
        batch = len(prefix)
        sequence = torch.cat([prefix, prefix.new_zeros(batch, self.queries, self.dim), self.vlm.tokens(STOP, batch)], 1)
        mask = torch.cat([mask, mask.new_ones(batch, self.queries + 1)], 1)
        hidden = self.vlm.read_both_ways(sequence, mask).float()
        return Context(hidden, mask, hidden[:, -self.queries - 2:-2],
                       continuation=LanguageHead(self.vlm.language_model, VOCABULARY))

    def _soft(self, percept: Percept, state: Float[Tensor, "b s"]) -> list[tuple[Tensor, Tensor]]:
        """The state, then the extra tokens of the percept: embeddings and masks."""
        soft = []
        if self.proprio_projector is not None:
            token = self.proprio_projector(state)
            soft.append((token, torch.ones(token.shape[:2], dtype=torch.bool, device=token.device)))
        if self.token_projection is not None:
            soft.append((self.token_projection(percept.tokens), percept.token_mask))
        return soft
