"""SAM 2's video model (arXiv 2408.00714) through transformers, one frame at a time: masks carried by a memory of past frames.

Weights: a folder in transformers' layout or a hub id, such as facebook/sam2.1-hiera-tiny. The memory attends to the first frame and the
last few, so frames that it will not look at again are dropped, and an episode of any length fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool
from pydantic import Field
from torch import nn

from perception.grounding.published import Published, load_model, load_processor
from perception.stages import Picture
from robot_io.registry import ComponentConfig

FILES = (("preprocessor_config.json", "processor_config.json"),)


@dataclass
class Video:
    """One view's running session; `things` are the indices of the masks that were not empty at the start."""

    session: Any
    things: list[int]
    count: int
    frames: int


class Sam2Video(nn.Module):
    """See the module's text."""

    carries: ClassVar[bool] = True
    EXAMPLE: ClassVar[str] = "facebook/sam2.1-hiera-tiny"

    class Config(ComponentConfig):
        kind: Literal["sam2_video"] = "sam2_video"
        weights: str = Field("facebook/sam2.1-hiera-tiny", description="folder or hub id")

    def __init__(self, config: Config) -> None:
        super().__init__()
        import transformers

        self.config = config
        self.model = Published(load_model(transformers.Sam2VideoModel, config.weights, "tracker sam2_video", self.EXAMPLE))
        self._processor: Any = load_processor(transformers.Sam2VideoProcessor, config.weights, "tracker sam2_video", self.EXAMPLE, FILES)
        own = self.model.model.config
        self._kept = max(own.num_maskmem, own.max_object_pointers_in_encoder) + 1

    @torch.inference_mode()
    def start(self, picture: Picture, masks: Bool[np.ndarray, "r h w"]) -> Video:
        things = [int(i) for i in np.flatnonzero(masks.any((1, 2)))]
        session = self._processor.init_video_session(inference_device=self.model.device, dtype=torch.float32)
        video = Video(session, things, len(masks), 0)
        if things:
            self._processor.add_inputs_to_inference_session(session, 0, list(things), input_masks=[masks[i] for i in things])
            self._look(video, picture)
        return video

    @torch.inference_mode()
    def step(self, memory: Video, picture: Picture) -> tuple[Video, Bool[np.ndarray, "r h w"]]:
        masks = np.zeros((memory.count, *picture.shape[:2]), bool)
        if memory.things:
            masks[memory.things] = self._look(memory, picture)
            self._forget(memory)
        return memory, masks

    def _look(self, video: Video, picture: Picture) -> Bool[np.ndarray, "k h w"]:
        inputs = self._processor(images=picture, return_tensors="pt").to(self.model.device)
        output = self.model(inference_session=video.session, frame=inputs["pixel_values"][0], frame_idx=video.frames)
        video.frames += 1
        masks = self._processor.post_process_masks([output.pred_masks.cpu()], original_sizes=[list(picture.shape[:2])])[0]
        return masks.reshape(len(video.things), *picture.shape[:2]).numpy().astype(bool)

    def _forget(self, video: Video) -> None:
        oldest = video.frames - self._kept
        for index in [i for i in video.session.processed_frames if i < video.frames - 1]:
            del video.session.processed_frames[index]
        for outputs in video.session.output_dict_per_obj.values():
            for index in [i for i in outputs["non_cond_frame_outputs"] if i < oldest]:
                del outputs["non_cond_frame_outputs"][index]
