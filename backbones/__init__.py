"""Percept + instruction + state → Context. See `backbones.context` for the contract."""

from robot_io.registry import Registry

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

__all__ = ["BACKBONES"]
