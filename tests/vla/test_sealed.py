from __future__ import annotations

from pathlib import Path

import pytest

from robot_io import UserError
from vla.sealed import check_seal, sealing


def write(folder: Path, text: str) -> None:
    with sealing(folder) as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "file.txt").write_text(text)


def test_what_was_sealed_passes_and_is_replaced_whole(tmp_path: Path):
    folder = tmp_path / "policy"
    write(folder, "one")
    write(folder, "two")
    check_seal(folder, "policy")
    assert (folder / "inner" / "file.txt").read_text() == "two"
    assert [path.name for path in tmp_path.iterdir()] == ["policy"]


def test_an_error_while_writing_leaves_the_former_folder(tmp_path: Path):
    folder = tmp_path / "policy"
    write(folder, "one")
    with pytest.raises(RuntimeError), sealing(folder) as partial:
        (partial / "file.txt").write_text("half")
        raise RuntimeError
    check_seal(folder, "policy")
    assert (folder / "inner" / "file.txt").read_text() == "one"


def test_a_kill_between_the_renames_loses_nothing(tmp_path: Path):
    folder = tmp_path / "policy"
    write(folder, "one")
    folder.rename(tmp_path / ".policy.old")
    check_seal(folder, "policy")


@pytest.mark.parametrize("damage", ["truncated", "changed", "removed", "unsealed"])
def test_damage_is_noticed(tmp_path: Path, damage: str):
    folder = tmp_path / "policy"
    write(folder, "content")
    file = folder / "inner" / "file.txt"
    if damage == "removed":
        file.unlink()
    elif damage == "unsealed":
        (folder / "digests.json").write_text("{")
    else:
        file.write_text({"truncated": "conte", "changed": "contemt"}[damage])
    with pytest.raises(UserError, match=r"missing|corrupted|cannot be read"):
        check_seal(folder, "policy")


def test_no_folder_at_all(tmp_path: Path):
    with pytest.raises(UserError, match="no such folder"):
        check_seal(tmp_path / "nowhere", "policy")
