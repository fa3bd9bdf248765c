"""Cameras on the robot's PC: a webcam or video through OpenCV, an Intel RealSense; both with their intrinsics kept.

A camera delivers on a thread of its own and `read` returns the newest picture, so the control loop never waits for it; a picture older
than `stale` seconds is an error. Pictures are cropped to the shape that the policy knows and resized to its size, and the intrinsics follow:
the same pixel still means the same ray.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float32, UInt8
from pydantic import BaseModel, ConfigDict, Field

from robot_io.errors import UserError
from robot_io.robots.packages import need
from robot_io.specs import CameraSpec
from robot_io.types import CameraFrame

Matrix = tuple[tuple[float, float, float], ...]


class _Config(BaseModel):
    """What every camera has.

    Attributes:
        height, width: of the pictures as the policy sees them.
        capture_height, capture_width, fps: what the device is asked for; None is its own choice.
        world_from_camera: its pose, 4 rows of 4, from a hand-eye calibration; None if unknown.
        stale: the oldest picture worth anything, seconds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    height: int = Field(128, ge=8)
    width: int = Field(128, ge=8)
    capture_height: int | None = None
    capture_width: int | None = None
    fps: int = Field(30, ge=1)
    world_from_camera: tuple[tuple[float, float, float, float], ...] | None = None
    stale: float = Field(0.5, gt=0)


class OpenCVConfig(_Config):
    """A webcam by its number, or anything else OpenCV opens: a video file, a stream's address.

    Attributes:
        intrinsics: of the captured picture, 3 rows of 3, pixels (from a chessboard calibration); None if unknown.
    """

    kind: Literal["opencv"] = "opencv"
    device: int | str = 0
    intrinsics: Matrix | None = None


class RealSenseConfig(_Config):
    """An Intel RealSense by its serial number, or the only one. Depth is aligned to the colour camera, whose factory intrinsics are used."""

    kind: Literal["realsense"] = "realsense"
    serial: str | None = None
    depth: bool = True


CameraConfig = Annotated[OpenCVConfig | RealSenseConfig, Field(discriminator="kind")]


class Camera:
    """The newest frame of a source that is read on its own thread.

    Args:
        name: for error messages.
        grab: waits for the next picture and returns it as captured; raises if there is none.
        release: frees the device.
    """

    def __init__(self, name: str, config: _Config, grab: Callable[[], CameraFrame], release: Callable[[], None]) -> None:
        self.name, self.config = name, config
        self.spec = CameraSpec(name, config.height, config.width, depth=getattr(config, "depth", False))
        self._pose = None if config.world_from_camera is None else np.array(config.world_from_camera, np.float32)
        self._grab, self._release = grab, release
        self._newest: tuple[CameraFrame, float] | None = None
        self._error: Exception | None = None
        self._closing, self._first = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"camera {name}")
        self._thread.start()

    def read(self, wait: float = 5.0) -> CameraFrame:
        """The newest frame. The first may take a while: the device wakes up.

        Raises:
            UserError: there is none, or it is too old.
        """
        if self._newest is None:
            self._first.wait(wait)
        if self._newest is None:
            raise UserError(f"camera '{self.name}'", f"no picture ({self._error or f'none within {wait:g} s'})", "a picture",
                            "check its cable, number and permissions")
        frame, taken = self._newest
        if (age := time.monotonic() - taken) > self.config.stale:
            raise UserError(f"camera '{self.name}'", f"its last picture is {age:.1f} s old ({self._error or 'no error'})",
                            f"one of the last {self.config.stale:g} s", "hold the robot; check the camera")
        return frame

    def close(self) -> None:
        self._closing.set()
        self._thread.join(2.0)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                frame = self._grab()
                self._newest = replace(fit(frame, self.config.height, self.config.width), world_from_camera=self._pose), time.monotonic()
                self._first.set()
            except Exception as error:
                self._error = error
                self._closing.wait(0.2)
        self._release()


def open_camera(name: str, config: CameraConfig) -> Camera:
    """The camera that a configuration names.

    Raises:
        UserError: its driver is not installed, or the device cannot be opened.
    """
    return (_opencv if isinstance(config, OpenCVConfig) else _realsense)(name, config)


