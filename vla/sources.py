"""One data set as the policy sees it: its cameras, actions and state under the policy's names, in the policy's order.

The first data set (`data.root`) decides what the policy drives. Others (`data.mixture`) may be mixed with it if, once renamed, they mean
the same: same units, same mode (absolute, delta, relative), frame, rotation and gripper values of every action, same rate, pictures of
the same proportions (of another size, they are scaled). What another robot lacks may be left out where there is an honest
stand-in, and is refused elsewhere:

    a camera      black
    an action     0 if it is a movement (delta, relative), open if it is the gripper: that robot did not do it
    a state       the first data set's mean, which is nothing to the policy
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from robot_io import RobotSpec, SpecMismatch, UserError
from robot_io.dataset import Dataset, Episode, infer_spec
from robot_io.errors import nearest
from robot_io.specs import ActionSpec
from vla.cache import files_digest, key_of
from vla.frames import Shelf, Track
from vla.recipe import Data, Mixed
from vla.store import Decoder, Store, View, frame_bytes, threads
from vla.streaming import Stream

UNKNOWN = "unknown"
"""What `infer_spec` says of units, frame and rotation: compatible with everything."""


@dataclass
class Source:
    """Columns in memory, pictures on demand.

    Attributes:
        spec: as the policy sees it: all the same, whichever data set.
        views: its cameras; those it lacks are left out.
        actions, state: `float32 [N, A]` and `[N, S]`.
        training, validation: frames of its own, by held-out episodes.
        lengths: of the training episodes.
    """

    dataset: Dataset
    spec: RobotSpec
    views: tuple[View, ...]
    actions: Float[np.ndarray, "n a"]
    state: Float[np.ndarray, "n s"]
    weight: float
    mapping: tuple = ()

    def split(self, data: Data) -> None:
        """Say which frames are trained on and which are held out."""
        kept = [episode for episode in self.dataset.episodes if episode.success is not False or not data.successes_only]
        held_out, rest = split_episodes(kept, data.validation)
        self.training, self.validation = frames_of(rest), frames_of(held_out)
        self.lengths = tuple(episode.length for episode in rest)
        if not len(self.training):
            raise UserError(f"data set {self.dataset.root}", f"{len(self.dataset.episodes)} episodes, none left to train on",
                            "at least one successful demonstration", "record some, or set data.successes_only=false")

    def __len__(self) -> int:
        return len(self.actions)

    @cached_property
    def content(self) -> str:
        """A digest of its files."""
        return files_digest(self.dataset.root)

    @property
    def digest(self) -> str:
        """Of its content, and of what was renamed or left out."""
        return key_of(content=self.content, mapping=self.mapping) if self.mapping else self.content

    @property
    def end(self) -> Int[np.ndarray, " n"]:
        """Where each frame's episode ends."""
        return np.repeat([e.stop for e in self.dataset.episodes], [e.length for e in self.dataset.episodes])

    def instructions(self, index: Int[np.ndarray, " b"]) -> list[str]:
        tasks, column = self.dataset.tasks, self.dataset.column("task_index")
        return [tasks[task] for task in column[index]]

    def stream_capacity(self, data: Data, share: float) -> int:
        """Frames that may be held in memory, with depth if need be."""
        return max(1, int(1e9 * data.stream_gb * share / frame_bytes(self.views, depth=True)))

    def shelf(self, start: int, data: Data, cache: Path, track: Track, *, depth: bool, share: float) -> Shelf:
        """Its pictures, as frames `start` and on of all. `share` of the memory for streaming is its own."""
        decoder = Decoder(self.dataset, self.views, depth=depth)
        if data.store == "stream":
            reader = Stream(decoder, self.stream_capacity(data, share), threads(data))
        else:
            reader = Store(decoder, self.content, data, cache, track)
        found = {view.name: decoder.intrinsics(view) for view in self.views} if depth else {}
        return Shelf(reader, start, {name: matrix for name, matrix in found.items() if matrix is not None})


