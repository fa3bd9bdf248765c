"""Decoding gives the frames that were asked for, wherever in the file they lie."""

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from robot_io import UserError
from robot_io.dataset.video import CODECS, VideoWriter, decode, inspect

FRAMES = 40
LEROBOTS = Path(__file__).parents[1] / "fixtures/lerobot_v21_sample/videos/chunk-000/observation.images.front/episode_000000.mp4"


@pytest.fixture(scope="module", params=[10, 12.5, 29.97])
def clip(request, tmp_path_factory):
    """A lossless video whose frame k is k everywhere."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    writer = VideoWriter(path, 16, 16, request.param, CODECS["lossless"])
    for k in range(FRAMES):
        writer.add(np.full((16, 16, 3), k, np.uint8))
    writer.close()
    return path, request.param


@settings(max_examples=40, deadline=None)
@given(first=st.integers(0, FRAMES - 1), length=st.integers(1, FRAMES))
def test_any_stretch_is_exact(clip, first, length):
    path, fps = clip
    wanted = np.arange(first, min(FRAMES, first + length))
    np.testing.assert_array_equal(decode(path, wanted / fps, fps)[:, 0, 0, 0], wanted)


def test_frames_are_counted(clip):
    facts = inspect(clip[0])
    assert (facts.frames, facts.height, facts.width) == (FRAMES, 16, 16)


def test_a_frame_beyond_the_end_is_an_error(clip):
    path, fps = clip
    with pytest.raises(UserError, match="no frame at"):
        decode(path, np.array([FRAMES - 1, FRAMES]) / fps, fps)


def test_something_that_is_no_video_is_an_error(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"hello")
    with pytest.raises(UserError, match=r"a.mp4: cannot be decoded"):
        decode(tmp_path / "a.mp4", np.zeros(1), 10)


@pytest.fixture(scope="module", params=["table last", "table first"])
def bytes_of_a_video(request, tmp_path_factory):
    """LeRobot's AV1 with the table of contents behind the pictures, or before them: then it promises what may be gone."""
    if request.param == "table last":
        return LEROBOTS.read_bytes()
    path = tmp_path_factory.mktemp("fast") / "a.mp4"
    with av.open(str(LEROBOTS)) as old, av.open(str(path), "w", options={"movflags": "faststart"}) as new:
        copied = new.add_stream_from_template(old.streams.video[0], opaque=True)
        for packet in old.demux(old.streams.video[0]):
            if packet.size:
                packet.stream = copied
                new.mux(packet)
    return path.read_bytes()


@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 1))
@example(share=0.9453125)  # the header opens, but no longer names a codec
def test_a_video_cut_anywhere_is_noticed_or_still_whole(bytes_of_a_video, tmp_path_factory, share):
    path = tmp_path_factory.getbasetemp() / "cut.mp4"
    path.write_bytes(bytes_of_a_video[: int(share * len(bytes_of_a_video))])
    try:
        inspect(path)
    except UserError as error:
        assert "cut.mp4: " in str(error)
    else:  # what is missing is at most the encoder's signature
        assert share > 0.9
        times = np.arange(60) / 10
        np.testing.assert_array_equal(decode(path, times, 10), decode(LEROBOTS, times, 10))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's file that is always full")
def test_a_full_disk_is_an_error_and_not_a_crash() -> None:
    """FFmpeg's own mp4 writer ends the process."""
    writer = VideoWriter(Path("/dev/full"), 32, 32, 10.0, CODECS["lossless"])
    noise = np.random.default_rng(0)
    with pytest.raises(OSError, match="No space left"):
        for _ in range(200):
            writer.add(noise.integers(0, 256, (32, 32, 3), np.uint8))
    with pytest.raises(OSError, match="No space left"):
        writer.close()
