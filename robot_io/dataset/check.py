"""Bad input, found before any compute is spent: every check of `Dataset.check`, cheapest first.

Nothing is decoded but the first picture of each video; a video that was cut short shows by counting its packets.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from robot_io.dataset import columns, video
from robot_io.dataset.layout import ACTION, DEPTH, STATE, camera_keys
from robot_io.errors import SpecMismatch, UserError
from robot_io.specs import RobotSpec, missing_camera, require_compatible

if TYPE_CHECKING:
    from robot_io.dataset.reader import Dataset


def check(data: Dataset, spec: RobotSpec | None, cameras: tuple[str, ...]) -> None:
    """Run every check; the first that fails raises."""
    check_cameras(data, cameras)
    if spec is not None:
        check_spec(data, spec)
    check_files_exist(data)
    check_lengths(data)
    check_numbers(data)
    check_videos(data)


def check_cameras(data: Dataset, cameras: tuple[str, ...]) -> None:
    for camera in cameras:
        if camera not in data.cameras:
            raise missing_camera(camera, data.cameras, f"data set {data.root}")


def check_spec(data: Dataset, spec: RobotSpec) -> None:
    """Whether the data set fits a robot: by its own specification if it has one, else by the sizes in `info.json`."""
    if data.spec is not None:
        require_compatible(spec, data.spec, thing=f"data set {data.root}")
    check_cameras(data, spec.observation.camera_names)
    for camera in spec.observation.cameras:
        found = data.picture_size(camera.name)
        if found != (camera.height, camera.width):
            raise SpecMismatch(f"camera '{camera.name}' of data set {data.root}", f"pictures of {found[0]}x{found[1]}",
                               f"{camera.height}x{camera.width}, as robot '{spec.robot}' gives", "use that robot's own data")
        if camera.depth and DEPTH + camera.name not in data.info["features"]:
            raise SpecMismatch(f"camera '{camera.name}' of data set {data.root}", "no depth",
                               f"depth, as robot '{spec.robot}' gives", "record with depth, or ask for a camera without it")
    for key, names in ((ACTION, spec.action.names), (STATE, spec.observation.state)):
        if names and data.shape(key) != (len(names),):
            raise SpecMismatch(f"'{key}' of data set {data.root}", f"{data.shape(key)[0]} dimensions",
                               f"{len(names)} ({', '.join(names)}) for robot '{spec.robot}'", "use that robot's own data")


def check_files_exist(data: Dataset) -> None:
    for entry in data.entries:
        for path in entry.files:
            if not path.is_file():
                raise UserError(f"data set file {path}", f"missing; episode {entry.index} lies in it",
                                "every file that meta/ names", "copy the data set again")


def check_lengths(data: Dataset) -> None:
    """Episodes follow one another without a gap, and the files hold as many frames as `meta/` promises."""
    start = 0
    for position, entry in enumerate(data.entries):
        if entry.start != start or entry.length < 1:
            raise _uneven(data.root, f"episode {entry.index} has frames {entry.start} to {entry.start + entry.length}",
                          f"a first frame of {start} and at least one frame")
        start += entry.length
        if entry.index != position:
            raise _uneven(data.root, f"episode {entry.index} stands at place {position}", "consecutive episodes")
    if start != data.info["total_frames"]:
        raise _uneven(data.root, f"the episodes have {start} frames", f"{data.info['total_frames']}, as meta/info.json says")
    for path, entries in by_file((entry.data, entry) for entry in data.entries).items():
        rows, names = columns.count_rows(path)
        promised = sum(entry.length for entry in entries)
        if rows != promised:
            raise _uneven(path, f"{rows} frames", f"{promised}, as meta/ says")
        wanted = [key for key, feature in data.info["features"].items() if feature["dtype"] != "video"]
        if absent := set(wanted) - set(names):
            raise UserError(f"data set file {path}", f"lacks the column {', '.join(sorted(absent))}",
                            "every feature of meta/info.json", "copy or convert the data set again")
    episode_index = data.column("episode_index")
    expected = np.repeat([entry.index for entry in data.entries], [entry.length for entry in data.entries])
    if (wrong := np.flatnonzero(episode_index != expected)).size:
        raise _uneven(data.root, f"frame {wrong[0]} says it is of episode {episode_index[wrong[0]]}",
                      f"episode {expected[wrong[0]]}, as meta/ says")


def check_numbers(data: Dataset) -> None:
    """Actions are there, and they and the state are finite."""
    data.shape(ACTION)
    for key in (ACTION, STATE):
        if key not in data.info["features"]:
            continue
        values = data.column(key)
        bad = ~np.isfinite(values.reshape(len(values), -1).astype(np.float64)).all(axis=1)
        if (frames := np.flatnonzero(bad)).size:
            entry = next(entry for entry in data.entries if entry.start <= frames[0] < entry.start + entry.length)
            raise UserError(
                f"data set {data.root}", f"'{key}' holds NaN or infinite values in {frames.size} frames, first in episode "
                f"{entry.index}, frame {frames[0] - entry.start}", "finite numbers", "remove that episode or record it again",
            )


def check_videos(data: Dataset) -> None:
    """Every video holds the pictures that its episodes need, at the size that `info.json` says."""
    clips = ((clip.path, (key, entry)) for entry in data.entries for key, clip in entry.clips.items())
    names = {key: camera for camera, key in camera_keys(data.info).items()}
    for path, users in by_file(clips).items():
        facts = video.inspect(path)
        for key, entry in users:
            last = entry.clips[key].start + (entry.length - 1) / data.fps
            needed = round(last * data.fps) + 1
            if facts.frames < needed:
                raise video.broken(path, f"holds {facts.frames} frames, but episode {entry.index} needs {needed}")
        size = data.picture_size(names[users[0][0]]) if users[0][0] in names else None
        if size is not None and (facts.height, facts.width) != size:
            raise UserError(f"video {path}", f"pictures of {facts.height}x{facts.width}",
                            f"{size[0]}x{size[1]}, as meta/info.json says", "copy or record it again")


def by_file(pairs) -> dict[Path, list]:
    """Group `(path, thing)` pairs by path, in order."""
    grouped: dict[Path, list] = {}
    for path, thing in pairs:
        grouped.setdefault(path, []).append(thing)
    return grouped


def _uneven(where: Path, found: str, expected: str) -> UserError:
    return UserError(f"data set {where}", found, expected, "its files do not belong together: copy the data set again")