def _opencv(name: str, config: OpenCVConfig) -> Camera:
    cv2 = need("cv2", f"camera '{name}'", "run: pip install 'swapvla[cameras]'")
    device = cv2.VideoCapture(config.device)
    for setting, value in ((cv2.CAP_PROP_FRAME_HEIGHT, config.capture_height), (cv2.CAP_PROP_FRAME_WIDTH, config.capture_width)):
        if value is not None:
            device.set(setting, value)
    if not device.isOpened():
        raise UserError(f"camera '{name}'", f"device {config.device!r} cannot be opened", "a camera that OpenCV finds",
                        "check its number (`v4l2-ctl --list-devices`), and that nothing else is using it")
    intrinsics = None if config.intrinsics is None else np.array(config.intrinsics, np.float32)

    def grab() -> CameraFrame:
        found, picture = device.read()
        if not found:
            raise OSError("the device gave no picture")
        return CameraFrame(np.ascontiguousarray(picture[:, :, ::-1]), intrinsics=intrinsics)

    return Camera(name, config, grab, device.release)


def _realsense(name: str, config: RealSenseConfig) -> Camera:
    rs = need("pyrealsense2", f"camera '{name}'", "run: pip install 'swapvla[cameras]'")
    need("cv2", f"camera '{name}'", "run: pip install 'swapvla[cameras]'")
    pipeline, settings = rs.pipeline(), rs.config()
    if config.serial is not None:
        settings.enable_device(config.serial)
    height, width = config.capture_height or 480, config.capture_width or 640
    settings.enable_stream(rs.stream.color, width, height, rs.format.rgb8, config.fps)
    if config.depth:
        settings.enable_stream(rs.stream.depth, width, height, rs.format.z16, config.fps)
    try:
        profile = pipeline.start(settings)
    except RuntimeError as error:
        raise UserError(f"camera '{name}'", f"RealSense {config.serial or ''} cannot be started ({error})", f"one that gives {width}x{height} "
                        f"at {config.fps} Hz", "check its serial number, its cable (USB 3) and the size asked for") from None
    lens = profile.get_stream(rs.stream.color).as_video_stream_profile().get_intrinsics()
    intrinsics = np.array([[lens.fx, 0, lens.ppx], [0, lens.fy, lens.ppy], [0, 0, 1]], np.float32)
    align = rs.align(rs.stream.color)
    scale = profile.get_device().first_depth_sensor().get_depth_scale() if config.depth else 0.0

    def grab() -> CameraFrame:
        frames = align.process(pipeline.wait_for_frames(1000)) if config.depth else pipeline.wait_for_frames(1000)
        depth = np.asanyarray(frames.get_depth_frame().get_data()).astype(np.float32) * scale if config.depth else None
        return CameraFrame(np.array(frames.get_color_frame().get_data()), depth, intrinsics)

    return Camera(name, config, grab, pipeline.stop)


def fit(frame: CameraFrame, height: int, width: int) -> CameraFrame:
    """The middle of a frame in the shape of `height` x `width`, resized to it; depth by its nearest pixel, intrinsics as they become."""
    tall, wide = frame.rgb.shape[:2]
    scale = min(tall / height, wide / width)
    crop_height, crop_width = round(height * scale), round(width * scale)
    top, left = (tall - crop_height) // 2, (wide - crop_width) // 2
    window = (slice(top, top + crop_height), slice(left, left + crop_width))
    intrinsics = frame.intrinsics
    if intrinsics is not None:
        # Pixel centres are at whole numbers: x' + ½ = (x - left + ½) / scale.
        ratio = np.array([width / crop_width, height / crop_height])
        intrinsics = intrinsics.astype(np.float32).copy()
        intrinsics[:2, 2] = (intrinsics[:2, 2] - (left, top) + 0.5) * ratio - 0.5
        intrinsics[[0, 0, 1], [0, 1, 1]] *= ratio[[0, 0, 1]]
    depth = None if frame.depth is None else _resize(frame.depth[window], height, width, nearest=True)
    return CameraFrame(_resize(frame.rgb[window], height, width), depth, intrinsics, frame.world_from_camera)


def _resize(picture: UInt8[np.ndarray, "h w 3"] | Float32[np.ndarray, "h w"], height: int, width: int, nearest: bool = False) -> np.ndarray:
    if picture.shape[:2] == (height, width):
        return np.ascontiguousarray(picture)
    import cv2

    smaller = height < picture.shape[0]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_NEAREST if nearest else cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
