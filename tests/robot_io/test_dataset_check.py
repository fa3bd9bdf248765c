"""Bad data sets: each is refused by one clear message, and a good one is not."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordings import SPEC, STEPS, record, without_depth

from robot_io import SpecMismatch, UserError
from robot_io.dataset import Dataset

LEROBOT = Path(__file__).parents[1] / "fixtures/lerobot_v3_sample"
FRONT = "videos/observation.images.front/chunk-000/file-000.mp4"


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    root = tmp_path_factory.mktemp("good") / "set"
    record(root, range(2)).finish()
    return root


@pytest.fixture
def root(good, tmp_path):
    """A good data set to spoil."""
    shutil.copytree(good, tmp_path / "set")
    return tmp_path / "set"


def edit_info(root: Path, **changes) -> None:
    path = root / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_column(path: Path, name: str, change) -> None:
    """Rewrite one column of a parquet file."""
    table = pq.read_table(path)
    values = table[name].to_pylist()
    change(values)
    place = table.schema.get_field_index(name)
    pq.write_table(table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type)), path)


def refused(root: Path, words: str, **arguments) -> None:
    with pytest.raises(UserError, match=words):
        Dataset(root).check(**arguments)


def test_a_good_data_set_passes(good):
    Dataset(good).check(spec=SPEC, cameras=("front", "wrist"))
    Dataset(good).check(spec=without_depth())  # a policy may look at less than was recorded
    Dataset(LEROBOT).check(cameras=("front", "wrist"))


def test_not_a_data_set(tmp_path):
    refused(tmp_path / "nowhere", "no such folder; expected a LeRobotDataset")
    refused(tmp_path, "no meta/info.json in it")
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text("{ not json")
    refused(tmp_path, "not valid JSON")


def test_wrong_version(root):
    edit_info(root, codebase_version="v1.6")
    refused(root, "codebase_version 'v1.6'; expected one of v3.0, v2.1")


def test_missing_key(root):
    info = json.loads((root / "meta/info.json").read_text())
    del info["fps"]
    (root / "meta/info.json").write_text(json.dumps(info))
    refused(root, "lacks fps")


def test_missing_camera(good):
    refused(good, "camera 'side': not among the cameras of .*; expected one of front, wrist", cameras=("side",))
    with pytest.raises(UserError, match="camera 'side'"):
        Dataset(good).rgb("side", 0)


def test_missing_column_and_episode(good):
    with pytest.raises(UserError, match=r"has no column 'actions'.*did you mean 'action'"):
        Dataset(good).column("actions")
    with pytest.raises(UserError, match="has no episode 7"):
        Dataset(good).rgb("front", 7)


@pytest.mark.parametrize("key", ["action", "observation.state"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_is_named_by_episode_and_frame(root, key, value):
    edit_column(root / "data/chunk-000/file-001.parquet", key, lambda rows: rows[3].__setitem__(1, value))
    refused(root, f"'{key}' holds NaN or infinite values in 1 frames, first in episode 1, frame 3")


def test_another_robot(good):
    per_dimension = ("names", "units", "low", "high", "modes")
    shorter = replace(SPEC.action, **{name: getattr(SPEC.action, name)[:3] for name in per_dimension}, gripper=None)
    with pytest.raises(SpecMismatch, match=r"action.names"):
        Dataset(good).check(spec=replace(SPEC, action=shorter))


def test_wrong_action_dimension_without_a_spec(tmp_path):
    with pytest.raises(SpecMismatch, match=r"'action' of data set .*: 7 dimensions; expected 4 \(dx, dy, dz, gripper\)"):
        theirs = without_depth()
        cameras = tuple(replace(camera, height=128, width=128) for camera in theirs.observation.cameras)
        Dataset(LEROBOT).check(spec=replace(theirs, observation=replace(theirs.observation, cameras=cameras)))


def test_wrong_picture_size_and_no_depth_without_a_spec():
    with pytest.raises(SpecMismatch, match=r"camera 'front' .*pictures of 128x128; expected 24x32"):
        Dataset(LEROBOT).check(spec=SPEC)
    cameras = tuple(replace(camera, height=128, width=128) for camera in SPEC.observation.cameras)
    with pytest.raises(SpecMismatch, match=r"camera 'front' .*no depth"):
        Dataset(LEROBOT).check(spec=replace(SPEC, observation=replace(SPEC.observation, cameras=cameras)))


@pytest.mark.parametrize("name", [FRONT, "data/chunk-000/file-001.parquet"])
def test_missing_file(root, name):
    (root / name).unlink()
    refused(root, f"{name}: missing; episode . lies in it")


@pytest.mark.parametrize("name", ["meta/tasks.parquet", "meta/episodes/chunk-000/file-001.parquet"])
def test_missing_metadata(root, name):
    (root / name).unlink()
    refused(root, r"missing|describes 1 of its episodes; expected 2")


def test_parquet_cut_short(root):
    path = root / "data/chunk-000/file-000.parquet"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(root, "file-000.parquet: cannot be read as parquet")


def test_episode_lengths_that_do_not_add_up(root):
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    edit_column(path, "length", lambda rows: rows.__setitem__(0, STEPS + 1))
    refused(root, "episode 1 has frames 5 to 10; expected a first frame of 6")


def test_fewer_frames_than_promised(root):
    path = root / "data/chunk-000/file-001.parquet"
    pq.write_table(pq.read_table(path).slice(0, STEPS - 1), path)
    refused(root, "file-001.parquet: 4 frames; expected 5")


def test_total_that_does_not_add_up(root):
    edit_info(root, total_frames=11)
    refused(root, "the episodes have 10 frames; expected 11")


def test_frames_of_another_episode(root):
    edit_column(root / "data/chunk-000/file-001.parquet", "episode_index", lambda rows: rows.__setitem__(2, 0))
    refused(root, "frame 7 says it is of episode 0; expected episode 1")


def test_video_of_another_episode(root):
    shutil.rmtree(root)
    record(root, range(1), steps=3)
    record(root, range(1, 2), steps=5)
    shutil.copy(root / FRONT, root / FRONT.replace("file-000", "file-001"))
    refused(root, "file-001.mp4: holds 3 frames, but episode 1 needs 5")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_a_video_cut_short_is_noticed(root, share):
    data = (root / FRONT).read_bytes()
    (root / FRONT).write_bytes(data[: int(share * len(data))])
    refused(root, "file-000.mp4: (cannot be read|holds)")


def test_video_of_wrong_size(root):
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features["observation.images.front"]["shape"] = [48, 32, 3]
    edit_info(root, features=features)
    refused(root, "file-000.mp4: pictures of 24x32; expected 48x32")


def test_leftovers_of_an_interrupted_recording_are_not_read(root):
    edit_info(root, total_episodes=1, total_frames=STEPS)
    data = Dataset(root)
    data.check()
    assert len(data.episodes) == 1 and len(data.column("action")) == STEPS
    assert np.isfinite(data.column("action")).all()
