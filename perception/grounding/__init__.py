"""The stages of object-centric grounding by `kind` (contracts in `perception.stages`; one file a family).

    pictures + phrases ──DETECTORS──▶ boxes ──SEGMENTERS──▶ masks ──SELECTORS──▶ one per phrase ──TRACKERS──▶ between looks

Other distributions add theirs through the entry-point groups `vla.detectors`, `vla.segmenters`, `vla.selectors`, `vla.trackers`
and `vla.askers`.
"""

from robot_io.registry import Registry

DETECTORS = Registry("detectors", "vla.detectors")
SEGMENTERS = Registry("segmenters", "vla.segmenters")
SELECTORS = Registry("selectors", "vla.selectors")
TRACKERS = Registry("trackers", "vla.trackers")
ASKERS = Registry("askers", "vla.askers")

DETECTORS.add(
    "embedded",
    "perception.grounder.detector:EmbeddedGrounder",
    "masks of the tabletop's objects, colours and shapes; shipped, a few milliseconds a picture",
    paper="docs/grounder.md",
    provides=("boxes", "masks"),
)
DETECTORS.add(
    "grounding_dino",
    "perception.grounding.grounding_dino:GroundingDino",
    "open-vocabulary boxes, transformers' implementation",
    paper="Liu et al., Grounding DINO (arXiv 2303.05499)",
    provides=("boxes",),
)
DETECTORS.add(
    "mm_grounding_dino",
    "perception.grounding.grounding_dino:MMGroundingDino",
    "open-vocabulary boxes, the open reproduction trained on more data",
    paper="Zhao et al., MM-Grounding-DINO (arXiv 2401.02361)",
    provides=("boxes",),
)
DETECTORS.add(
    "groundingdino_py",
    "perception.grounding.groundingdino_py:GroundingDinoPy",
    "open-vocabulary boxes, the authors' package and their .pth checkpoints",
    paper="Liu et al., Grounding DINO (arXiv 2303.05499)",
    provides=("boxes",),
)
DETECTORS.add(
    "owlv2",
    "perception.grounding.owlv2:Owlv2",
    "open-vocabulary boxes from an image-text encoder",
    paper="Minderer et al., OWLv2 (arXiv 2306.09683)",
    provides=("boxes",),
)
DETECTORS.add(
    "sam3",
    "perception.grounding.sam3:Sam3",
    "masks at once from a phrase",
    paper="Carion et al., SAM 3 (arXiv 2511.16719)",
    provides=("boxes", "masks"),
)
DETECTORS.add(
    "oracle",
    "perception.grounding.oracle:Oracle",
    "UPPER BOUND: reads the simulator's masks; cannot be served",
    paper="none: what perfect perception would give",
    needs=("labels",),
    provides=("boxes", "masks"),
)
SEGMENTERS.add(
    "segment_anything",
    "perception.grounding.segment_anything:SegmentAnything",
    "box to mask, the authors' package and their .pth checkpoints",
    paper="Kirillov et al., Segment Anything (arXiv 2304.02643)",
    needs=("boxes",),
    provides=("masks",),
)
SEGMENTERS.add(
    "sam",
    "perception.grounding.sam:Sam",
    "box to mask, transformers' implementation",
    paper="Kirillov et al., Segment Anything (arXiv 2304.02643)",
    needs=("boxes",),
    provides=("masks",),
)
SEGMENTERS.add(
    "sam2",
    "perception.grounding.sam:Sam2",
    "box to mask, lighter and better",
    paper="Ravi et al., SAM 2 (arXiv 2408.00714)",
    needs=("boxes",),
    provides=("masks",),
)
SELECTORS.add(
    "score",
    "perception.grounding.score:BestScore",
    "the detector's best",
    provides=("choice",),
)
SELECTORS.add(
    "relation",
    "perception.grounding.relation:ByRelation",
    "the one on the left, nearest, behind the bowl; asks another selector where no relation is named",
    provides=("choice",),
)
SELECTORS.add(
    "similarity",
    "perception.grounding.similarity:TextSimilarity",
    "the crop whose embedding is nearest to the phrase's, or none",
    paper="Radford et al., CLIP (arXiv 2103.00020); Zhai et al., SigLIP (arXiv 2303.15343)",
    provides=("choice",),
)
SELECTORS.add(
    "set_of_mark",
    "perception.grounding.set_of_mark:SetOfMark",
    "ask a VLM about the picture with numbered outlines, or none",
    paper="Yang et al., Set-of-Mark (arXiv 2310.11441); OBEYED-VLA (arXiv 2512.22519)",
    needs=("masks",),
    provides=("choice",),
)
ASKERS.add("local", "perception.grounding.askers:LocalVLM", "an image-text-to-text model of transformers, in this process")
ASKERS.add("endpoint", "perception.grounding.askers:Endpoint", "an OpenAI-compatible endpoint (vLLM, SGLang, …)")
TRACKERS.add(
    "sam2_video",
    "perception.grounding.sam2_video:Sam2Video",
    "video segmentation with a memory",
    paper="Ravi et al., SAM 2 (arXiv 2408.00714)",
    provides=("masks",),
)
TRACKERS.add(
    "propagate",
    "perception.grounding.propagate:Propagate",
    "light: the pixels near the last mask that look like it",
    provides=("masks",),
)
TRACKERS.add("none", "perception.grounding.still:Still", "masks stand still until the next grounding", provides=("masks",))

__all__ = ["ASKERS", "DETECTORS", "SEGMENTERS", "SELECTORS", "TRACKERS"]
