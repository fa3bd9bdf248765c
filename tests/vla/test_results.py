"""`vla.results`: tables say what the rows say, and a stale one is found."""

import subprocess
import sys
from pathlib import Path

import pytest

from robot_io import UserError
from vla.evaluate.statistics import rate
from vla.results import fill, load_rows, markdown, merge_rows, save_rows, show

ROOT = Path(__file__).parents[2]


def row(cell, metric="success", successes=92, n=100, **more):
    return {"cell": cell, "metric": metric, **rate(successes, n).to_dict(), "seeds": list(range(n)), "recipe": "abc", **more}


def test_rows_round_trip_and_keep_their_order(tmp_path):
    rows = [row({"policy": "demo"}), row({"policy": "demo"}, "wrong_object", 3)]
    save_rows(tmp_path / "results" / "demo.json", rows)
    assert load_rows(tmp_path / "results" / "demo.json") == rows
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["demo.json"]


def test_a_table_has_a_line_per_cell_and_a_column_per_factor_and_metric():
    rows = [row({"head": "diffusion"}), row({"head": "diffusion"}, "wrong_object", 3), row({"head": "tokens", "steps": 4}, n=200)]
    assert markdown(rows).splitlines() == [
        "| head | steps | success | wrong object | trials |",
        "| --- | --- | ---: | ---: | ---: |",
        "| diffusion | – | 92.0 % [85.0, 95.9] | 3.0 % [1.0, 8.5] | 100 |",
        "| tokens | 4 | 46.0 % [39.2, 52.9] | – | 200 |",
    ]
    assert "wrong" not in markdown(rows, ["success"])


def test_one_factor_across_and_only_some_levels(tmp_path):
    save_rows(tmp_path / "demo.json", [row({"policy": p, "regime": r}, successes=k, n=n) for p, r, k, n in
                                       (("raw", "clean", 92, 100), ("raw", "d 7", 46, 100), ("mine", "d 7", 92, 100), ("other", "d 7", 1, 9))])
    page = fill("<!-- table: demo across=regime only=raw,mine -->\n<!-- /table -->", tmp_path).splitlines()
    assert page[1:5] == [
        "| policy | clean | d 7 | trials each |",
        "| --- | ---: | ---: | ---: |",
        "| raw | 92.0 % [85.0, 95.9] | 46.0 % [36.6, 55.7] | 100 |",
        "| mine | – | 92.0 % [85.0, 95.9] | 100 |",
    ]


def test_quantities_are_not_percentages():
    assert show({"metric": "latency_ms", "mean": 41.23, "low": 39.8, "high": 43.0}) == "41.2 [39.8, 43.0]"
    assert show({"metric": "train_seconds", "mean": 200.0, "low": 200.0, "high": 200.0}) == "200.0"


def test_a_page_is_filled_and_only_its_blocks_change(tmp_path):
    save_rows(tmp_path / "demo.json", [row({"policy": "demo"}, command="make demo"), row({"policy": "demo"}, "wrong_object", 3)])
    page = "# Title\n<!-- table: demo metrics=success -->\nold\n<!-- /table -->\nafter\n"
    filled = fill(page, tmp_path)
    assert filled.startswith("# Title\n<!-- table: demo metrics=success -->\n| policy | success | trials |")
    assert "Made by `make demo`; rows in `docs/results/demo.json`" in filled and filled.endswith("<!-- /table -->\nafter\n")
    assert "old" not in filled and "wrong object" not in filled
    assert fill(filled, tmp_path) == filled


def test_a_stale_page_fails_the_check_until_it_is_made_again(tmp_path):
    (tmp_path / "docs").mkdir()
    save_rows(tmp_path / "docs" / "results" / "demo.json", [row({"policy": "demo"})])
    (tmp_path / "README.md").write_text("<!-- table: demo -->\n<!-- /table -->\n")

    def run(*options):
        command = [sys.executable, "-m", "vla.results", "--root", str(tmp_path), *options]
        return subprocess.run(command, capture_output=True, text=True)

    checked = run("--check")
    assert checked.returncode == 1 and "README.md: a table is stale" in checked.stderr
    assert run().returncode == 0 and run("--check").returncode == 0
    assert "92.0 %" in (tmp_path / "README.md").read_text()


def test_this_repositorys_tables_are_up_to_date():
    checked = subprocess.run([sys.executable, "-m", "vla.results", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("content, message", [(None, "no such file"), ("[{", "is not JSON"), ("[{}]", "a row lacks cell")])
def test_bad_files_are_one_clear_error(tmp_path, content, message):
    if content is not None:
        (tmp_path / "x.json").write_text(content)
    with pytest.raises(UserError, match=message):
        load_rows(tmp_path / "x.json")


def test_merged_rows_take_the_place_of_those_with_their_cell_and_metric(tmp_path):
    path = tmp_path / "some.json"
    a, b, seconds = {"policy": "a"}, {"policy": "b"}, "cycle_seconds"
    merge_rows(path, [row(a, successes=1), row(b, successes=2)])
    merge_rows(path, [row(b, seconds, 3), row(a, successes=4)])
    assert load_rows(path) == [row(a, successes=4), row(b, successes=2), row(b, seconds, 3)]
