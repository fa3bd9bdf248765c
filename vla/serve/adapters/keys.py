"""Other protocols' ways to name pictures and state, under our keys, so that `decode_observation` checks them as it checks ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robot_io import RobotSpec, UserError
from vla.serve.service import ServedPolicy


def message(policy: ServedPolicy, images: Mapping[str, Any] | Sequence[Any], state: Any, instruction: Any) -> dict[str, Any]:
    """An observation as `decode_observation` reads it.

    Args:
        images: by camera, or in the order of the policy's cameras, for protocols that do not name them.
        state: the vector, or None from a client that sends none: zeros, if the policy does not look at it.
    """
    cameras = policy.spec.observation.camera_names
    if not isinstance(images, Mapping):
        if len(images) != len(cameras):
            raise UserError("pictures", f"{len(images)} of them", f"{len(cameras)}: {', '.join(cameras)}",
                            "send one for each of the policy's cameras, in this order")
        images = dict(zip(cameras, images, strict=True))
    found = {f"observation/{name}_image": picture for name, picture in images.items()}
    return found | {"observation/state": blind(policy) if state is None else state, "prompt": instruction}


def blind(policy: ServedPolicy) -> np.ndarray | None:
    """Zeros for a policy that does not read the state; None (which is refused) for one that does."""
    data = getattr(policy.recipe, "data", None)
    reads = True if data is None else data.state is not False
    return None if reads else np.zeros(len(policy.spec.observation.state), np.float32)


def named_state(spec: RobotSpec, given: Mapping[str, Any]) -> np.ndarray:
    """The state vector out of its entries by name, each one number, whatever its shape."""
    missing = [name for name in spec.observation.state if np.size(given.get(name)) != 1 or given.get(name) is None]
    if missing:
        raise UserError("state", f"no single number for {', '.join(missing[:6])}; sent were {', '.join(map(str, given))[:200] or 'none'}",
                        f"one each for {', '.join(spec.observation.state)}", "send the state entry by entry under these names")
    return np.array([np.ravel(given[name])[0] for name in spec.observation.state])
