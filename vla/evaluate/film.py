"""A trial as a film: every camera's picture side by side, one frame per control step, as an mp4 through PyAV.

`Film` records one while it happens; `write_wall` shows many trials at once, each with its instruction and how it ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8

from robot_io import Observation
from robot_io.files import replacing

Frame = UInt8[np.ndarray, "h w 3"]
SUCCESS, FAILURE, RUNNING = (46, 160, 67), (207, 54, 54), (120, 124, 130)
CAPTION = 22
"""Height of a caption, pixels."""
LINGER_SECONDS = 1.5
"""How long a wall of films rests on its last picture."""


class Film:
    """An observer for `run_episode` that keeps what the cameras saw."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def __call__(self, observation: Observation, action: np.ndarray) -> None:
        self.add(observation)

    def add(self, observation: Observation) -> None:
        self.frames.append(np.concatenate([frame.rgb for frame in observation.cameras.values()], axis=1))


def write_film(path: Path | str, frames: Iterable[Frame], rate_hz: float) -> None:
    """Write an H.264 film that browsers play. Width and height must be even."""
    with replacing(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream = None
        for frame in frames:
            if stream is None:
                stream = container.add_stream("libx264", rate=round(rate_hz), options={"crf": "20", "preset": "veryfast"})
                stream.height, stream.width, stream.pix_fmt = frame.shape[0], frame.shape[1], "yuv420p"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode())


def read_film(path: Path | str) -> UInt8[np.ndarray, "t h w 3"]:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def write_wall(path: Path | str, films: Sequence[UInt8[np.ndarray, "t h w 3"]], captions: Sequence[str],
               successes: Sequence[bool], rate_hz: float, *, columns: int = 3) -> None:
    """All films at once in a grid. A trial that has ended rests on its last picture, framed green or red."""
    length = max(map(len, films)) + round(LINGER_SECONDS * rate_hz)
    tiles = [_tile_pictures(film, caption, success) for film, caption, success in zip(films, captions, successes, strict=True)]
    write_film(path, (_grid([tile[min(t, len(tile) - 1)] for tile in tiles], columns) for t in range(length)), rate_hz)


def _tile_pictures(film: UInt8[np.ndarray, "t h w 3"], caption: str, success: bool) -> list[Frame]:
    running = _strip(film.shape[2], caption, RUNNING)
    ended = _strip(film.shape[2], f"{caption}: {'success' if success else 'failure'}", SUCCESS if success else FAILURE)
    return [np.concatenate([running, frame]) for frame in film] + [np.concatenate([ended, film[-1]])]


def _strip(width: int, text: str, colour: tuple[int, int, int]) -> Frame:
    from PIL import Image, ImageDraw, ImageFont

    strip = Image.new("RGB", (width, CAPTION), colour)
    font, size = ImageFont.load_default(13), 13
    while font.getlength(text) > width - 10 and size > 7:
        size -= 1
        font = ImageFont.load_default(size)
    ImageDraw.Draw(strip).text((6, CAPTION / 2), text, fill="white", font=font, anchor="lm")
    return np.asarray(strip)


def _grid(tiles: list[Frame], columns: int, gap: int = 4) -> Frame:
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 24, np.uint8)
    for (top, left), tile in zip(_corners(rows, columns, height + gap, width + gap, gap), tiles, strict=False):
        sheet[top:top + height, left:left + width] = tile
    return np.pad(sheet, [(0, sheet.shape[0] % 2), (0, sheet.shape[1] % 2), (0, 0)], mode="edge")


def _corners(rows: int, columns: int, high: int, wide: int, gap: int) -> Iterator[tuple[int, int]]:
    return ((gap + row * high, gap + column * wide) for row in range(rows) for column in range(columns))
