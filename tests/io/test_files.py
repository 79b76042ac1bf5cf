"""Whole or not at all, and one at a time."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import get_ident

import pytest

from tinyseg.errors import InputError
from tinyseg.io.files import append, content_of, held, write_whole


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
        assert [file.name for file in tmp_path.iterdir()] == [".tinyseg.lock"]
    assert not list(tmp_path.iterdir())


def test_content_is_that_of_a_regular_file_of_bounded_size(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert content_of(tmp_path / "file", 5) == b"12345"
    for place, words in {
        "file": "expected a file of at most 4 bytes",
        ".": "expected a file, got a folder",
        "nowhere": "No such file",
        "n" * 5000: "cannot be read",
        "a\0b": "cannot be read",
    }.items():
        with pytest.raises(InputError, match=words):
            content_of(tmp_path / place, 4)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="only Linux has such files")
def test_of_a_file_nothing_is_read_beyond_the_size_that_the_system_tells():
    assert content_of("/proc/self/status") == b""  # it is made up as one reads, and may have no end


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="got a pipe or a device"):
        content_of(tmp_path / "pipe")


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_what_is_written_goes_through_no_link(tmp_path):
    (tmp_path / "mine").write_text("mine")
    os.symlink("mine", tmp_path / "file")
    os.symlink("mine", tmp_path / f".{os.getpid()}-{get_ident()}.part")
    write_whole(tmp_path / "file", "new")
    assert (tmp_path / "mine").read_text() == "mine" and (tmp_path / "file").read_text() == "new"


def test_a_lock_that_somebody_wrote_into_stays(tmp_path):
    (tmp_path / ".tinyseg.lock").write_text("mine")
    with held(tmp_path, "taken"):
        pass
    assert (tmp_path / ".tinyseg.lock").read_text() == "mine"
