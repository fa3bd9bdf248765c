"""Lift3D: where its positions come from, that it is the pretrained transformer, what is trained of it, and its published sizes."""

import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from toy_scene import scene

from perception.lift3d import Lift3D, pretrained
from perception.lift3d.planes import look_up, on_planes, plane_rotations
from perception.lift3d.tokenizer import Tokenizer
from perception.percept import Percept, perceive
from perception.point_cloud import PointCloud
from robot_io import UserError


def lift(**options) -> Lift3D:
    torch.manual_seed(0)
    front_end = Lift3D(Lift3D.Config(**{"tokens": 8, "neighbours": 4} | options))
    front_end.load_pretrained()
    return front_end.eval()


def percept_of(batch: int = 2, points: int = 64, there: bool = True) -> Percept:
    values = torch.rand(batch, points, 9, generator=torch.Generator().manual_seed(1)) * 0.4
    return Percept(maps={"cloud": values, "cloud_mask": torch.full((batch, points), there)})


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    from timm.models import create_model
    from timm.models._hub import save_for_hf
    from transformers import CLIPVisionConfig, CLIPVisionModel, Dinov2Config, Dinov2Model

    root = tmp_path_factory.mktemp("checkpoints")
    torch.manual_seed(0)
    small = {"hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 64}
    CLIPVisionModel(CLIPVisionConfig(**small, patch_size=16)).save_pretrained(root / "clip")
    Dinov2Model(Dinov2Config(**small, patch_size=16)).save_pretrained(root / "dino")
    sizes = {"img_size": 64, "embed_dim": 24, "depth": 2, "num_heads": 2}
    save_for_hf(create_model("vit_tiny_patch16_224", num_classes=0, **sizes), root / "timm", model_args=sizes, safe_serialization=True)
    return {"clip": str(root / "clip"), "dino": str(root / "dino"), "timm": f"timm:local-dir:{root / 'timm'}"}


FAMILIES = ("clip", "dino", "timm")


@pytest.mark.parametrize("family", FAMILIES)
def test_over_a_pictures_own_patches_it_is_the_librarys_model(family: str, checkpoints: dict[str, str]):
    transformer = pretrained.build(checkpoints[family])
    pretrained.load(transformer, checkpoints[family])
    transformer.eval()
    images = torch.rand(2, 3, 64, 64)
    tokens = transformer.patches(images) + transformer.grid.flatten(0, 1)
    found = transformer(torch.cat([transformer.start.expand(2, 1, -1), tokens], 1))
    with torch.no_grad():
        model = transformer.model
        expected = model.forward_features(images) if family == "timm" else model(pixel_values=images).last_hidden_state
        if family == "clip":
            expected = model.post_layernorm(expected)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_a_position_is_the_bilinear_sample_of_the_grid():
    grid = torch.randn(7, 7, 5, generator=torch.Generator().manual_seed(0))
    cells = torch.linspace(-1, 1, 7)
    rows, columns = torch.meshgrid(cells, cells, indexing="ij")
    corners = torch.stack([columns, rows], -1).reshape(1, 1, 49, 2)
    torch.testing.assert_close(look_up(grid, corners)[0, 0], grid.reshape(49, 5))
    column, row = 2.3, 4.6
    by_hand = sum(w * grid[r, c] for w, r, c in ((0.4 * 0.7, 4, 2), (0.4 * 0.3, 4, 3), (0.6 * 0.7, 5, 2), (0.6 * 0.3, 5, 3)))
    place = torch.tensor([column, row]) / 3 - 1
    torch.testing.assert_close(look_up(grid, place.expand(1, 1, 1, 2))[0, 0, 0], by_hand)


@pytest.mark.parametrize("planes", [1, 2, 4, 6])
def test_a_tokens_position_is_the_mean_over_its_planes(planes: int):
    front_end = lift(planes=planes, weights=None)
    centres = torch.rand(2, 8, 3) * 2 - 1
    places = on_planes(centres, front_end.rotations, "perspective")
    assert places.shape == (2, planes, 8, 2)
    expected = torch.stack([F.grid_sample(front_end.transformer.grid.permute(2, 0, 1)[None].expand(2, -1, -1, -1), places[:, p, None],
                                          align_corners=True)[:, :, 0].mT for p in range(planes)]).mean(0)
    torch.testing.assert_close(front_end._position(centres, places), expected)


@pytest.mark.parametrize("projection", ["perspective", "orthographic"])
def test_turning_the_cloud_by_a_quarter_permutes_the_planes(projection: str):
    """About x the four planes around it change places; on the two others everything turns by a quarter within the plane."""
    points = torch.rand(1, 50, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    rotations = plane_rotations()
    before, after = (on_planes(p, rotations, projection) for p in (points, points @ rotations[1].T))
    torch.testing.assert_close(after[:, :4], before[:, [1, 2, 3, 0]])
    for plane in (4, 5):
        turned = [before[:, plane] @ torch.tensor(quarter).T for quarter in ([[0.0, -1], [1, 0]], [[0.0, 1], [-1, 0]])]
        assert any(torch.allclose(after[:, plane], one, atol=1e-6) for one in turned)
    # the six planes look along both ways of every axis
    assert sorted(tuple(r[2].round().int().tolist()) for r in rotations) == sorted(
        [(0, 0, 1), (0, 0, -1), (0, 1, 0), (0, -1, 0), (1, 0, 0), (-1, 0, 0)])
    torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3).expand(6, 3, 3))


