"""Diffusion Policy (Chi et al., arXiv 2303.04137): a chunk of actions denoised from noise, given the readouts.

Trained as a DDPM (Ho et al., arXiv 2006.11239); sampled with DDPM, DDIM or DPM-Solver (`heads.denoising`); the noise schedules
and update rules are those of diffusers. The network (`heads.denoisers`) predicts the clean chunk (`sample`) or the noise
(`epsilon`). Diffusion Policy and VO-DP (arXiv 2510.15530) predict the noise; predicting the chunk needs fewer steps. The
moving average of the weights that both of them act with is the training loop's: `train.ema`.

Shapes: B samples, n draws, R repeats, T = horizon, A action dimensions, K readouts of width D.
In: `readout [B,K,D]`. Out: `[B,n,T,A]`, normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field, field_validator, model_serializer
from torch import Tensor, nn

from backbones.context import Context
from heads.denoisers import DENOISERS, DenoiserConfig, ResidualMLP
from heads.denoising import SamplerName, Schedule, Spacing, sampler
from heads.draws import for_every_draw, initial_noise, own_noise, require_guidable
from heads.head import Guide, Head, Loss, Output, Prefix
from robot_io.registry import ComponentConfig

LATER = ("sampler", "condition_dropout", "guidance_scale")
"""Options younger than the first policies: written down only where they are not the default, so that a recipe without them keeps
its hash, and with it the runs and results that are filed under it."""


class Diffusion(Head):
    """DDPM-trained action chunk.

    `noise [B,n,T,A]` fixes the initial noise and with it the sample; but for `ddpm`, whose every step draws its own. `guide` sees
    the current estimate of the clean chunk and, as its level, the variance of the noise still in it (1 … 0); the gradient
    it returns moves the estimate. `prefix` is inpainted (RePaint, Lugmayr et al., arXiv 2201.09865): before every step, what is
    frozen is replaced by the given actions at that step's noise level, so that the rest is denoised to go on from them.
    """

    supports = frozenset({"noise", "guide", "prefix"})
    repeated = "denoiser"
    sampling = frozenset({"steps", "sampler", "spacing", "clip", "guidance_scale"})

    class Config(ComponentConfig):
        """How to diffuse.

        Attributes:
            train_steps: noise levels of the DDPM.
            steps: denoising steps of a sample, at most `train_steps`; for DDIM and for `leading` a divisor of it.
            prediction: what the network predicts.
            schedule: diffusers' name of the noise schedule.
            spacing: which levels a sample visits (diffusers' `timestep_spacing`); `trailing` starts at pure noise.
            clip: bound of the estimate of the clean chunk while sampling, None for none.
            repeats: R, noise levels drawn per sample and training step; the context is computed once for all of them.
            denoiser: the network; `kind` is mlp if not said.
            sampler: how the noise is removed.
            condition_dropout: how often training hides the context behind a learnt stand-in, as classifier-free guidance needs.
            guidance_scale: of classifier-free guidance (Ho and Salimans, arXiv 2207.12598; their 1 + w): how far to go from the
                prediction without the context towards, and beyond, that with it. 1 is the plain prediction.
        """

        kind: Literal["diffusion"] = "diffusion"
        train_steps: int = Field(default=100, ge=1)
        steps: int = Field(default=10, ge=1)
        prediction: Literal["sample", "epsilon"] = "sample"
        schedule: Literal["squaredcos_cap_v2", "linear"] = "squaredcos_cap_v2"
        spacing: Spacing = "trailing"
        clip: float | None = Field(default=1.0, gt=0.0)
        repeats: int = Field(default=4, ge=1)
        denoiser: DenoiserConfig = Field(default=ResidualMLP.Config(), discriminator="kind")
        sampler: SamplerName = "ddim"
        condition_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
        guidance_scale: float = Field(default=1.0, ge=0.0)

        @field_validator("denoiser", mode="before")
        @classmethod
        def _mlp_if_not_said(cls, value: Any) -> Any:
            return {"kind": "mlp"} | value if isinstance(value, dict) else value

        @model_serializer(mode="wrap")
        def _without_unused(self, dump: Any) -> dict[str, Any]:
            fields = type(self).model_fields
            return {name: value for name, value in dump(self).items() if name not in LATER or value != fields[name].default}

    def __init__(self, config: Config, output: Output) -> None:
        super().__init__()
        require_guidable(config.guidance_scale, config.condition_dropout)
        self.config, self.output = config, output
        self.denoiser = DENOISERS[config.denoiser.kind](config.denoiser, output)
        if config.condition_dropout > 0.0:
            self.unconditional = nn.Parameter(torch.zeros(self.denoiser.condition_shape))
        self.schedule = Schedule(config.train_steps, config.schedule, config.prediction, config.clip)
        self.sampler = sampler(config.sampler, self.schedule, config.steps, config.spacing)

    def loss(self, context: Context, actions: Float[Tensor, "b t a"], valid: Bool[Tensor, "b t"]) -> Loss:
        """Mean squared error of the prediction over the valid steps, at R random noise levels per sample."""
        repeats = self.config.repeats
        condition = self.denoiser.condition(context).repeat_interleave(repeats, 0)
        clean = hold_last(actions, valid).repeat_interleave(repeats, 0)
        noise = torch.randn_like(clean)
        level = torch.randint(self.config.train_steps, (len(clean),), device=clean.device)
        if self.training and self.config.condition_dropout > 0.0:
            condition = self.hidden_now_and_then(condition)
        predicted = self.denoiser(self.schedule.add_noise(clean, noise, level), self.share(level), condition)
        target = clean if self.config.prediction == "sample" else noise
        error = (predicted - target).square().mean(-1)
        counted = valid.repeat_interleave(repeats, 0)
        total = torch.where(counted, error, 0.0).sum() / counted.sum().clamp(min=1)
        return Loss(total, {"mse": total.detach()})

    def draw_noise(self, generators: Sequence[torch.Generator], batch: int, n: int) -> Float[Tensor, "b n t a"] | None:
        return None if self.config.sampler == "ddpm" else own_noise(generators, batch, n, self.output)

    def sample(self, context: Context, *, n: int = 1, noise: Tensor | None = None, guide: Guide | None = None,
               condition: Tensor | None = None, prefix: Prefix | None = None) -> Float[Tensor, "b n t a"]:
        """Denoise n chunks per sample in `config.steps` steps."""
        self.refuse_unsupported(condition=condition)
        read = self.denoiser.condition(context)
        shape = (len(read), n, self.output.horizon, self.output.action_dim)
        chunk = start = initial_noise(shape, noise, like=read).flatten(0, 1)
        read = read if n == 1 else read.repeat_interleave(n, 0)
        kept, frozen = (None, None) if prefix is None else for_every_draw(prefix, shape, like=read)
        denoise = self.sampler.start()
        for level in self.sampler.levels:
            if kept is not None:
                levels = torch.full((len(chunk),), level, device=chunk.device)
                chunk = frozen * self.schedule.add_noise(kept, start, levels) + (1 - frozen) * chunk
            predicted = self.predict(chunk, level, read)
            if guide is not None:
                predicted = self.guided(predicted, chunk, level, guide)
            chunk = denoise(predicted, level, chunk)
        if kept is not None:
            chunk = frozen * kept + (1 - frozen) * chunk
        return chunk.unflatten(0, shape[:2])

    def predict(self, chunk: Float[Tensor, "n t a"], level: int, condition: Float[Tensor, "n ..."]) -> Float[Tensor, "n t a"]:
        """The network's output, with classifier-free guidance if configured: both predictions in one pass."""
        share = torch.full((len(chunk),), self.share(level), device=chunk.device)
        scale = self.config.guidance_scale
        if scale == 1.0:
            return self.denoiser(chunk, share, condition)
        both = torch.cat([condition, self.unconditional.expand_as(condition)])
        seeing, blind = self.denoiser(chunk.repeat(2, 1, 1), share.repeat(2), both).chunk(2)
        return blind + scale * (seeing - blind)

    def share(self, level: Tensor | int) -> Tensor | float:
        """The denoiser's noise level in (0, 1] for integer DDPM levels, or for one."""
        return (level + 1) / self.config.train_steps

    def hidden_now_and_then(self, condition: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """Each condition replaced, at the chance `config.condition_dropout`, by the one learnt to stand for none."""
        hidden = torch.rand(len(condition), device=condition.device) < self.config.condition_dropout
        return torch.where(hidden.view(-1, *[1] * (condition.dim() - 1)), self.unconditional, condition)

    def guided(self, predicted: Tensor, chunk: Tensor, level: int, guide: Guide) -> Tensor:
        """The network's output, moved so that its estimate of the clean chunk moves by variance · gradient.

        For a unit Gaussian prior the clean chunk given the noisy one has just this variance, 1 - ᾱ, and the move gives
        the exact posterior mean under a linear log-reward; it is bounded at every level, unlike the usual 1/√ᾱ form.
        """
        signal = self.schedule.signal(level).to(chunk)
        variance = 1 - signal
        gradient = guide(self.schedule.clean(predicted, chunk, level), variance.expand(len(chunk)))
        return predicted + (variance if self.config.prediction == "sample" else -(signal * variance).sqrt()) * gradient


def hold_last(actions: Float[Tensor, "b t a"], valid: Bool[Tensor, "b t"]) -> Float[Tensor, "b t a"]:
    """Replace each invalid step by the last valid one before it (zero if there is none).

    The denoiser mixes over steps, so whatever stands in the padding would otherwise colour the valid ones.
    """
    index = torch.where(valid, torch.arange(valid.shape[1], device=valid.device), -1).cummax(dim=1).values
    held = actions.gather(1, index.clamp(min=0).unsqueeze(-1).expand_as(actions))
    return torch.where((index >= 0).unsqueeze(-1), held, 0.0)
