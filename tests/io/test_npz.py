"""Arrays come back as they were, and an archive that claims too much is refused before memory is taken."""

import os
import struct
import tracemalloc
from io import BytesIO
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_STORED, ZipFile

import numpy as np
import pytest

from tinyseg.errors import InputError
from tinyseg.io.npz import json_in, packed, read_arrays

ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array("text"),
    "none": np.zeros((0, 3)),
}


def npy(array):
    content = BytesIO()
    np.save(content, array)
    return content.getvalue()


def write(path, entries, how=ZIP_STORED):
    with ZipFile(path, "w", how) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return path


def refused(path):
    """The error of a file, which has to come without much memory, and be short."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as caught:
            read_arrays(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 1000
    return message


@pytest.mark.parametrize("how", [np.savez, np.savez_compressed])
def test_numpys_own_archives_are_read(how, tmp_path):
    how(tmp_path / "x.npz", **ARRAYS)
    found = read_arrays(tmp_path / "x.npz")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype and found[name].flags.writeable


def test_numpy_reads_what_is_packed():
    with np.load(BytesIO(packed(ARRAYS)), allow_pickle=False) as file:
        assert {name: file[name].tolist() for name in file.files} == {
            n: a.tolist() for n, a in ARRAYS.items()
        }


@pytest.mark.parametrize("name", ["/a", "../a", "b/../a", "a\\b", "a\n", "\x1b[31m", "\u202ea"])
def test_a_name_that_is_a_path_or_cannot_be_printed_is_neither_written_nor_read(name, tmp_path):
    with pytest.raises(ValueError, match="expected printable names that are no paths"):
        packed({name: np.ones(1)})
    assert "odd name" in refused(write(tmp_path / "x.npz", [(f"{name}.npy", npy(np.ones(1)))]))


def test_two_entries_of_one_name_are_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate name"):
        write(tmp_path / "x.npz", [("a.npy", npy(np.ones(1)))] * 2)
    assert "two entries of one name" in refused(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (b"x" * 200, "magic string"),
        (npy(np.ones(3))[:-8], "a.npy has 144 bytes"),
        (npy(np.ones(3)) + b"more", "a.npy has 156 bytes"),
        (npy(np.ones(3)).replace(b"(3,)", b"(9,)"), "needs 72"),
        (npy(np.ones(1)).replace(b"(1,), ", b"(10**9,)"), "a.npz: not a whole"),
        (npy(np.ones((2, 3))).replace(b"(2, 3)", b"(-2,-3)"[:6]), "a.npz: not a whole"),
        (npy(np.array([None], dtype=object)), "a.npy holds object"),
    ],
)
def test_an_entry_whose_header_and_size_disagree_is_refused(entry, words, tmp_path):
    assert words in refused(write(tmp_path / "a.npz", [("a.npy", entry)]))


def test_a_few_kilobytes_that_unfold_to_gigabytes_are_refused(tmp_path):
    bomb = write(tmp_path / "x.npz", [("a.npy", npy(np.zeros(2**22)))], ZIP_DEFLATED)  # 32 MB
    assert bomb.stat().st_size < 2**16 and "claim to hold 33554560" in refused(bomb)


def test_a_size_that_only_the_directory_claims_is_refused(tmp_path):
    path = write(tmp_path / "x.npz", [("a.npy", npy(np.ones(3)))])
    content = path.read_bytes()
    at = content.index(b"PK\1\2") + 24  # the size unfolded, in the directory
    path.write_bytes(content[:at] + struct.pack("<I", 2**31) + content[at + 4 :])
    assert "claim to hold 2147483648" in refused(path)


def test_other_compressions_are_refused(tmp_path):
    assert "unknown way" in refused(write(tmp_path / "x.npz", [("a.npy", npy(np.ones(1)))], ZIP_BZIP2))


def test_a_byte_that_changed_is_noticed(tmp_path):
    path = write(tmp_path / "x.npz", [("a.npy", npy(np.ones(100)))])
    content = bytearray(path.read_bytes())
    content[content.index(np.float64(1).tobytes()) + 100] ^= 1
    path.write_bytes(content)
    assert "Bad CRC-32" in refused(path)


def test_more_entries_than_anybody_needs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tinyseg.io.npz.MOST_ENTRIES", 2)
    path = write(tmp_path / "x.npz", [(f"{i}.npy", npy(np.ones(1))) for i in range(3)])
    assert "more than 2 entries" in refused(path)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    with open(tmp_path / "x.npz", "wb") as file:
        file.truncate(2**32 + 1)  # a hole, which takes no disk
    assert "of at most 4294967296 bytes" in refused(tmp_path / "x.npz")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such pipes")
def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "x.npz")
    assert "expected a file, got a pipe or a device" in refused(tmp_path / "x.npz")


def test_json_is_a_text_of_bounded_length():
    assert json_in(np.array('{"a": [1]}'), 20) == {"a": [1]}
    for array in (
        np.ones(1),
        np.array(["a"]),
        np.array('"' + "a" * 20 + '"'),
        np.array("[" * 10**5),
        np.array("{"),
    ):
        with pytest.raises(ValueError):
            json_in(array, 10**6 if str(array)[:2] == "[[" else 20)
