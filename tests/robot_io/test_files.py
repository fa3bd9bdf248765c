from __future__ import annotations

from pathlib import Path

import pytest

from robot_io.files import cache_folder, replacing, write_text


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path):
    path = tmp_path / "new" / "note.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as part:
        part.write_text("half of")
        raise RuntimeError
    assert path.read_text() == "old"
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
    assert [(file.name, file.read_text()) for file in path.parent.iterdir()] == [("note.txt", "new")]


def test_one_variable_moves_every_cache_and_its_older_name_still_does(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SWAPVLA_CACHE", raising=False)
    monkeypatch.setenv("VLA_CACHE", "/old")
    assert cache_folder() == Path("/old")
    monkeypatch.setenv("SWAPVLA_CACHE", "/new")
    assert cache_folder() == Path("/new")
