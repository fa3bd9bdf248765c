"""Who puts a picture into words, by `kind` (one file a family). `perception.summary` runs them; their contract:

    captioner.describe(batch, percept, camera) -> one text per observation, about the view of that camera

A captioner is frozen and a pure function of what it is given. One that `needs_depth` says so, as a front-end does. `backbones` adds its own
(`kind: tiny`), other distributions add theirs through the entry-point group `vla.captioners`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from robot_io.registry import Registry

if TYPE_CHECKING:
    from perception.percept import Batch, Percept

CAPTIONERS = Registry("captioners", "vla.captioners")
CAPTIONERS.add(
    "template",
    "perception.captioning.template:Template",
    "a sentence made of detections: what there is and where, in millimetres where depth is known",
    paper="this project",
    needs=("rgb", "depth for distances"),
    provides=("text",),
)
CAPTIONERS.add(
    "embedded",
    "perception.captioner.captioner:EmbeddedCaptioner",
    "image encoder and text decoder that this project trains; weights for the household are shipped",
    paper="after Qiu et al., SUM (arXiv 2306.05696); docs/summary.md",
    provides=("text",),
)
CAPTIONERS.add(
    "blip",
    "perception.captioning.published:Blip",
    "what SUM itself is: image encoder, text decoder trained on COCO captions",
    paper="Li et al., BLIP (arXiv 2201.12086)",
    provides=("text",),
)
CAPTIONERS.add(
    "blip2",
    "perception.captioning.published:Blip2",
    "a frozen language model reads the picture through a Q-Former",
    paper="Li et al., BLIP-2 (arXiv 2301.12597)",
    provides=("text",),
)
CAPTIONERS.add(
    "florence2",
    "perception.captioning.published:Florence2",
    "captions at three levels of detail, 0.2 to 0.8 B",
    paper="Xiao et al., Florence-2 (arXiv 2311.06242)",
    provides=("text",),
)
CAPTIONERS.add(
    "smolvlm",
    "perception.captioning.published:SmolVLM",
    "a chat model that describes what it is asked about, 0.25 to 2.2 B",
    paper="Marafioti et al., SmolVLM (arXiv 2504.05299)",
    provides=("text",),
)
CAPTIONERS.add(
    "qwen_vl",
    "perception.captioning.published:QwenVL",
    "the same with Qwen2-VL, Qwen2.5-VL or Qwen3-VL, 2 B and more",
    paper="Wang et al., Qwen2-VL (arXiv 2409.12191); Bai et al. (arXiv 2502.13923)",
    provides=("text",),
)


class Captioner(Protocol):
    """See the module's text."""

    def describe(self, batch: Batch, percept: Percept, camera: str) -> list[str]: ...


__all__ = ["CAPTIONERS", "Captioner"]
