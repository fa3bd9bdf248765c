"""Context → ActionChunk. See `heads.head` for the contract."""

from robot_io.registry import Registry

HEADS = Registry("heads", "vla.heads")
HEADS.add(
    "tokens",
    "heads.tokens:Tokens",
    "discretised action chunk, every token decoded in one parallel pass",
    paper="OpenVLA (arXiv 2406.09246, sec. 3.2); parallel decoding: OpenVLA-OFT (arXiv 2502.19645)",
    needs=("readout",),
    provides=("chunk", "log-probability"),
)
HEADS.add(
    "diffusion",
    "heads.diffusion:Diffusion",
    "DDPM-trained action chunk, sampled with DDIM",
    paper="Chi et al., Diffusion Policy (arXiv 2303.04137); Song et al., DDIM (arXiv 2010.02502)",
    needs=("readout",),
    provides=("chunk", "noise", "guide"),
)

__all__ = ["HEADS"]
