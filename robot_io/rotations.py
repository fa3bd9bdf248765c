"""Rotation vectors and matrices (Rodrigues, 1840), in NumPy alone: what a robot PC needs where there is no MuJoCo and no SciPy."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def matrix_of(vector: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """exp: axis times angle to a matrix."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = np.asarray(vector, float) / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def vector_of(rotation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, " 3"]:
    """log: the shortest axis times angle of a matrix; at half a turn, where two are equally short, one of them."""
    twice_sine = np.array([rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]])
    cosine = np.clip((np.trace(rotation) - 1) / 2, -1, 1)
    angle = np.arctan2(np.linalg.norm(twice_sine) / 2, cosine)
    if angle < 1e-9:
        return twice_sine / 2
    if np.pi - angle > 1e-4:
        return twice_sine / (2 * np.sin(angle)) * angle
    # Near half a turn the sine vanishes; the axis is in the symmetric part: (R + I) / 2 → n nᵀ.
    axis = ((rotation + rotation.T) / 2 + np.eye(3))[:, np.argmax(np.diag(rotation))]
    axis = axis / np.linalg.norm(axis)
    return angle * axis * (1.0 if axis @ twice_sine >= 0 else -1.0)
