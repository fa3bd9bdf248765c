"""`vla serve --compile`: torch.compile for what a request mostly consists of, the vision tower and the network that the head calls step by step.

The rest of a policy is Python that changes with every observation (words, memories, missing pictures) and stays as it is. The compiler needs to
have seen one robot, two, and another number before it takes any number as it comes; that is done here, before anybody connects.
"""

from __future__ import annotations

import logging

import numpy as np

from robot_io import CameraFrame, Observation, RobotSpec, UserError
from vla.policy import Policy

LOG = logging.getLogger("vla.serve")
SIZES = (1, 2, 3)
OPTIONS = {"freezing": True}
"""Weights do not change any more: they are packed as the kernels want them."""


def compiled(policy: Policy) -> Policy:
    """`policy` itself, compiled; takes the better part of a minute. A policy that cannot be tried on a blank picture compiles as robots ask."""
    backbone, head = policy.plain_backbone, policy.head
    for module, name in ((backbone, backbone.vision), (head, head.repeated)):
        if name:
            module.get_submodule(name).compile(options=OPTIONS)
    try:
        for size in SIZES:
            policy.act([blank(policy.spec)] * size, seed=list(range(size)))
    except UserError as error:
        LOG.warning("the first requests will take long, for the policy could not be tried before them: %s", error)
    return policy


def blank(spec: RobotSpec) -> Observation:
    """Black pictures of a wall a metre away, a state of zeros."""
    def frame(height: int, width: int, depth: bool) -> CameraFrame:
        intrinsics = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]], np.float32)
        return CameraFrame(np.zeros((height, width, 3), np.uint8), np.ones((height, width), np.float32) if depth else None, intrinsics,
                           np.eye(4, dtype=np.float32))

    return Observation({camera.name: frame(camera.height, camera.width, camera.depth) for camera in spec.observation.cameras},
                       np.zeros(len(spec.observation.state), np.float32), "", 0.0)
