import numpy as np
import pytest

from robot_io.tabletop import textures
from robot_io.tabletop.layout import HALF_WIDTHS
from robot_io.tabletop.objects import (
    ALL,
    COLORS,
    DOWN,
    HELD_OUT,
    MESHES,
    MORE_SHAPES,
    NAMED,
    SIZE,
    UNSEEN,
    UNSEEN_COLORS,
    grip_width,
    half_height,
    has_mesh,
)

NEW = sorted(MORE_SHAPES | UNSEEN)


@pytest.mark.parametrize("name", sorted(MESHES))
def test_meshes_are_closed_light_and_face_outwards(name):
    vertices, faces = MESHES[name]
    assert len(faces) < 700
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    assert (a * np.cross(b, c)).sum() / 6 > 1  # cubic half widths


@pytest.mark.parametrize("name", NEW)
def test_every_shape_fits_between_the_fingers_from_any_side_and_stands(name):
    half_width = SIZE if has_mesh(name) else HALF_WIDTHS[1]
    for yaw in np.linspace(0, np.pi, 13):
        assert 0.005 < grip_width(name, half_width, yaw) < 0.083
    assert min(-part.reach(DOWN) for part in ALL[name]) * half_width == pytest.approx(-half_height(name, half_width))


def test_unseen_objects_share_nothing_with_named_ones():
    assert not NAMED.keys() & UNSEEN.keys() and not COLORS.keys() & UNSEEN_COLORS.keys()
    named_meshes, unseen_meshes = ({part.mesh for parts in shapes.values() for part in parts if part.mesh} for shapes in (NAMED, UNSEEN))
    assert named_meshes | unseen_meshes == MESHES.keys() and not named_meshes & unseen_meshes
    apart = np.array(list(COLORS.values()))[:, None] - np.array(list(UNSEEN_COLORS.values()))
    assert np.linalg.norm(apart, axis=-1).min() > 0.15  # a print of a colour varies by less


def test_held_out_pairs_are_of_what_training_shows():
    assert all(color in COLORS and shape in NAMED for color, shape in HELD_OUT)


def test_textures_of_training_and_test_differ():
    assert not textures.TRAIN.keys() & textures.TEST.keys()
    pictures = [textures.picture(pattern) for pattern in (textures.TRAIN | textures.TEST).values()]
    for i, picture in enumerate(pictures):
        assert picture.shape == (textures.N, textures.N, 3) and picture.dtype == np.uint8 and picture.std() > 5
        for other in pictures[:i]:
            similarity = np.corrcoef(picture[..., 0].ravel(), other[..., 0].ravel())[0, 1]
            assert similarity < 0.9
