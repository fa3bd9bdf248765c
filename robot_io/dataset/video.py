"""Colour pictures as video, through PyAV (FFmpeg): one writer, and one decoder that walks a clip once.

Pictures are `uint8 [H, W, 3]` RGB; frame k of a recorded clip lies at k / fps seconds. Every second frame is a key frame
(LeRobot's own choice), so a random frame costs at most two decodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from robot_io.errors import UserError, nearest


@dataclass(frozen=True)
class Codec:
    """An encoder of FFmpeg, the pixel format it is fed, and the format's name as players report it."""

    encoder: str
    pixels: str
    stored: str
    name: str
    options: dict[str, str]


CODECS = {
    # Full chroma, so that the colour of an eight-pixel object survives (48 dB against 37 dB at 4:2:0; docs/datasets.md).
    "h264": Codec("libx264", "yuv444p", "yuv444p", "h264", {"crf": "18", "preset": "ultrafast", "g": "2", "bf": "0"}),
    "av1": Codec("libsvtav1", "yuv420p", "yuv420p", "av1", {"crf": "30", "preset": "12", "g": "2", "svtav1-params": "lp=1"}),
    "lossless": Codec("libx264rgb", "rgb24", "gbrp", "h264", {"qp": "0", "preset": "ultrafast", "g": "2", "bf": "0"}),
}


def codec_named(name: str) -> Codec:
    if name not in CODECS:
        raise UserError(f"video codec '{name}'", "not known", f"one of these: {nearest(name, CODECS)}", "choose one of them")
    return CODECS[name]


class VideoWriter:
    """Encodes frames into an mp4 as they come, on one thread."""

    def __init__(self, path: Path, height: int, width: int, fps: float, codec: Codec) -> None:
        rate = Fraction(fps).limit_denominator(1001)
        self._sink = _Sink(path)
        self._container = av.open(self._sink, "w", format="mp4")
        self._stream = self._container.add_stream(codec.encoder, rate=rate, options=codec.options)
        self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, codec.pixels
        self._stream.codec_context.time_base = 1 / rate
        self._stream.codec_context.thread_count = 1
        self._frames, self._closed = 0, False

    def add(self, rgb: np.ndarray) -> None:
        """Append one picture, `uint8 [H, W, 3]`."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame.pts = self._frames
        self._frames += 1
        self._container.mux(self._stream.encode(frame))
        self._sink.check()

    def close(self) -> None:
        """Flush the encoder and write the mp4's table of contents. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            self._container.mux(self._stream.encode())
            self._container.close()
        finally:
            self._sink.close()


class _Sink:
    """A file that FFmpeg always succeeds in writing. FFmpeg's mp4 writer crashes the process when the disk is full; so what cannot be
    written is dropped here, and `check` and `close` raise."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._place = self._end = 0
        self._error: OSError | None = None

    def write(self, data: bytes) -> int:
        if self._error is None:
            try:
                self._file.seek(self._place)
                self._file.write(data)
            except OSError as error:
                self._error = error
        self._place += len(data)
        self._end = max(self._end, self._place)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = offset + (0, self._place, self._end)[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            self._error = self._error or error
        self.check()


def decode(path: Path, times: np.ndarray, fps: float) -> np.ndarray:
    """The frames nearest to `times`, in one pass.

    Args:
        path: an mp4.
        times: `float64 [T]`, ascending, seconds from the start of the file.
        fps: frames per second; a frame further than half a period from its time counts as missing.

    Returns:
        `uint8 [T, H, W, 3]`.
    """
    half = 0.5 / fps
    frames: list[np.ndarray] = []
    try:
        with av.open(str(path)) as container:
            stream = _open_stream(container)
            # One frame early: rounding must not make the seek land on the key frame after the first one wanted.
            container.seek(max(0, int((times[0] - 2 * half) / stream.time_base)), stream=stream)
            for frame in container.decode(stream):
                if len(frames) == len(times) or frame.time > times[-1] + half:
                    break
                while len(frames) < len(times) and abs(frame.time - times[len(frames)]) <= half:
                    frames.append(frame.to_ndarray(format="rgb24"))
    except (av.error.FFmpegError, IndexError) as error:
        raise broken(path, f"cannot be decoded ({error})") from None
    if len(frames) < len(times):
        raise broken(path, f"no frame at {times[len(frames)]:.3f} s")
    return np.stack(frames)


def decode_image(data: bytes) -> np.ndarray:
    """An encoded picture (PNG or JPEG) as `uint8 [H, W, 3]`."""
    codec = av.CodecContext.create("png" if data[:4] == b"\x89PNG" else "mjpeg", "r")
    frames = codec.decode(av.Packet(data)) or codec.decode(None)
    return frames[0].to_ndarray(format="rgb24")


@dataclass(frozen=True)
class Facts:
    """What a video file holds, read from its packets."""

    frames: int
    height: int
    width: int


def _open_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The video of a file, to be decoded on one thread.

    Raises:
        IndexError: there is none, or its header ends before it says how the video was encoded.
    """
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise IndexError("the header does not name a codec")
    stream.codec_context.thread_count = 1
    return stream


def inspect(path: Path) -> Facts:
    """Count the whole frames of a video by walking its packets, and decode only the first.

    Raises:
        UserError: no video, or cut short.
    """
    try:
        with av.open(str(path)) as container:
            stream = _open_stream(container)
            promised = stream.frames
            packets = [packet for packet in container.demux(stream) if packet.size]
            whole = sum(not packet.is_corrupt for packet in packets)
            if whole < promised or whole < len(packets):
                raise broken(path, f"holds {whole} whole frames of the {max(promised, len(packets))} it promises")
            container.seek(0, stream=stream)
            next(container.decode(stream))
            return Facts(whole, stream.height, stream.width)
    except (av.error.FFmpegError, IndexError, StopIteration) as error:
        raise broken(path, f"cannot be read ({error})") from None


def broken(path: Path, found: str) -> UserError:
    return UserError(f"video {path}", found, "a complete video", "the file is cut short or damaged: copy or record it again")