def open_first(data: Data) -> Source:
    """The data set that decides what the policy drives, checked.

    Raises:
        UserError: whatever makes it unfit for training, before anything is decoded.
    """
    dataset = Dataset(data.root)
    spec = specification(dataset, data.action_mode, "data.")
    cameras = data.cameras or spec.observation.camera_names
    dataset.check(spec.with_cameras(cameras), cameras)
    views = tuple(View(camera.name, camera.name, camera.height, camera.width)
                  for camera in spec.with_cameras(cameras).observation.cameras)
    state = (_column(dataset, "observation.state") if spec.observation.state
             else np.empty((len(dataset), 0), np.float32))
    source = Source(dataset, spec, views, _column(dataset, "action"), state, data.weight)
    source.split(data)
    return source


def open_mixed(part: Mixed, place: int, first: Source, data: Data) -> Source:
    """A further data set under the names of the first one, checked.

    Raises:
        UserError: it cannot be mixed with the first; lists every reason.
    """
    where = f"data.mixture.{place}"
    dataset = Dataset(part.root)
    theirs = specification(dataset, part.action_mode, f"{where}.")
    ours = first.spec.with_cameras(tuple(view.name for view in first.views))
    cameras = _renamed(part.cameras, ours.observation.camera_names, theirs.observation.camera_names, f"{where}.cameras")
    actions = _renamed(part.actions, ours.action.names, theirs.action.names, f"{where}.actions")
    state = _renamed(part.state, ours.observation.state, theirs.observation.state, f"{where}.state")
    dataset.check(theirs.with_cameras(tuple(name for name in cameras if name)), tuple(name for name in cameras if name))
    wrong = [*_action_misfits(ours.action, theirs.action, actions), *_camera_misfits(first, theirs, cameras)]
    if wrong:
        raise SpecMismatch(f"data set {part.root}", f"cannot be mixed with {data.root}:\n  - " + "\n  - ".join(wrong) + "\n",
                           "actions and pictures that mean the same", f"rename or leave out with {where}.actions and "
                           f"{where}.cameras, or convert it")
    views = tuple(replace(view, recorded=name) for view, name in zip(first.views, cameras, strict=True) if name)
    stand_in = first.state[first.training].mean(0)
    source = Source(
        dataset, first.spec, views, _picked(_column(dataset, "action"), actions, theirs.action.names, _still(ours.action)),
        _picked(_column(dataset, "observation.state"), state, theirs.observation.state, stand_in)
        if any(state) else np.tile(stand_in, (len(dataset), 1)),
        part.weight, (cameras, actions, state, stand_in.tolist() if None in state else None))
    source.split(data)
    return source


def specification(dataset: Dataset, mode: str | None, where: str) -> RobotSpec:
    """The data set's own, or what can be inferred of it once the meaning of its actions is told."""
    if dataset.spec is not None:
        if mode is not None:
            raise UserError(f"{where}action_mode", f"'{mode}', but data set {dataset.root} says itself what its actions mean",
                            "null", "remove it")
        return dataset.spec
    if mode is None:
        raise UserError(f"data set {dataset.root}", "does not say whether its actions are absolute, delta or relative",
                        f"{where}action_mode to say it", f"set {where}action_mode=absolute, or what its documentation says")
    return infer_spec(dataset, mode)


def split_episodes(episodes: list[Episode], share: float) -> tuple[list[Episode], list[Episode]]:
    """(held out, rest), both in order. The same for every training seed, so that seeds compare on the same episodes."""
    count = min(max(1, round(share * len(episodes))), len(episodes) - 1) if share > 0 and len(episodes) > 1 else 0
    chosen = set(np.random.default_rng(0).permutation(len(episodes))[:count].tolist())
    return ([e for i, e in enumerate(episodes) if i in chosen], [e for i, e in enumerate(episodes) if i not in chosen])


