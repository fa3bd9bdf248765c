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

__all__ = ["PERCEPTION"]
