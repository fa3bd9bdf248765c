"""Claims about action heads, tested by `vla ablate heads` and `denoising`, `benchmarks/heads_sample.py` and `benchmarks/two_modes.py`."""

from __future__ import annotations

from vla.claims.claim import Claim

OFT, DIFFUSION = "OpenVLA-OFT (arXiv 2502.19645)", "Diffusion Policy (arXiv 2303.04137)"
HEADS = "`tiny` with LoRA and a frozen eye, small heads, 100 demonstrations, 400 steps; diffusion predicts the chunk, not the noise"

CLAIMS: tuple[Claim, ...] = (
    Claim("A5", OFT, "Continuous actions by L1 beat the same parallel decoding of discrete tokens.", "heads",
          {"head": "regression, L1"}, {"head": "tokens, parallel"}, setting=HEADS),
    Claim("A5", OFT, "Where there is one way to do it, L1 is no more than 10 points behind diffusion.", "heads",
          {"head": "regression, L1"}, {"head": "diffusion", "network": "MLP"}, margin=-0.1, setting=HEADS),
    Claim("A5", DIFFUSION, "Where there are two ways to do it, diffusion beats L1.", "two_modes", {"head": "diffusion"},
          {"head": "regression, L1"}, setting="a toy: two ways past an obstacle, success is the whole chunk being one of them"),
    Claim("A6", OFT, "Decoding token after token takes at least ten times as long as all tokens in one pass.", "heads_sample",
          {"head": "tokens, FAST (transformer)"}, {"head": "tokens, parallel (MLP)"}, metric="sample_ms", ratio=10.0,
          setting="the heads alone, FAST tokens against 56 bins, small networks, CPU milliseconds"),
    Claim("A6", OFT, "Diffusion with one denoising step fails: fifty beat one.", "denoising",
          {"head": "diffusion", "steps": "50"}, {"head": "diffusion", "steps": "1"}, setting=HEADS),
)
