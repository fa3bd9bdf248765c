"""Lift3D (arXiv 2411.18623): a point cloud through a pretrained 2D transformer. See `front_end`, and `mae` for its pretraining."""

from perception.lift3d.front_end import Lift3D

__all__ = ["Lift3D"]
