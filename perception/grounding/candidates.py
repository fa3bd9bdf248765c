"""Small arithmetic on boxes and masks that the stages share.

Shapes: N detections, Q queries of a detector, P phrases, H×W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import Tensor
from torchvision.ops import batched_nms, box_convert

from perception.stages import Detections, Picture


def best_of(boxes: Float[Tensor, "q 4"], scores: Float[Tensor, "q p"], size: tuple[int, int], *, per_phrase: int,
            overlap: float = 0.7) -> Detections:
    """A detector's queries → the best few boxes for each phrase, without near duplicates.

    Args:
        boxes: `cx cy w h`, relative to the picture.
        scores: in [0, 1], how well each box answers each phrase.
        size: height and width of the picture in pixels.
        per_phrase: at most so many.
        overlap: of two boxes for one phrase that overlap (IoU) by more, the better one stays.
    """
    height, width = size
    corners = box_convert(boxes.float(), "cxcywh", "xyxy") * boxes.new_tensor([width, height, width, height]).float()
    corners = corners.clamp(min=0).minimum(corners.new_tensor([width, height, width, height]))
    count = min(len(boxes), 4 * per_phrase)
    values, queries = scores.float().topk(count, dim=0)  # [count, P]
    phrase = torch.arange(scores.shape[1], device=scores.device).expand(count, -1)
    values, queries, phrase = values.T.flatten(), queries.T.flatten(), phrase.T.flatten()
    kept = batched_nms(corners[queries], values, phrase, overlap)  # best first
    rank = torch.stack([(phrase[kept] == p).cumsum(0) for p in range(scores.shape[1])], 1).gather(1, phrase[kept, None])[:, 0]
    kept = kept[rank <= per_phrase]
    return Detections(_array(corners[queries[kept]], np.float32), _array(values[kept], np.float32), _array(phrase[kept], np.int64))


def nothing(size: tuple[int, int] | None = None) -> Detections:
    """No detection; with masks if `size` is given."""
    masks = None if size is None else np.zeros((0, *size), bool)
    return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), masks)


def boxes_of(masks: Bool[np.ndarray, "n h w"]) -> Float[np.ndarray, "n 4"]:
    """The tight box around each mask; zeros for an empty one."""
    rows, columns = masks.any(2), masks.any(1)
    height, width = masks.shape[1:]
    box = np.stack([columns.argmax(1), rows.argmax(1), width - columns[:, ::-1].argmax(1), height - rows[:, ::-1].argmax(1)], 1)
    return (box * rows.any(1)[:, None]).astype(np.float32)


def overlaps(masks: Bool[np.ndarray, "n h w"], others: Bool[np.ndarray, "m h w"]) -> Float[np.ndarray, "n m"]:
    """Intersection over union of every pair; 0 where both are empty."""
    a, b = (m.reshape(len(m), int(np.prod(m.shape[1:]))).astype(np.float32) for m in (masks, others))
    both = a @ b.T
    return both / np.maximum(a.sum(1)[:, None] + b.sum(1) - both, 1)


def crop(picture: Picture, mask: Bool[np.ndarray, "h w"]) -> Picture | None:
    """The picture inside the mask's box; None for an empty mask."""
    if not mask.any():
        return None
    x0, y0, x1, y1 = boxes_of(mask[None])[0].astype(int)
    return picture[y0:y1, x0:x1]


def crop_box(picture: Picture, box: Sequence[float]) -> Picture:
    """The picture inside a box, at least one pixel of it."""
    height, width = picture.shape[:2]
    x0, y0 = (int(np.clip(np.floor(value), 0, limit - 1)) for value, limit in zip(box[:2], (width, height), strict=True))
    x1, y1 = (int(np.clip(np.ceil(value), low + 1, limit)) for value, low, limit in zip(box[2:], (x0, y0), (width, height), strict=True))
    return picture[y0:y1, x0:x1]


def _array(tensor: Tensor, dtype: type) -> np.ndarray:
    return tensor.detach().cpu().numpy().astype(dtype)


def likeness(crop: Picture, other: Picture) -> float:
    """How alike two crops are in colour, in [0, 1]: the overlap of their histograms (Swain and Ballard, 1991)."""
    return float(np.minimum(colours(crop), colours(other)).sum())


def colours(pixels: np.ndarray, where: Bool[np.ndarray, ...] | None = None) -> Float[np.ndarray, " bins"]:
    """A normalised colour histogram of a picture, or of a part of it (see `colour_bins`).

    It is smoothed over neighbouring bins, so that a little shade or another viewpoint matters little.
    """
    bins = colour_bins(pixels)
    counts = np.bincount(bins.ravel() if where is None else bins[where], minlength=SIDE * SIDE * LIGHTS)
    smooth = ndimage.gaussian_filter(counts.reshape(SIDE, SIDE, LIGHTS).astype(np.float32), 0.7, mode="nearest").ravel()
    return smooth / max(smooth.sum(), 1e-9)


SIDE, LIGHTS = 8, 3


def colour_bins(pixels: np.ndarray) -> np.ndarray:
    """The colour bin of every pixel: shares of red and green in eight steps each, brightness in three."""
    values = pixels.astype(np.float32)
    total = values.sum(-1) + 1e-3
    red, green = (np.minimum((values[..., i] / total * SIDE * 1.2).astype(np.int64), SIDE - 1) for i in (0, 1))
    light = np.minimum((total / (255 * 3) * LIGHTS).astype(np.int64), LIGHTS - 1)
    return (red * SIDE + green) * LIGHTS + light
