"""Whole or not at all."""

import pytest

from tinyseg.errors import InputError
from tinyseg.io.files import write_whole


def test_replaces_what_was_there(tmp_path):
    for content in ("one", b"two"):
        write_whole(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_keeps_what_was_there_if_it_cannot_write(tmp_path, monkeypatch):
    write_whole(tmp_path / "file", "old")

    def full(self, content):
        with open(self, "wb") as file:
            file.write(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(InputError, match=r"file: cannot be written \(No space left on device\)"):
        write_whole(tmp_path / "file", "new")
    monkeypatch.undo()
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_places_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    long, odd = tmp_path / ("a" * 250), tmp_path / "a\0b"
    for place in (tmp_path / "file" / "inside", tmp_path / "nowhere" / "inside", tmp_path, long, odd):
        with pytest.raises(InputError, match="cannot be written"):
            write_whole(place, "x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
