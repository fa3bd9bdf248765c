"""Diffusion Policy (Chi et al., arXiv 2303.04137): a chunk of actions denoised from noise, given the readouts.

Trained as a DDPM (Ho et al., arXiv 2006.11239), sampled with deterministic DDIM (Song et al., arXiv 2010.02502); the
noise schedules and both update rules are diffusers'. The network predicts the clean chunk (`sample`) or the noise
(`epsilon`). Diffusion Policy and VO-DP (arXiv 2510.15530) predict the noise; predicting the chunk needs fewer steps.

Shapes: B samples, n draws, R repeats, T = horizon, A action dimensions, K readouts of width D.
In: `readout [B,K,D]`. Out: `[B,n,T,A]`, normalised.
"""

from __future__ import annotations

from typing import Literal

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from backbones.context import Context
from heads.denoiser import ResidualMLP
from heads.head import Guide, Head, Loss, Output
from robot_io import UserError
from robot_io.registry import ComponentConfig


class Diffusion(Head):
    """DDPM-trained action chunk, sampled with DDIM.

    `noise [B,n,T,A]` fixes the initial noise and with it the sample. `guide` sees the current estimate of the clean
    chunk and, as its level, the variance of the noise still in it (1 … 0); the gradient it returns moves the estimate.
    """

    supports = frozenset({"noise", "guide"})

    class Config(ComponentConfig):
        """How to diffuse.

        Attributes:
            train_steps: noise levels of the DDPM.
            steps: DDIM steps of a sample; a divisor of `train_steps`.
            prediction: what the network predicts.
            schedule: diffusers' name of the noise schedule.
            spacing: which levels the DDIM steps visit (diffusers' `timestep_spacing`); `trailing` starts at pure noise.
            clip: bound of the estimate of the clean chunk while sampling, None for none.
            repeats: R, noise levels drawn per sample and training step; the context is computed once for all of them.
            denoiser: the network.
        """

        kind: Literal["diffusion"] = "diffusion"
        train_steps: int = Field(default=100, ge=1)
        steps: int = Field(default=10, ge=1)
        prediction: Literal["sample", "epsilon"] = "sample"
        schedule: Literal["squaredcos_cap_v2", "linear"] = "squaredcos_cap_v2"
        spacing: Literal["trailing", "leading"] = "trailing"
        clip: float | None = Field(default=1.0, gt=0.0)
        repeats: int = Field(default=4, ge=1)
        denoiser: ResidualMLP.Config = ResidualMLP.Config()

    def __init__(self, config: Config, output: Output) -> None:
        super().__init__()
        if config.train_steps % config.steps:
            raise UserError("head.steps", f"{config.steps} DDIM steps", f"a divisor of train_steps = {config.train_steps}",
                            "choose such a number")
        self.config, self.output = config, output
        self.denoiser = ResidualMLP(config.denoiser, output)
        shared = {"num_train_timesteps": config.train_steps, "beta_schedule": config.schedule,
                  "prediction_type": config.prediction, "clip_sample": config.clip is not None,
                  "clip_sample_range": config.clip or 1.0}
        self.ddpm = DDPMScheduler(**shared)
        self.ddim = DDIMScheduler(**shared, timestep_spacing=config.spacing)
        self.ddim.set_timesteps(config.steps)

    def loss(self, context: Context, actions: Float[Tensor, "b t a"], valid: Bool[Tensor, "b t"]) -> Loss:
        """Mean squared error of the prediction over the valid steps, at R random noise levels per sample."""
        repeats = self.config.repeats
        condition = self.denoiser.condition(context).repeat_interleave(repeats, 0)
        clean = hold_last(actions, valid).repeat_interleave(repeats, 0)
        noise = torch.randn_like(clean)
        step = torch.randint(self.config.train_steps, (len(clean),), device=clean.device)
        predicted = self.denoiser(self.ddpm.add_noise(clean, noise, step), self.level(step), condition)
        target = clean if self.config.prediction == "sample" else noise
        error = (predicted - target).square().mean(-1)
        counted = valid.repeat_interleave(repeats, 0)
        total = torch.where(counted, error, 0.0).sum() / counted.sum().clamp(min=1)
        return Loss(total, {"mse": total.detach()})

    def sample(self, context: Context, *, n: int = 1, noise: Tensor | None = None, guide: Guide | None = None,
               condition: Tensor | None = None) -> Float[Tensor, "b n t a"]:
        """Denoise n chunks per sample in `config.steps` steps."""
        self.refuse_unsupported(condition=condition)
        read = self.denoiser.condition(context)
        shape = (len(read), n, self.output.horizon, self.output.action_dim)
        if noise is None:
            noise = torch.randn(shape, device=read.device, dtype=read.dtype)
        elif noise.shape != shape:
            raise UserError("noise", f"shape {tuple(noise.shape)}", f"{shape}: samples, draws, horizon, action dimensions",
                            "give one chunk of noise for every draw")
        read = read.repeat_interleave(n, 0)
        chunk = noise.to(read).flatten(0, 1)
        for step in self.ddim.timesteps:
            predicted = self.denoiser(chunk, self.level(step.expand(len(chunk)).to(chunk.device)), read)
            if guide is not None:
                predicted = self.guided(predicted, chunk, int(step), guide)
            chunk = self.ddim.step(predicted, int(step), chunk).prev_sample
        return chunk.unflatten(0, shape[:2])

    def level(self, step: Tensor) -> Tensor:
        """The denoiser's noise level in (0, 1] for an integer DDPM step."""
        return (step + 1) / self.config.train_steps

    def guided(self, predicted: Tensor, chunk: Tensor, step: int, guide: Guide) -> Tensor:
        """The network's output, moved so that its estimate of the clean chunk moves by variance · gradient.

        For a unit Gaussian prior the clean chunk given the noisy one has just this variance, 1 - ᾱ, and the move gives
        the exact posterior mean under a linear log-reward; it is bounded at every level, unlike the usual 1/√ᾱ form.
        """
        signal = self.ddim.alphas_cumprod[step].to(chunk)
        variance = 1 - signal
        is_clean = self.config.prediction == "sample"
        clean = predicted if is_clean else (chunk - variance.sqrt() * predicted) / signal.sqrt()
        if self.config.clip is not None:
            clean = clean.clamp(-self.config.clip, self.config.clip)
        gradient = guide(clean, variance.expand(len(chunk)))
        return predicted + (variance if is_clean else -(signal * variance).sqrt()) * gradient


def hold_last(actions: Float[Tensor, "b t a"], valid: Bool[Tensor, "b t"]) -> Float[Tensor, "b t a"]:
    """Replace each invalid step by the last valid one before it (zero if there is none).

    The denoiser mixes over steps, so whatever stands in the padding would otherwise colour the valid ones.
    """
    index = torch.where(valid, torch.arange(valid.shape[1], device=valid.device), -1).cummax(dim=1).values
    held = actions.gather(1, index.clamp(min=0).unsqueeze(-1).expand_as(actions))
    return torch.where((index >= 0).unsqueeze(-1), held, 0.0)
