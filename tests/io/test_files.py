"""Whole or not at all, and one at a time."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tinyseg.errors import InputError
from tinyseg.io.files import append, held, write_whole


def test_replaces_what_was_there(tmp_path):
    for content in ("one", b"two"):
        write_whole(tmp_path / "file", content)
    assert (tmp_path / "file").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_keeps_what_was_there_if_it_cannot_write(tmp_path, monkeypatch):
    write_whole(tmp_path / "file", "old")

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match=r"file: cannot be written \(No space left on device\)"):
        write_whole(tmp_path / "file", "new")
    monkeypatch.undo()
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_places_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").write_text("")
    long, odd = tmp_path / ("a" * 256), tmp_path / "a\0b"
    for place in (tmp_path / "file" / "inside", tmp_path / "nowhere" / "inside", tmp_path, long, odd):
        with pytest.raises(InputError, match="cannot be written"):
            write_whole(place, "x")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_many_threads_write_one_file_and_no_reader_meets_a_mixture(tmp_path):
    path, contents = tmp_path / "file", [bytes([65 + i]) * 100_000 for i in range(8)]
    write_whole(path, contents[0])

    def work(i):
        for _ in range(10):
            write_whole(path, contents[i])
            assert path.read_bytes() in contents

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert path.read_bytes() in contents and [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path):
    write_whole(tmp_path / ("a" * 255), "x")
    assert (tmp_path / ("a" * 255)).read_text() == "x"


def test_append_adds_at_the_end(tmp_path):
    for text in ("one\n", "", "two \udcff\n"):
        append(tmp_path / "log", text)
    assert (tmp_path / "log").read_bytes() == b"one\ntwo \xff\n"
    with pytest.raises(InputError, match="cannot be written"):
        append(tmp_path, "x")


def test_a_folder_is_held_by_one_process_until_it_ends(tmp_path):
    code = (
        "import sys, pathlib; from tinyseg.io.files import held; "
        "lock = held(pathlib.Path(sys.argv[1]), 'taken'); lock.__enter__(); "
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="^taken$"), held(tmp_path, "taken"):
            raise AssertionError("two at once")
        other.kill()
    with held(tmp_path, "taken"):
        assert [file.name for file in tmp_path.iterdir()] == [".lock"]
    assert not list(tmp_path.iterdir())