def frames_of(episodes: list[Episode]) -> Int[np.ndarray, " n"]:
    return np.concatenate([np.arange(e.start, e.stop) for e in episodes]) if episodes else np.empty(0, np.int64)


def _column(dataset: Dataset, name: str) -> np.ndarray:
    return dataset.column(name).reshape(len(dataset), -1).astype(np.float32)


def _renamed(given: Mapping[str, str | None], ours: Sequence[str], theirs: Sequence[str], where: str) -> tuple[str | None, ...]:
    """For each of our names, theirs; None where it is left out."""
    for name in given:
        if name not in ours:
            raise UserError(f"{where} '{name}'", "the first data set has no such name", "one of its own", nearest(name, ours))
    found = tuple(given.get(name, name) for name in ours)
    for name, other in zip(ours, found, strict=True):
        if other is not None and other not in theirs:
            raise UserError(where, f"that data set has no '{other}'", f"what it calls '{name}'",
                            f"set {where}={{{name}: …}}, or null to leave it out; {nearest(other, theirs)}")
    return found


def _picked(values: np.ndarray, names: Sequence[str | None], theirs: Sequence[str], stand_in: np.ndarray) -> np.ndarray:
    columns = [np.full(len(values), stand_in[i], np.float32) if name is None else values[:, theirs.index(name)]
               for i, name in enumerate(names)]
    return np.stack(columns, 1)


def _still(action: ActionSpec) -> Float[np.ndarray, " a"]:
    """What a robot without this dimension did with it. Absolute dimensions have no such value: `_action_misfits` refuses them."""
    return np.array([action.gripper_open if i == action.gripper else 0.0 for i in range(action.dim)], np.float32)


def _action_misfits(ours: ActionSpec, theirs: ActionSpec, names: Sequence[str | None]) -> list[str]:
    found = []
    for i, name in enumerate(names):
        if name is None:
            if ours.modes[i] == "absolute" and i != ours.gripper:
                found.append(f"action '{ours.names[i]}' is absolute: there is no value for a robot that lacks it")
            continue
        j = theirs.names.index(name)
        if ours.modes[i] != theirs.modes[j]:
            found.append(f"action '{ours.names[i]}' is {ours.modes[i]}, its '{name}' is {theirs.modes[j]}")
        if ours.units[i] != theirs.units[j] and UNKNOWN not in (ours.units[i], theirs.units[j]):
            found.append(f"action '{ours.names[i]}' is in {ours.units[i]}, its '{name}' in {theirs.units[j]}")
        if (i == ours.gripper) != (j == theirs.gripper):
            found.append(f"action '{ours.names[i]}' and its '{name}': one is the gripper, the other is not")
        elif i == ours.gripper and (ours.gripper_open, ours.gripper_closed) != (theirs.gripper_open, theirs.gripper_closed):
            found.append(f"the gripper opens at {ours.gripper_open} and closes at {ours.gripper_closed}, its own at "
                         f"{theirs.gripper_open} and {theirs.gripper_closed}")
    for word in ("frame", "rotation"):
        mine, other = getattr(ours, word), getattr(theirs, word)
        if mine != other and UNKNOWN not in (mine, other):
            found.append(f"{word} '{mine}' against '{other}'")
    if ours.rate_hz != theirs.rate_hz:
        found.append(f"{ours.rate_hz} against {theirs.rate_hz} actions a second")
    return found


def _camera_misfits(first: Source, theirs: RobotSpec, cameras: Sequence[str | None]) -> list[str]:
    sizes = {camera.name: (camera.height, camera.width) for camera in theirs.observation.cameras}
    found = []
    for view, name in zip(first.views, cameras, strict=True):
        if name and view.height * sizes[name][1] != view.width * sizes[name][0]:
            found.append(f"camera '{view.name}' is {view.height}x{view.width}, its '{name}' {sizes[name][0]}x{sizes[name][1]}: scaled, "
                         "it would be distorted")
    return found