def test_the_tokenizer_looks_at_its_neighbours_and_not_at_their_order():
    torch.manual_seed(0)
    tokenizer = Tokenizer(3, 24, tokens=8, neighbours=5)
    points = torch.rand(1, 64, 3)
    tokens, centres = tokenizer(points, points)
    assert tokens.shape == (1, 8, 24) and torch.equal(centres, points[:, :8])
    shuffled = torch.cat([points[:, :32], points[:, 32:].flip(1)], 1)  # beyond the first stage's centres order means nothing
    torch.testing.assert_close(tokenizer(shuffled, shuffled)[0], tokens)
    moved = points.clone()
    far = (points[0] - points[0, 0]).norm(dim=1).argmax()
    moved[0, far] += 0.3
    changed = (tokenizer(moved, moved)[0] - tokens).abs().amax(-1)[0] > 1e-6
    assert changed.any()


@pytest.mark.parametrize("family", FAMILIES)
def test_training_leaves_what_is_frozen_as_it_was_bit_by_bit(family: str, checkpoints: dict[str, str]):
    front_end = lift(weights=checkpoints[family]).train()
    before = {name: tensor.clone() for name, tensor in front_end.state_dict().items()}
    trained = {name for name, parameter in front_end.named_parameters() if parameter.requires_grad}
    optimizer = torch.optim.AdamW([p for p in front_end.parameters() if p.requires_grad], lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        (front_end(None, percept_of()).tokens[..., :3] - 1).square().mean().backward()
        optimizer.step()
    after = front_end.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed <= trained
    assert {"start", "tokenizer.embed.0.weight"} <= changed
    assert any("lora_B" in name for name in changed) and any(".base_layer." in name for name in before.keys() - trained)
    assert all(parameter.requires_grad for norm in front_end.transformer.norms() for parameter in norm.parameters())


@pytest.mark.parametrize(("config", "width", "grid", "frozen"), [
    ("CLIPVisionConfig", 768, 7, 87e6), ("Dinov2Config", 768, 37, 86e6)])
def test_published_sizes(config: str, width: int, grid: int, frozen: float, tmp_path: Path):
    """CLIP ViT-B/32 and DINOv2 ViT-B/14: shapes, and about one per cent trained (0.5 % with CLIP; the paper says 1.01 of 116.79 M)."""
    import transformers

    sizes = {"patch_size": 32, "image_size": 224, "intermediate_size": 3072} if grid == 7 else {"patch_size": 14, "image_size": 518}
    getattr(transformers, config)(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, **sizes).save_pretrained(tmp_path)
    with torch.device("meta"):
        front_end = Lift3D(Lift3D.Config(weights=str(tmp_path), tokens=128, neighbours=64))
        found = front_end(None, Percept(maps={"cloud": torch.zeros(2, 1024, 9), "cloud_mask": torch.ones(2, 1024, dtype=torch.bool)}))
    assert front_end.transformer.grid.shape == (grid, grid, width) and front_end.token_dim == width
    assert found.tokens.shape == (2, 129, width) and found.evidence["lift3d/planes"].shape == (2, 6, 128, 2)
    counts = [sum(p.numel() for p in front_end.parameters() if p.requires_grad == wanted) for wanted in (True, False)]
    assert abs(counts[1] - frozen) < 2e6
    assert 0.004 < counts[0] / sum(counts) < 0.015
    adapters = sum(p.numel() for name, p in front_end.named_parameters() if "lora_" in name)
    assert adapters == 12 * 3 * 2 * 2 * 768


def test_positions_can_be_looked_up_learnt_or_left_out():
    tokens = {position: lift(weights=None, position=position)(None, percept_of()).tokens for position in ("lookup", "new", "none")}
    assert all(value.shape == (2, 9, 96) for value in tokens.values())
    assert not torch.allclose(tokens["lookup"], tokens["none"]) and not torch.allclose(tokens["new"], tokens["none"])
    assert lift(weights=None, position="new").learnt is not None and lift(weights=None).learnt is None
    one = lift(weights=None, output="class")(None, percept_of()).tokens
    torch.testing.assert_close(one, tokens["lookup"][:, :1])


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_come_in_the_size_of_the_transformers_own_patches(family: str, checkpoints: dict[str, str]):
    """Whatever the tokenizer makes: so a position weighs beside a token what it weighed beside a patch."""
    state = torch.random.get_rng_state()
    front_end = lift(weights=checkpoints[family])
    mean, deviation = front_end.transformer.patch_statistics()
    assert all(torch.equal(*pair) for pair in zip((mean, deviation), front_end.transformer.patch_statistics(), strict=True))
    patch = (mean.square() + deviation.square()).sum().sqrt()
    for size in (0.1, 10.0):
        tokens = front_end.match(size * torch.rand(50, 24, generator=torch.Generator().manual_seed(1)))
        assert 0.7 < tokens.norm(dim=-1).mean() / patch < 1.4
    torch.random.set_rng_state(state)
    front_end.transformer.patch_statistics()
    assert torch.equal(torch.random.get_rng_state(), state)
    as_released = lift(weights=checkpoints[family], matched=False)
    assert torch.equal(as_released.match(tokens), tokens) and not any("match" in name for name in as_released.state_dict())


def test_scaled_to_itself_a_cloud_looks_the_same_wherever_it_is_and_however_large():
    front_end, percept = lift(weights=None, scaling="cloud"), percept_of()
    moved = percept.maps["cloud"].clone()
    moved[..., :3] = moved[..., :3] * 2 + torch.tensor([0.1, -0.2, 0.3])
    torch.testing.assert_close(front_end(None, percept.replace(maps=percept.maps | {"cloud": moved})).tokens,
                               front_end(None, percept).tokens, atol=1e-4, rtol=1e-3)
    fixed = lift(weights=None)
    assert not torch.allclose(fixed(None, percept.replace(maps=percept.maps | {"cloud": moved})).tokens, fixed(None, percept).tokens, atol=1e-2)


@pytest.mark.parametrize("option", ["colors", "roles"])
def test_colours_and_roles_are_seen_if_asked_for(option: str):
    percept = percept_of()
    changed = percept.maps["cloud"].clone()
    changed[..., 3:6 if option == "colors" else 9] += 1.0
    if option == "roles":
        changed[..., 3:6] = percept.maps["cloud"][..., 3:6]
    other = percept.replace(maps=percept.maps | {"cloud": changed})
    blind, seeing = lift(weights=None), lift(weights=None, **{option: True})
    torch.testing.assert_close(blind(None, other).tokens, blind(None, percept).tokens)
    assert not torch.allclose(seeing(None, other).tokens, seeing(None, percept).tokens)


def test_an_empty_cloud_has_no_tokens_and_too_small_a_one_is_refused():
    assert not lift(weights=None)(None, percept_of(there=False)).token_mask.any()
    with pytest.raises(UserError, match=r"16 points.*point_cloud.points to 32"):
        lift(weights=None)(None, percept_of(points=16))


def test_what_cannot_be_loaded_is_told_with_what_to_fetch(checkpoints: dict[str, str], tmp_path: Path):
    for weights in (str(tmp_path / "nowhere"), "timm:vit_of_nobody"):
        with pytest.raises(UserError, match="hf download openai/clip-vit-base-patch32"):
            lift(weights=weights)
    with pytest.raises(UserError, match="hf download"):
        lift(weights=str(tmp_path / "none.safetensors"))
    with pytest.raises(UserError, match=r"Eva|without one learnt position|ResNet|ByobNet"):
        pretrained.build("timm:resnet10t")
    shutil.copytree(checkpoints["clip"], tmp_path / "empty")
    (tmp_path / "empty" / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be loaded"):
        lift(weights=str(tmp_path / "empty"))


def test_only_grounded_points_after_object_centric_perception():
    """As a list: whatever grounded the ball, the cloud is the ball, and every token lies on it."""
    batch, grounded = scene((0.45, 0.05))
    cloud = PointCloud(PointCloud.Config(points=64, low=(0, -1, -0.1), high=(1, 1, 1), only_regions=True))
    chain = [cloud, lift(weights=None, roles=True)]
    found = perceive(chain, batch, grounded)
    distance = (found.evidence["lift3d/centres"] - torch.tensor([0.45, 0.05, 0.05])).norm(dim=-1)
    torch.testing.assert_close(distance, torch.full_like(distance, 0.05), atol=1e-4, rtol=0)
    assert found.tokens.shape == (1, 9, 96) and found.token_mask.all()


def test_what_is_shipped_is_read_and_is_not_what_random_weights_are():
    shipped = lift(weights="tabletop")
    grid = shipped.transformer.grid
    assert grid.shape == (8, 8, 96) and not torch.equal(grid, lift(weights=None).transformer.grid)
    torch.testing.assert_close(shipped.start, shipped.transformer.start)
    near = (grid[1:] - grid[:-1]).norm(dim=-1).mean()
    far = (grid[4:] - grid[:-4]).norm(dim=-1).mean()
    assert near < far  # what is near each other in a picture has positions that are near each other
    assert sum(file.stat().st_size for file in pretrained.SHIPPED.glob("*.safetensors")) < 5e6
