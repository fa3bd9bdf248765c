"""EXPO's edits, offline (Dong et al., arXiv 2507.07986): a small network moves what imitation draws a little, up the critic.

- critic: every prefix on its own return; the bootstrap is the best of N chunks that the imitation head draws in the next state, as they
  are and edited, by the lower of the target critics. Contexts are fixed, so these draws are made once for every frame.
- editor: from a drawn chunk up the lower of the critics, at most `size` away. It cannot leave the data far, whatever the critic says.
- the policy draws N, edits them, and does the best of all (`heads.edited`); the imitation head stays as it is.

Between best of N, which never does anything new, and CO-RFT's gradient through the policy, which a diffusion or a flow has no good one of.
Needs a head that draws.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from backbones.context import Context
from heads.critic import ChunkCritic
from heads.edited import Edited, Editor
from heads.head import Head, Loss, Output
from robot_io.registry import ComponentConfig
from vla.rl.algorithm import Algorithm, Batch, follower, move, values_fixed
from vla.rl.q_chunking import candidates, require_draws


class Edits(Algorithm):
    """See the module's text."""

    tunes_backbone = False

    class Config(ComponentConfig):
        """Its numbers.

        Attributes:
            draws: N while acting; as many edits are looked at besides.
            bootstrap_draws: N for the bootstrap.
            size: of the largest edit of a number, normalised.
            width: of the editor's network.
            actor_after: steps that the critic learns alone first.
        """

        kind: Literal["edits"] = "edits"
        draws: int = Field(16, ge=1)
        bootstrap_draws: int = Field(4, ge=1)
        size: float = Field(0.3, gt=0)
        width: int = Field(128, ge=1)
        actor_after: int = Field(500, ge=0)

    def __init__(self, config: Config, head: Head, critic: ChunkCritic, chunk: int, output: Output) -> None:
        super().__init__(head, critic, chunk)
        self.config, self.output, self.editor = config, output, Editor(config.width, config.size, output)
        self.slow_editor = follower(self.editor)
        self.register_buffer("candidates", None, persistent=False)

    def prepare(self, contexts: Context) -> None:
        require_draws(self.head, contexts)
        self.candidates = candidates(self.head, contexts, self.config.bootstrap_draws)

    def actor_loss(self, batch: Batch) -> Loss | None:
        if batch.step < self.config.actor_after:
            return None
        drawn = self.candidates[batch.index, torch.randint(self.config.bootstrap_draws, batch.index.shape)][:, None]
        edited = self.editor.edited(batch.context, drawn)
        value = values_fixed(self.critic, batch.context, edited[:, :, : self.chunk]).amin(0)[..., -1].mean()
        return Loss(-value / value.detach().abs().clamp(min=1e-3), {"q_policy": value.detach(), "edit": (edited - drawn).detach().abs().mean()})

    def state_values(self, context: Context, seen: Context, index: Int[Tensor, " b"]) -> Tensor:
        drawn = self.candidates[index]
        proposed = torch.cat([drawn, self.slow_editor.edited(context, drawn)], 1)
        return self.target(context, proposed[:, :, : self.chunk]).amin(0)[..., -1].amax(1)

    def act(self, context: Context, seen: Context) -> Float[Tensor, "b 1 h a"]:
        return self._edited(self.head.config).sample(seen)

    def follow(self, tau: float) -> None:
        super().follow(tau)
        move(self.slow_editor, self.editor, tau)

    def acting(self, config: ComponentConfig, output: Output) -> tuple[ComponentConfig, Head]:
        head = self._edited(config)
        return head.config, head

    def _edited(self, config: ComponentConfig) -> Edited:
        own = self.config
        read = None if self.chunk == self.output.horizon else self.chunk
        whole = Edited.Config(head=config, critic=self.critic.config, draws=own.draws, read=read, width=own.width, size=own.size)
        return Edited(whole, self.output, self.head, self.critic, self.editor)
