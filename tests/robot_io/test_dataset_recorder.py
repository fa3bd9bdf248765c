"""Recording: what goes in comes out, what is killed resumes, what does not fit is refused before anything is written."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from recordings import INTRINSICS, SPEC, STEPS, episode, frame, record

from robot_io import CameraFrame, SpecMismatch, UserError
from robot_io.dataset import Dataset, Recorder


def snapshot(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def assert_holds(root: Path, seeds: range, steps: int = STEPS) -> None:
    """The data set is exactly these recorded episodes."""
    data = Dataset(root)
    data.check(spec=SPEC)
    assert [(e.index, e.start, e.length) for e in data.episodes] == [(i, i * steps, steps) for i in range(len(seeds))]
    for made, seed in zip(data.episodes, seeds, strict=True):
        frames = episode(seed, steps)
        assert made.instruction == frames[0][0].instruction
        assert made.success == (seed % 3 != 0)
        rows = slice(made.start, made.stop)
        np.testing.assert_array_equal(data.column("action")[rows], [action for _, action in frames])
        np.testing.assert_array_equal(data.column("observation.state")[rows], [seen.state for seen, _ in frames])


def test_numbers_come_back_exactly(tmp_path):
    record(tmp_path / "set", range(3)).finish()
    assert_holds(tmp_path / "set", range(3))
    data = Dataset(tmp_path / "set")
    assert data.spec == SPEC and data.fps == 10 and data.cameras == ("front", "wrist")
    assert data.tasks == ["pick up the red cube", "open the drawer"]
    np.testing.assert_array_equal(data.column("task_index"), np.repeat([0, 1, 0], STEPS))
    np.testing.assert_array_equal(data.column("index"), np.arange(3 * STEPS))
    np.testing.assert_allclose(data.column("timestamp"), np.tile(np.arange(STEPS) / 10, 3), atol=1e-7)
    last = np.arange(3 * STEPS) % STEPS == STEPS - 1
    np.testing.assert_array_equal(data.column("next.done"), last)
    np.testing.assert_array_equal(data.column("next.reward"), last * np.repeat([0.0, 1.0, 1.0], STEPS))


def test_cameras_come_back(tmp_path):
    record(tmp_path / "set", range(2))
    data = Dataset(tmp_path / "set")
    for made in data.episodes:
        seen = [observation for observation, _ in episode(made.index)]
        depth, poses = data.depth("front", made), data.camera_pose("front", made)
        np.testing.assert_allclose(depth, [o.cameras["front"].depth for o in seen], atol=0.5001e-3)
        np.testing.assert_array_equal(poses, [o.cameras["front"].world_from_camera for o in seen])
        for camera in data.cameras:
            error = np.mean((data.rgb(camera, made) - np.array([o.cameras[camera].rgb for o in seen], float)) ** 2)
            assert 10 * np.log10(255**2 / error) > 30
    np.testing.assert_array_equal(data.intrinsics("front"), INTRINSICS)
    assert data.intrinsics("wrist") is None and data.depth("wrist", 0) is None and data.camera_pose("wrist", 0) is None


def test_lossless_pictures_come_back_bit_for_bit(tmp_path):
    record(tmp_path / "set", range(1), codec="lossless")
    pictures = Dataset(tmp_path / "set").rgb("wrist", 0)
    np.testing.assert_array_equal(pictures, [seen.cameras["wrist"].rgb for seen, _ in episode(0)])


def test_an_episode_longer_than_a_row_group_stays_in_order(tmp_path):
    record(tmp_path / "set", range(2), steps=150)
    assert_holds(tmp_path / "set", range(2), steps=150)
    data = Dataset(tmp_path / "set")
    np.testing.assert_allclose(data.depth("front", 1)[140], frame(1, 140)[0].cameras["front"].depth, atol=0.5001e-3)
    assert pq.ParquetFile(data.entries[0].data).num_row_groups == 3


def test_unmeasured_depth_is_zero(tmp_path):
    seen, action = frame(0, 0)
    depth = seen.cameras["front"].depth.copy()
    depth[0, :4] = [np.nan, np.inf, -1.0, 100.0]
    recorder = Recorder(tmp_path / "set", SPEC)
    recorder.add(replace(seen, cameras=seen.cameras | {"front": replace(seen.cameras["front"], depth=depth)}), action)
    recorder.save_episode(success=True)
    found = Dataset(tmp_path / "set").depth("front", 0)[0]
    np.testing.assert_array_equal(found[0, :4], np.zeros(4))
    np.testing.assert_allclose(found[1:], depth[1:], atol=0.5001e-3)


def test_recording_goes_on_where_it_stopped_and_touches_nothing_recorded(tmp_path):
    record(tmp_path / "set", range(2)).finish()
    before = snapshot(tmp_path / "set")
    recorder = record(tmp_path / "set", range(2, 4))
    assert recorder.episodes == 4
    assert_holds(tmp_path / "set", range(4))
    after = snapshot(tmp_path / "set")
    changed = {name for name in before if before[name] != after[name]}
    assert changed <= {"meta/info.json", "meta/stats.json", "meta/tasks.parquet"}


def test_a_discarded_episode_leaves_no_trace(tmp_path):
    recorder = record(tmp_path / "set", range(1))
    before = snapshot(tmp_path / "set")
    seen, action = frame(9, 0)
    recorder.add(replace(seen, instruction="never saved"), action)
    recorder.discard_episode()
    assert snapshot(tmp_path / "set") == before
    recorder.add(*frame(1, 0))
    recorder.save_episode(success=True)
    assert Dataset(tmp_path / "set").tasks == ["pick up the red cube", "open the drawer"]


class Killed(BaseException):
    """Stands in for SIGKILL: nobody catches it."""


@pytest.mark.parametrize("saved", [0, 1])
@pytest.mark.parametrize("renames", range(8))
def test_killed_while_saving_it_resumes_with_the_complete_episodes(tmp_path, monkeypatch, saved, renames):
    # An episode is saved by 7 renames: 2 videos, data, tasks, episodes, stats and, last, info (the first adds the side file).
    root = tmp_path / "set"
    record(root, range(saved))
    calls = 0
    really_replace = os.replace

    def replace_or_die(source, target):
        nonlocal calls
        if calls == renames:
            raise Killed
        calls += 1
        really_replace(source, target)

    monkeypatch.setattr(os, "replace", replace_or_die)
    with pytest.raises(Killed) if renames < 7 + (saved == 0) else pytest.MonkeyPatch.context():
        record(root, range(saved, saved + 1))
    monkeypatch.undo()
    if (root / "meta/info.json").exists():
        assert_holds(root, range(len(Dataset(root).episodes)))  # readable before anybody resumes
    recorder = Recorder(root, SPEC)
    assert recorder.episodes == saved + (renames >= 7 + (saved == 0))
    assert not list(root.rglob("*.part"))
    for seed in range(recorder.episodes, 3):
        record(root, range(seed, seed + 1))
    assert_holds(root, range(3))
    np.testing.assert_allclose(Dataset(root).stats["action"]["mean"], Dataset(root).column("action").mean(axis=0), atol=1e-6)


def test_killed_by_the_system_it_resumes(tmp_path):
    root = tmp_path / "set"
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r}); from recordings import *\n" \
           f"from pathlib import Path\nrecord(Path({str(root)!r}), range(1000))"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        while not (root / "meta/episodes/chunk-000/file-002.parquet").exists():
            assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    recorder = Recorder(root, SPEC)
    assert recorder.episodes >= 2
    assert_holds(root, range(recorder.episodes))


def spoilt(name):
    seen, action = frame(0, 1)
    front = seen.cameras["front"]
    return {
        "NaN in action": (seen, np.array([0, np.nan, 0, 0], np.float32)),
        "action of wrong size": (seen, action[:3]),
        "infinite state": (replace(seen, state=np.array([0, 0, np.inf], np.float32)), action),
        "state of wrong size": (replace(seen, state=seen.state[:2]), action),
        "missing camera": (replace(seen, cameras={"front": front}), action),
        "picture of wrong size": (replace(seen, cameras=seen.cameras | {"wrist": CameraFrame(front.rgb[:16])}), action),
        "no depth": (replace(seen, cameras=seen.cameras | {"front": replace(front, depth=None)}), action),
        "no pose": (replace(seen, cameras=seen.cameras | {"front": replace(front, world_from_camera=None)}), action),
        "other intrinsics": (replace(seen, cameras=seen.cameras | {"front": replace(front, intrinsics=INTRINSICS * 2)}), action),
    }[name]


@pytest.mark.parametrize(("name", "words"), [
    ("NaN in action", "recorded action: NaN or infinite in dy"),
    ("action of wrong size", r"recorded action: shape \(3,\); expected \(4,\)"),
    ("infinite state", "recorded state: NaN or infinite in z"),
    ("state of wrong size", r"recorded state: shape \(2,\); expected \(3,\)"),
    ("missing camera", "camera 'wrist': missing; the observation has front"),
    ("picture of wrong size", "camera 'wrist': a picture of 16x32; expected 24x32"),
    ("no depth", "camera 'front': no depth"),
    ("no pose", "camera 'front': no pose"),
    ("other intrinsics", "camera 'front': intrinsics"),
])
def test_a_bad_frame_is_refused_and_the_episode_goes_on_without_it(tmp_path, name, words):
    recorder = Recorder(tmp_path / "set", SPEC)
    recorder.add(*frame(0, 0))
    with pytest.raises(UserError, match=words):
        recorder.add(*spoilt(name))
    recorder.add(*frame(0, 1))
    recorder.save_episode(success=True)
    data = Dataset(tmp_path / "set")
    data.check()
    np.testing.assert_array_equal(data.column("action"), [frame(0, 0)[1], frame(0, 1)[1]])


def test_a_bad_first_frame_writes_nothing(tmp_path):
    recorder = Recorder(tmp_path / "set", SPEC)
    with pytest.raises(UserError):
        recorder.add(*spoilt("NaN in action"))
    assert not (tmp_path / "set").exists()


def test_another_spec_is_refused_and_every_difference_named(tmp_path):
    record(tmp_path / "set", range(1))
    before = snapshot(tmp_path / "set")
    other = replace(SPEC, action=replace(SPEC.action, modes=("absolute",) * 4, rate_hz=20.0))
    both = r"(?s)action.modes: .*delta.*absolute.*action.rate_hz: the data set has 10.0, this robot 20.0"
    with pytest.raises(SpecMismatch, match=both):
        Recorder(tmp_path / "set", other)
    assert snapshot(tmp_path / "set") == before


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty and not recorded by this project"):
        Recorder(tmp_path, SPEC)
    fixture = Path(__file__).parents[1] / "fixtures/lerobot_v21_sample"
    shutil.copytree(fixture, tmp_path / "theirs")
    with pytest.raises(UserError, match="not recorded by this project"):
        Recorder(tmp_path / "theirs", SPEC)


def test_codecs(tmp_path):
    with pytest.raises(UserError, match=r"video codec 'h265'.*did you mean 'h264'"):
        Recorder(tmp_path / "set", SPEC, codec="h265")
    record(tmp_path / "set", range(1), codec="lossless")
    with pytest.raises(UserError, match="resume with codec='lossless'"):
        Recorder(tmp_path / "set", SPEC)


def test_an_empty_episode_is_refused(tmp_path):
    with pytest.raises(UserError, match="an episode without frames"):
        Recorder(tmp_path / "set", SPEC).save_episode(success=True)
