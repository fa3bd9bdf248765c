"""Observation → Percept: front-ends, chained in any order. See `perception.percept` for the contract."""

from robot_io.registry import Registry

PERCEPTION = Registry("perception", "vla.perception")
PERCEPTION.add(
    "shift",
    "perception.shift:RandomShift",
    "random-shift augmentation while training, identity otherwise",
    paper="Yarats et al., DrQ-v2 (arXiv 2107.09645, sec. 3.1)",
    needs=("rgb",),
    provides=("images",),
)
PERCEPTION.add(
    "blind",
    "perception.blind:Blind",
    "no pictures: the state and the words alone; for tasks whose state tells everything, and as a baseline",
    provides=("an answer to whether a policy looks at all",),
)
PERCEPTION.add(
    "depth",
    "perception.depth:Depth",
    "depth for every view: the sensor's, or estimated from the picture by Depth Anything V2, ZoeDepth or DPT",
    paper="Yang et al., Depth Anything V2 (arXiv 2406.09414); ZoeDepth (arXiv 2302.12288); DPT (arXiv 2103.13413)",
    needs=("rgb", "or a depth sensor", "calibrated cameras, to align"),
    provides=("depth",),
)
PERCEPTION.add(
    "geometric",
    "perception.geometric:Geometric",
    "depth (or normals) of the grounded things in colour, outlined by role; of the whole picture if nothing is grounded",
    paper="OBEYED-VLA (arXiv 2512.22519)",
    needs=("depth", "regions, if there are any"),
    provides=("images", "tokens, if asked for"),
)
PERCEPTION.add(
    "masking",
    "perception.masking:Masking",
    "the grounded things in their own colours; the rest black, blurred, its mean colour or painted over",
    paper="OBEYED-VLA (arXiv 2512.22519); BYOVLA (arXiv 2410.01971)",
    needs=("rgb", "regions"),
    provides=("images",),
)
PERCEPTION.add(
    "object_tokens",
    "perception.object_tokens:ObjectTokens",
    "the grounded things as tokens: where they are in the robot's base frame, how large, how sure",
    paper="after OBEYED-VLA (arXiv 2512.22519)",
    needs=("depth", "intrinsics", "camera poses", "regions"),
    provides=("tokens",),
)
PERCEPTION.add(
    "summary",
    "perception.summary:Summary",
    "the scene in words by a captioner, beside the pictures or instead of them",
    paper="Qiu et al., SUM (arXiv 2306.05696)",
    needs=("rgb", "depth for distances", "regions, if there are any"),
    provides=("text",),
)
PERCEPTION.add(
    "point_cloud",
    "perception.point_cloud:PointCloud",
    "all views with depth as one coloured cloud of points in the robot's base frame: cropped, cleaned, farthest-point sampled",
    paper="Ze et al., DP3 (arXiv 2403.03954); Lift3D (arXiv 2411.18623)",
    needs=("depth", "intrinsics", "camera poses", "regions, if there are any"),
    provides=("a cloud for lift3d or dp3",),
)
PERCEPTION.add(
    "lift3d",
    "perception.lift3d:Lift3D",
    "the cloud as tokens through a pretrained 2D transformer, its positional embedding looked up on six virtual planes; trained",
    paper="Jia et al., Lift3D (arXiv 2411.18623)",
    needs=("point_cloud before it",),
    provides=("tokens",),
)
PERCEPTION.add(
    "dp3",
    "perception.dp3:Dp3",
    "the cloud as one token: an MLP of every point and the largest over all; trained",
    paper="Ze et al., DP3 (arXiv 2403.03954)",
    needs=("point_cloud before it",),
    provides=("tokens",),
)
PERCEPTION.add(
    "object_centric",
    "perception.object_centric:ObjectCentric",
    "finds what the instruction is about in every view and carries it over time; abstains where it is absent",
    paper="OBEYED-VLA (arXiv 2512.22519)",
    needs=("rgb",),
    provides=("regions", "abstain"),
)

PERCEPTION.add(
    "vggt_dino",
    "perception.vggt_dino:VggtDino",
    "feature maps of what is where (DINOv2) and of how it fits together in space (VGGT), from pictures alone; for a `fuser`",
    paper="VO-DP (arXiv 2510.15530); VGGT (arXiv 2503.11651); DINOv2 (arXiv 2304.07193)",
    needs=("rgb",),
    provides=("maps", "depth, if asked for"),
)
PERCEPTION.add(
    "fuser",
    "perception.fuser:Fuser",
    "geometric cells ask semantic ones, and a few tokens are left of them; trained with the policy",
    paper="VO-DP (arXiv 2510.15530)",
    needs=("maps of a `vggt_dino`",),
    provides=("tokens",),
)

__all__ = ["PERCEPTION"]
