"""Cameras: a video file through OpenCV, a stand-in for pyrealsense2, and pixels that still mean the same ray after cropping and resizing."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from robot_io import CameraFrame, UserError
from robot_io.robots.cameras import OpenCVConfig, RealSenseConfig, fit, open_camera

cv2 = pytest.importorskip("cv2")
INTRINSICS = np.array([[600, 0, 321.5], [0, 610, 237.2], [0, 0, 1]], np.float32)


@given(height=st.integers(40, 300), width=st.integers(40, 300))
def test_a_ray_is_the_same_ray_in_the_fitted_picture(height: int, width: int) -> None:
    fitted = fit(CameraFrame(np.zeros((480, 640, 3), np.uint8), np.ones((480, 640), np.float32), INTRINSICS), height, width)
    assert fitted.rgb.shape == (height, width, 3) and fitted.depth.shape == (height, width)
    scale = min(480 / height, 640 / width)
    crop = np.array([round(width * scale), round(height * scale)])
    corner = (np.array([640, 480]) - crop) // 2
    pixel = np.array([17.0, 5.0])
    before = (pixel + 0.5) * crop / (width, height) - 0.5 + corner  # where the fitted pixel was
    rays = [np.linalg.solve(k.astype(float), np.append(p, 1)) for k, p in ((fitted.intrinsics, pixel), (INTRINSICS, before))]
    np.testing.assert_allclose(rays[0], rays[1], atol=1e-4)


def test_a_picture_of_the_right_size_is_untouched() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    fitted = fit(CameraFrame(rgb, intrinsics=INTRINSICS), 48, 64)
    np.testing.assert_array_equal(fitted.rgb, rgb)
    np.testing.assert_array_equal(fitted.intrinsics, INTRINSICS)


def test_opencv_reads_colours_in_the_right_order_and_says_when_it_has_stopped(tmp_path: Path) -> None:
    film = cv2.VideoWriter(str(tmp_path / "red.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 30, (64, 48))
    for _ in range(5):
        film.write(np.full((48, 64, 3), (0, 0, 250), np.uint8))  # OpenCV's order: blue, green, red
    film.release()
    pose = np.eye(4).tolist()
    camera = open_camera("front", OpenCVConfig(device=str(tmp_path / "red.avi"), height=32, width=32, intrinsics=INTRINSICS.tolist(),
                                               world_from_camera=pose, stale=0.3))
    frame = camera.read()
    assert frame.rgb.shape == (32, 32, 3) and frame.rgb[..., 0].mean() > 230 and frame.rgb[..., 2].mean() < 20
    assert frame.intrinsics is not None and frame.world_from_camera.shape == (4, 4)
    time.sleep(0.5)  # the film is over
    with pytest.raises(UserError, match=r"camera 'front': its last picture is .* s old"):
        camera.read()
    camera.close()


def test_a_device_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be opened"):
        open_camera("front", OpenCVConfig(device=str(tmp_path / "none.avi")))


def test_realsense_keeps_depth_in_metres_and_the_factory_intrinsics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the calls of pyrealsense2 that the driver makes, not against a device."""
    colour = np.full((480, 640, 3), 90, np.uint8)
    depth = np.full((480, 640), 1500, np.uint16)
    frames = SimpleNamespace(get_color_frame=lambda: SimpleNamespace(get_data=lambda: colour),
                             get_depth_frame=lambda: SimpleNamespace(get_data=lambda: depth))
    lens = SimpleNamespace(fx=600, fy=610, ppx=320, ppy=240)
    profile = SimpleNamespace(
        get_stream=lambda kind: SimpleNamespace(as_video_stream_profile=lambda: SimpleNamespace(get_intrinsics=lambda: lens)),
        get_device=lambda: SimpleNamespace(first_depth_sensor=lambda: SimpleNamespace(get_depth_scale=lambda: 0.001)))
    asked = []
    pipeline = SimpleNamespace(start=lambda settings: profile, wait_for_frames=lambda ms: time.sleep(0.01) or frames, stop=lambda: None)
    settings = SimpleNamespace(enable_device=lambda serial: asked.append(serial), enable_stream=lambda *what: asked.append(what))
    monkeypatch.setitem(sys.modules, "pyrealsense2", SimpleNamespace(
        pipeline=lambda: pipeline, config=lambda: settings, align=lambda kind: SimpleNamespace(process=lambda found: found),
        stream=SimpleNamespace(color="color", depth="depth"), format=SimpleNamespace(rgb8="rgb8", z16="z16")))
    camera = open_camera("front", RealSenseConfig(serial="123", height=96, width=96))
    frame = camera.read()
    assert asked == ["123", ("color", 640, 480, "rgb8", 30), ("depth", 640, 480, "z16", 30)] and camera.spec.depth
    np.testing.assert_allclose(frame.depth, 1.5)
    np.testing.assert_allclose(frame.intrinsics[[0, 1], [0, 1]], [120, 122])
    camera.close()


def test_a_missing_driver_is_named() -> None:
    if "pyrealsense2" not in sys.modules:
        with pytest.raises(UserError, match=r"pyrealsense2.*swapvla\[cameras\]"):
            open_camera("front", RealSenseConfig())
