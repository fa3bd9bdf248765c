"""Grounding DINO twice: the authors' package and transformers, the same weights, the same answers."""

from pathlib import Path

import numpy as np
import pytest
import tiny_grounding
import torch

from perception.grounding import DETECTORS
from perception.grounding.dino_weights import shared_with_swin, to_transformers
from perception.grounding.published import copy_weights
from robot_io import UserError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return tiny_grounding.save("groundingdino_py", tmp_path_factory.mktemp("groundingdino_py"))


def original(folder: Path, **options):
    return DETECTORS.load("groundingdino_py")(DETECTORS.configure(
        {"kind": "groundingdino_py", "weights": str(folder), "shortest": 64, "longest": 128, **tiny_grounding.DINO_PY, **options}))


def test_the_authors_weights_load_into_transformers_and_both_agree(checkpoint, tmp_path):
    theirs = original(checkpoint)
    with torch.no_grad():  # away from initial values such as zero biases, which would hide a swapped pair
        torch.manual_seed(1)
        for parameter in theirs.model.model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    ours = DETECTORS.load("grounding_dino")(DETECTORS.configure(
        {"kind": "grounding_dino", "weights": str(tiny_grounding.save("grounding_dino", tmp_path))}))
    weights = to_transformers(theirs.model.model.state_dict())
    copy_weights(ours.model.model, shared_with_swin(ours.model.model, weights), "test", "")
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(2)]  # already of the size that both resize to
    phrases = [["red cube", "bowl"], ["blue ball"]]
    for a, b in zip(theirs.detect(pictures, phrases), ours.detect(pictures, phrases), strict=True):
        np.testing.assert_array_equal(a.phrase, b.phrase)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)
        np.testing.assert_allclose(a.boxes, b.boxes, atol=0.05)


def test_a_missing_file_is_named_with_where_to_fetch_it(tmp_path):
    with pytest.raises(UserError, match=r"groundingdino_swint_ogc\.pth.*fetch https://github\.com/IDEA-Research"):
        original(tmp_path)


def test_a_file_of_something_else_is_refused(checkpoint, tmp_path):
    (tmp_path / "bert-base-uncased").symlink_to(checkpoint / "bert-base-uncased")
    torch.save({"model": {"module.transformer.level_embed": torch.zeros(4, 256)}}, tmp_path / "groundingdino_swint_ogc.pth")
    with pytest.raises(UserError, match=r"tensors do not fit: .* is missing"):
        original(tmp_path)
    (tmp_path / "groundingdino_swint_ogc.pth").write_bytes(b"not weights")
    with pytest.raises(UserError, match=r"cannot be read as weights.*fetch"):
        original(tmp_path)


def test_transformers_is_left_as_it_was(checkpoint):
    from transformers import BertModel

    before = set(vars(BertModel))
    original(checkpoint)
    assert set(vars(BertModel)) == before
