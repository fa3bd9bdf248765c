"""The frozen maps of VO-DP and the trained fuser: which networks see what, sizes as published, and what the fuser makes of one map or two."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toy_vggt import toy_vggt, write_dino, write_vggt

from perception.fuser import CrossAttention, Fuser, Keypoints
from perception.percept import Batch, Percept, raw
from perception.vggt.layers import grid_positions
from perception.vggt.model import fitted
from perception.vggt_dino import VggtDino, averaged
from robot_io import UserError

BATCH = Batch(rgb={name: torch.randint(0, 256, (2, 56, 84, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(i))
                   for i, name in enumerate(("front", "wrist"))}, state=torch.zeros(2, 1), instructions=["", ""])


@pytest.fixture(scope="module")
def vggt(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_vggt(tmp_path_factory.mktemp("vggt")))


def look(**options) -> Percept:
    return VggtDino(VggtDino.Config(**({"width": 84} | options))).eval()(BATCH, raw(BATCH))


def fuse(percept: Percept, fuser: Fuser) -> torch.Tensor:
    return fuser(BATCH, percept).tokens


def make(**options) -> Fuser:
    torch.manual_seed(0)
    return Fuser(Fuser.Config(**options)).eval()


def test_both_maps_are_the_networks_own_tokens_on_one_grid(vggt: str):
    percept = look(geometry=vggt, semantics="own", dim=16)
    with torch.no_grad():
        semantic, geometric = toy_vggt().tokens(raw(BATCH).images)
    found = {name: values.flatten(-2).mT for name, values in percept.maps.items()}
    assert percept.maps["geometric"].shape == percept.maps["semantic"].shape == (2, 2, 16, 4, 6)
    torch.testing.assert_close(found["semantic"], semantic)
    # Each half of the geometric ones, within frames and across them, is averaged from 16 channels to 8.
    torch.testing.assert_close(found["geometric"][..., 8:], geometric[..., 16:].unflatten(-1, (8, 2)).mean(-1))
    assert percept.images is None and look(geometry=vggt, semantics=None, dim=16, pictures=True).images is not None


@pytest.mark.parametrize("registers", [0, 4])
def test_a_dinov2_of_transformers_is_an_eye(tmp_path: Path, registers: int):
    from transformers import AutoModel

    folder = write_dino(tmp_path / "dino", registers)
    percept = look(geometry=None, semantics=str(folder), dim=16)
    assert set(percept.maps) == {"semantic"}
    picture = BATCH.rgb["wrist"][1].permute(2, 0, 1).float() / 255
    mean, deviation = (torch.tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        theirs = AutoModel.from_pretrained(folder)(((picture - mean) / deviation)[None]).last_hidden_state[0, 1 + registers:]
    torch.testing.assert_close(percept.maps["semantic"][1, 1].flatten(1).mT, theirs)


def test_depth_is_at_the_pictures_size_and_in_metres(vggt: str):
    percept = look(geometry=vggt, semantics=None, dim=16, depth=True, metres=2.0)
    with torch.no_grad():
        depth, _ = toy_vggt()(raw(BATCH).images)
    torch.testing.assert_close(percept.depth, 2 * depth)
    for width, grid in ((42, (2, 3)), (None, (3, 4))):  # by itself no larger than the 56 pixels it was trained at
        smaller = look(geometry=vggt, semantics=None, dim=16, depth=True, width=width)
        assert smaller.depth.shape == (2, 2, 56, 84) and smaller.maps["geometric"].shape[-2:] == grid


def test_weights_stay_outside_the_policy_which_knows_their_fingerprint(vggt: str, tmp_path: Path):
    front_end = VggtDino(VggtDino.Config(geometry=vggt, semantics="own", dim=16))
    saved = front_end.state_dict()
    assert set(saved) == {"geometry_fingerprint", "eye_fingerprint"}
    assert front_end.frozen and not any(parameter.requires_grad for parameter in front_end.parameters())
    other = VggtDino(VggtDino.Config(geometry=str(write_vggt(tmp_path / "other", seed=1)), semantics="own", dim=16))
    other.geometry_fingerprint.copy_(saved["geometry_fingerprint"])
    with pytest.raises(UserError, match="not those the policy was trained with"):
        other(BATCH, raw(BATCH))


@pytest.mark.parametrize(("options", "words"), [
    ({"geometry": None, "semantics": None}, "nothing is left to look with"),
    ({"geometry": None, "semantics": "own"}, "nothing is left to look with"),
    ({"geometry": None, "semantics": "nowhere/at/all", "depth": True}, "depth is VGGT's"),
    ({"geometry": None, "semantics": "/nowhere"}, "hf download facebook/dinov2-with-registers-large"),
])
def test_what_cannot_be_is_refused(options: dict, words: str):
    with pytest.raises(UserError, match=words):
        look(**options)


def test_an_eye_of_another_kind_is_refused(vggt: str, tmp_path: Path):
    from transformers import ViTConfig, ViTModel

    ViTModel(ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="'vit' checkpoint"):
        look(geometry=vggt, semantics=str(tmp_path), dim=16)


def test_tokens_and_parameters_at_the_published_size():
    """17×23 cells become 9×12, 5×6, 3×3 and one token of 1024 (VO-DP, sec. III)."""
    with torch.device("meta"):
        fuser = Fuser(Fuser.Config(dim=1024, heads=8, grid=1, out=1024))
        sizes = [torch.rand(1, 1024, 17, 23)]
        for block in fuser.compress:
            sizes.append(block(sizes[-1]))
        maps = {name: torch.rand(1, 1, 1024, 17, 23) for name in ("geometric", "semantic")}
        tokens = fuser(BATCH, Percept(maps=maps)).tokens
    assert [tuple(size.shape[-2:]) for size in sizes] == [(17, 23), (9, 12), (5, 6), (3, 3)]
    assert tokens.shape == (1, 1, 1024) and fitted(torch.rand(1, 3, 240, 320), 320, 14).shape[-2:] == (17 * 14, 23 * 14)
    trained = sum(parameter.numel() for parameter in fuser.parameters())
    assert 0.06 < trained / (trained + 909_112_320) < 0.08  # trained, of what sees


@pytest.mark.parametrize("dim, heads", [(64, 4), (256, 2)])
def test_a_new_fuser_asks_around_each_cell(dim: int, heads: int):
    torch.manual_seed(0)
    ask, cells = CrossAttention(dim, heads), torch.randn(1, 64, dim)
    spot = torch.zeros(1, 64, dim)
    spot[0, 8 * 3 + 5] = 1.0
    with torch.no_grad():
        ask.v.weight.copy_(torch.eye(dim))
        ask.v.bias.zero_()
        seen = ask(cells, spot, grid_positions(8, 8, cells.device)).mean(-1).view(8, 8)
    assert seen.argmax() == 8 * 3 + 5 and seen[2:5, 4:7].sum() > 0.6 * seen.sum()


def test_a_keypoint_is_where_its_map_looks():
    """Column, then row, -4 to 4 from edge to edge; between two cells that weigh the same it is in the middle."""
    look, cells = Keypoints(3, 2), torch.zeros(2, 3, 5, 9)
    with torch.no_grad():
        look.maps.weight.copy_(torch.tensor([[100.0, 0.0, 0.0], [0.0, 100.0, 0.0]]))
    cells[0, 0, 0, 8] = cells[0, 1, 4, 0] = 1.0
    cells[1, 0, 2, 2] = cells[1, 0, 2, 3] = cells[1, 1, 1, 4] = 1.0
    torch.testing.assert_close(look(cells), torch.tensor([[4.0, -4.0, -4.0, 4.0], [-1.5, 0.0, 0.0, -2.0]]), atol=0.05, rtol=0)
    torch.testing.assert_close(look(5 * cells + 100), look(cells), atol=0.05, rtol=0)  # what all cells share says nothing


def test_new_keypoints_differ_between_pictures_and_learn():
    """A softmax that began flat would say the middle, whatever the picture."""
    torch.manual_seed(0)
    fuser = make(dim=16, heads=2, out=8, pool="keypoints", keypoints=5, use="semantic")
    maps = torch.randn(4, 2, 16, 12, 12)
    tokens = fuse(Percept(maps={"semantic": maps}), fuser)
    assert tokens.shape == (4, 2, 8) and fuser.look(maps[:, 0]).std(0).mean() > 0.5
    tokens.square().sum().backward()
    assert fuser.look.maps.weight.grad.abs().sum() > 0


def test_semantics_reach_the_tokens_through_the_attention_alone(vggt: str):
    percept, fuser = look(geometry=vggt, semantics="own", dim=16), make(dim=16, heads=2, out=8)
    with torch.no_grad():
        before = fuse(percept, fuser)
        other = percept.replace(maps=percept.maps | {"semantic": percept.maps["semantic"].roll(1, 0)})
        assert (fuse(other, fuser) - before).abs().max() > 1e-4
        for parameter in fuser.ask.v.parameters():
            parameter.zero_()
        alone = make(dim=16, heads=2, out=8, use="geometric")
        alone.load_state_dict({name: value for name, value in fuser.state_dict().items() if not name.startswith("ask.")})
        torch.testing.assert_close(fuse(percept, fuser), fuse(percept, alone))


def test_a_token_per_cell_of_the_grid_that_knows_its_view(vggt: str):
    percept = look(geometry=vggt, semantics="own", dim=16)
    with torch.no_grad():
        tokens = fuse(percept, make(dim=16, heads=2, out=8, grid=2, use="semantic"))
        turned = {"semantic": percept.maps["semantic"].flip(1)}
        swapped = fuse(percept.replace(maps=turned), make(dim=16, heads=2, out=8, grid=2, use="semantic"))
    assert tokens.shape == (2, 2 * 4, 8)
    assert (swapped.view(2, 2, 4, 8).flip(1) - tokens.view(2, 2, 4, 8)).abs().max() > 1e-3


def test_maps_on_different_grids_are_brought_together():
    maps = {"geometric": torch.randn(1, 1, 8, 4, 6), "semantic": torch.randn(1, 1, 8, 2, 3)}
    assert fuse(Percept(maps=maps), make(dim=8, heads=2, out=5)).shape == (1, 1, 5)


@pytest.mark.parametrize(("maps", "words"), [({}, r"no geometric map \(there: none\)"),
                                             ({"geometric": torch.zeros(1, 1, 4, 2, 2)}, "4 channels and 1 views"),
                                             ({"geometric": torch.zeros(1, 5, 8, 2, 2)}, "8 channels and 5 views")])
def test_a_fuser_says_which_map_it_lacks(maps: dict, words: str):
    with pytest.raises(UserError, match=words):
        fuse(Percept(maps=maps), make(dim=8, heads=2, use="geometric"))
    with pytest.raises(UserError, match=r"fuser\.heads"):
        make(dim=8, heads=4)


def test_averaging_channels_keeps_neighbours_together():
    maps = torch.arange(8.0).view(1, 1, 8, 1, 1)
    assert averaged(maps, 4).flatten().tolist() == [0.5, 2.5, 4.5, 6.5]
