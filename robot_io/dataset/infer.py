"""A specification for a data set that has none: whatever `meta/info.json` says, and the rest marked unknown."""

from __future__ import annotations

from typing import Any

import numpy as np

from robot_io.dataset.layout import ACTION, DEPTH, STATE
from robot_io.dataset.reader import Dataset
from robot_io.specs import ActionSpec, CameraSpec, ObservationSpec, RobotSpec


def infer_spec(data: Dataset, mode: str = "absolute") -> RobotSpec:
    """What can be known of the robot that recorded `data`.

    Names, rate and picture sizes are the data set's own; limits are the extremes of its actions; units are 'unknown'.

    Args:
        data: any LeRobotDataset.
        mode: how every action dimension is meant, `absolute`, `delta` or `relative`: no LeRobotDataset says it, so you must.
    """
    features = data.info["features"]
    actions = data.column(ACTION).reshape(len(data), -1).astype(np.float64)
    names = dimension_names(features[ACTION])
    state = dimension_names(features[STATE]) if STATE in features else ()
    grippers = [i for i, name in enumerate(names) if "gripper" in name.lower()]
    return RobotSpec(
        robot=data.info.get("robot_type") or "unknown",
        observation=ObservationSpec(
            cameras=tuple(CameraSpec(name, *data.picture_size(name), DEPTH + name in features) for name in data.cameras),
            state=state, state_units=("unknown",) * len(state),
        ),
        action=ActionSpec(
            names=names, units=("unknown",) * len(names), low=tuple(actions.min(axis=0).tolist()),
            high=tuple(actions.max(axis=0).tolist()), modes=(mode,) * len(names), rate_hz=float(data.fps), frame="unknown",
            rotation="unknown", gripper=grippers[0] if len(grippers) == 1 else None,
        ),
    )


def dimension_names(feature: dict[str, Any]) -> tuple[str, ...]:
    """One name per dimension; `names` may be a list, a table of lists (`{"motors": […]}`), or missing."""
    size = int(np.prod(feature["shape"]))
    names = feature.get("names")
    if isinstance(names, dict):
        names = [name for group in names.values() for name in (group if isinstance(group, list) else [group])]
    if not names or len(names) != size:
        return tuple(str(i) for i in range(size))
    return tuple(str(name) for name in names)
