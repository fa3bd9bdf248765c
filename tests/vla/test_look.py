"""`vla look`: every stage's evidence reaches the sheet, whatever is looked at; a rollout becomes a film that rerun reads."""

import importlib.util
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
from toy_robot import ToyRobot
from toy_scene import scene

from perception import PERCEPTION
from robot_io import UserError
from vla.cli import main
from vla.look import Stage, from_data, look, open_eyes
from vla.look.components import components
from vla.look.sheet import collect, draw_sheet

CHAIN = "perception=[{kind: 'toy_grounding:Dots'}, {kind: masking, fill: mean}, {kind: 'toy_grounding:Says'}]"
TOY = ["robot={kind: 'toy_robot:ToyRobot'}", CHAIN]


def test_every_stage_is_on_the_sheet(tmp_path):
    robot = ToyRobot()
    robot.reset(0)
    eyes = open_eyes("toy", TOY)
    found = look(eyes, robot.observe(), tmp_path / "deep" / "sheet.png")
    batch = eyes.batch(robot.observe(), {})
    panels, lines = collect(found, batch)
    titles = [panel.title for panel in panels]
    assert titles == ["cameras", "dots: candidates", "toy_grounding:Dots: regions", "masking: kept", "what the policy sees"]
    said = "\n".join(lines)
    assert "target “red dot”, container “blue dot”" in said and "two dots on a plane" in said and "acts" in said
    drawn = matplotlib.image.imread(tmp_path / "deep" / "sheet.png")
    assert min(drawn.shape[:2]) > 400 and drawn[..., :3].std() > 0.05
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["sheet.png"]


def test_geometry_is_drawn_and_objects_are_told_in_metres(tmp_path):
    batch, percept = scene((0.45, 0.05))
    grounded = [Stage("cameras", percept.replace(regions=None)), Stage("by hand", percept)]
    for config in ({"kind": "depth"}, {"kind": "geometric", "show": "normals"}, {"kind": "object_tokens"}):
        front_end = PERCEPTION.load(config["kind"])(PERCEPTION.configure(config))
        grounded.append(Stage(config["kind"], front_end(batch, grounded[-1].percept)))
    panels, lines = collect(grounded, batch)
    assert [panel.title for panel in panels] == ["cameras", "by hand: regions", "depth: depth", "what the policy sees"]
    position = next(line for line in lines if line.startswith("object_tokens/position"))
    x, y, _ = (float(part) for part in position.split("(")[1].split(")")[0].split(","))
    assert abs(x - 0.45) < 0.03 and abs(y - 0.05) < 0.03
    draw_sheet(grounded, batch, "a very long title that has to be broken into lines " * 4, tmp_path / "sheet.svg")
    assert (tmp_path / "sheet.svg").read_text().count("<image") == 2 * len(panels)


def test_clouds_and_planes_are_drawn_and_hidden_pictures_are_told(tmp_path):
    batch, percept = scene((0.45, 0.05))
    seen = [Stage("cameras", percept.replace(regions=None)), Stage("by hand", percept)]
    for config in ({"kind": "point_cloud", "points": 64, "low": (0, -1, -1), "high": (1, 1, 1), "hide_pictures": True},
                   {"kind": "lift3d", "tokens": 8, "neighbours": 4}, {"kind": "dp3"}):
        front_end = PERCEPTION.load(config["kind"])(PERCEPTION.configure(config))
        seen.append(Stage(config["kind"], front_end(batch, seen[-1].percept)))
    panels, lines = collect(seen, batch)
    assert [panel.title for panel in panels] == ["cameras", "by hand: regions", "point_cloud: points", "lift3d: planes"]
    assert any("lift3d: 9 tokens of 96" in line for line in lines) and any("none of the pictures" in line for line in lines)
    draw_sheet(seen, batch, "points", tmp_path / "sheet.png")
    drawn = matplotlib.image.imread(tmp_path / "sheet.png")
    assert drawn[:, drawn.shape[1] // 2 :, :3].std() > 0.02  # the clouds' half is not empty


def test_a_frame_of_a_data_set_is_looked_at_as_the_robot_saw_it(demonstrations):
    observation = from_data(demonstrations, 3)
    robot = ToyRobot()
    robot.reset(0)
    assert observation.instruction == robot.instruction and observation.time == pytest.approx(0.3)
    assert observation.state.shape == (2,) and set(observation.cameras) == {"front", "wrist"}
    with pytest.raises(UserError, match=r"frame 99999.*has \d+ frames"):
        from_data(demonstrations, 99999)


@pytest.fixture
def vla(tmp_path, monkeypatch, capfd):
    """Runs a command line in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["vla", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code or 0, *capfd.readouterr()

    return run


def test_the_command_draws_recipes_and_data(vla, tmp_path, demonstrations):
    code, out, _ = vla("look", "toy", *TOY, "--robot", 5, "--json")
    assert code == 0 and out.strip() == '{"sheet": "sheet.png"}'
    code, _, _ = vla("look", "toy", *TOY, "--data", demonstrations, "--frame", 2, "--out", "data.png")
    assert code == 0
    first, second = (matplotlib.image.imread(tmp_path / name) for name in ("sheet.png", "data.png"))
    assert first.shape != second.shape or not np.array_equal(first, second)


def test_a_film_of_a_data_set_is_refused(vla, demonstrations):
    code, _, complaint = vla("look", "toy", *TOY, "--data", demonstrations, "--rrd", "film.rrd")
    assert code == 2 and "--data" in complaint


@pytest.mark.skipif(importlib.util.find_spec("rerun") is not None, reason="rerun is installed")
def test_without_rerun_the_extra_is_named_before_anything_is_done(vla, tmp_path):
    code, _, complaint = vla("look", "toy", *TOY, "--rrd", "film.rrd")
    assert code == 2 and "swapvla[look]" in complaint and not (tmp_path / "sheet.png").exists()


@pytest.mark.skipif(importlib.util.find_spec("rerun") is None, reason="needs the extra 'look'")
def test_a_film_is_read_back_by_rerun(vla, tmp_path):
    code, out, complaint = vla("look", "toy", *TOY, "robot.limit=4", "--rrd", "film.rrd", "--json")
    assert code == 0, complaint
    assert '"film": "film.rrd"' in out and not list(tmp_path.glob(".film*"))
    command = [sys.executable, "-m", "rerun", "rrd", "print", "film.rrd", "-vv"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for entity in ("/world/front/rgb", "/world/front/regions", "/seen/wrist", "/state/x", "/action/y", "/said"):
        assert entity in shown


def test_feature_maps_are_drawn_and_hidden_pictures_are_said(tmp_path):
    import torch

    batch, percept = scene((0.45, 0.05))
    shape = (len(batch), len(batch.cameras), 5, 6, 6)
    maps = torch.randn(shape) + torch.arange(6.0) * torch.tensor([3.0, 0, 0, 0, 0])[:, None, None]
    seen = [Stage("cameras", percept.replace(regions=None)), Stage("maker", percept.replace(regions=None, images=None, maps={"what": maps}))]
    panels, lines = collect(seen, batch)
    assert [panel.title for panel in panels] == ["cameras", "maker: what"] and "sees none of the pictures" in lines[-1]
    draw_sheet(seen, batch, "maps", tmp_path / "sheet.svg")
    red = components(maps[0])[0, 0]
    assert red.shape == (6, 6) and abs(np.corrcoef(red.mean(0), np.arange(6))[0, 1]) > 0.95
