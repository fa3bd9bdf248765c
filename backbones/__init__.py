"""Percept + instruction + state → Context. See `backbones.context` for the contract."""

from perception.captioning import CAPTIONERS
from robot_io.registry import Registry

CAPTIONERS.add(
    "tiny",
    "backbones.tiny.captioner:TinyCaptioner",
    "what the shipped trunk says of the tabletop's two cameras, or answers to a question about it",
    paper="this project; docs/tiny.md",
    needs=("rgb of front and wrist",),
    provides=("text",),
)
BACKBONES = Registry("backbones", "vla.backbones")
BACKBONES.add(
    "tiny",
    "backbones.tiny.model:Tiny",
    "small vision-language transformer with learnable action queries, pretrained on "
    "rendered tabletop scenes, shipped with its weights",
    paper="this project; queries after VLM4VLA (arXiv 2601.03309)",
    needs=("rgb",),
    provides=("readout", "hidden"),
)
BACKBONES.add(
    "openvla",
    "backbones.openvla.openvla:OpenVLA",
    "DINOv2 + SigLIP + Llama 2, 7.5 B, for autoregressive action tokens; one view, no state",
    paper="OpenVLA (arXiv 2406.09246)",
    needs=("rgb",),
    provides=("readout", "hidden", "continuation"),
)
BACKBONES.add(
    "openvla_oft",
    "backbones.openvla.oft:OpenVLAOFT",
    "the same, with bidirectional parallel decoding, several views and the state",
    paper="OpenVLA-OFT (arXiv 2502.19645)",
    needs=("rgb",),
    provides=("readout", "hidden", "continuation"),
)
BACKBONES.add(
    "vlm",
    "backbones.vlm.model:VLM",
    "any published vision-language model of the families below, with action queries; several views, state, soft tokens, text",
    paper="VLM4VLA (arXiv 2601.03309)",
    needs=("rgb",),
    provides=("readout", "hidden"),
)
BACKBONES.add(
    "pi0",
    "backbones.pi0:PI0",
    "PaliGemma as π0 reads with it, 2.9 B; several views; for π0's own action expert alone (head.kind=pi0)",
    paper="Black et al., π0 (arXiv 2410.24164)",
    needs=("rgb",),
    provides=("hidden", "layers"),
)

__all__ = ["BACKBONES"]
