"""The networks of the diffusion head, behind one contract (`heads.denoisers.denoiser`): `denoiser: {kind: mlp | unet | dit}`."""

from heads.denoisers.denoiser import Denoiser
from heads.denoisers.dit import DiT
from heads.denoisers.mlp import ResidualMLP
from heads.denoisers.unet import UNet

DenoiserConfig = ResidualMLP.Config | UNet.Config | DiT.Config
DENOISERS: dict[str, type[Denoiser]] = {"mlp": ResidualMLP, "unet": UNet, "dit": DiT}

__all__ = ["DENOISERS", "Denoiser", "DenoiserConfig", "DiT", "ResidualMLP", "UNet"]
