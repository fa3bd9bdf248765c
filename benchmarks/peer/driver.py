"""A policy that LeRobot trained (`side.py train`), as a driver of our simulator: `vla evaluate benchmarks.peer.driver:LeRobotPolicy`, run
with the interpreter of LeRobot's environment and PEER_POLICY naming the folder.

It is asked for one action at a time, as LeRobot's own evaluation does: the policy's queue says when it predicts anew.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from robot_io import ActionChunk, Observation


class LeRobotPolicy:
    """Asked through `select_action`, with the processors that were saved with it."""

    def __init__(self, robot: Any) -> None:
        from lerobot.configs.policies import PreTrainedConfig
        from lerobot.policies.factory import get_policy_class, make_pre_post_processors

        torch.set_num_threads(1)
        folder = Path(os.environ["PEER_POLICY"])
        config = PreTrainedConfig.from_pretrained(folder)
        self.policy = get_policy_class(config.type).from_pretrained(folder).eval()
        self.before, self.after = make_pre_post_processors(config, pretrained_path=str(folder))
        self.spec = robot.spec

    def reset(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.policy.reset()

    @torch.inference_mode()
    def infer(self, observation: Observation) -> ActionChunk:
        seen = {f"observation.images.{name}": torch.from_numpy(frame.rgb.transpose(2, 0, 1).astype(np.float32) / 255)
                for name, frame in observation.cameras.items()}
        seen |= {"observation.state": torch.from_numpy(np.asarray(observation.state, np.float32)), "task": observation.instruction}
        action = self.after(self.policy.select_action(self.before(seen)))
        return ActionChunk(action.cpu().numpy().reshape(1, -1).astype(np.float32), self.spec.action, observation.time)
