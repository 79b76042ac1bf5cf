"""What is read is what was written, to the last bit; what is damaged is refused in a line."""

from zipfile import ZipFile

import numpy as np
import pytest

from tinyseg.errors import InputError
from tinyseg.io.checkpoint import read_checkpoint, write_checkpoint

TREE = {
    "params": {
        "block1.conv.weight": np.float32([[1e-40, -0.0], [np.inf, np.nan]]),
        "empty": np.zeros((0, 3)),
    },
    "memory": (np.arange(3), (np.uint8(7), 4, None)),
    "rng": {"state": 2**127 + 1, "name": "PCG64", "odd": "\udcff\n"},
    "losses": [0.1, float("inf"), True],
    "file": "as np.savez names an argument",
}


def same(one, other):
    assert type(one) is type(other) or isinstance(one, np.generic)
    if isinstance(one, dict):
        assert list(one) == list(other)
        return all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray | np.generic):
        return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    return one == other


def test_a_tree_comes_back_to_the_last_bit(tmp_path):
    write_checkpoint(tmp_path / "state.npz", TREE)
    assert same(TREE, read_checkpoint(tmp_path / "state.npz"))


def test_the_same_tree_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        write_checkpoint(tmp_path / name, TREE)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("odd", [{1, 2}, object(), np.array([None]), b"bytes"])
def test_what_cannot_be_kept_is_refused_and_writes_nothing(odd, tmp_path):
    with pytest.raises((TypeError, ValueError)):
        write_checkpoint(tmp_path / "state.npz", {"odd": odd})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.99])
def test_half_a_file_is_no_checkpoint(share, tmp_path):
    path = tmp_path / "state.npz"
    write_checkpoint(path, TREE)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match="state.npz: not a whole .npz file"):
        read_checkpoint(path)


def test_other_files_are_no_checkpoints(tmp_path):
    np.savez(tmp_path / "arrays.npz", a=np.ones(2))
    np.save(tmp_path / "one.npy", np.ones(2))
    for name, kind in {"arrays.npz": "checkpoint", "one.npy": ".npz file"}.items():
        with pytest.raises(InputError, match=f"{name}: not a whole {kind}"):
            read_checkpoint(tmp_path / name)
    with pytest.raises(InputError, match="nowhere: cannot be read"):
        read_checkpoint(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "tree",
    [
        '{"array": "7"}',
        '{"array": [0]}',
        '{"odd": 1}',
        "[" * 9999,
        '{"dict": [1]}',
        '{"a": 1, "b": 2}',
        "9" * 5000,
    ],
)
def test_a_tree_that_nobody_wrote_is_refused_in_a_line(tree, tmp_path):
    np.savez(tmp_path / "state.npz", tree=np.array(tree))
    with pytest.raises(InputError, match="state.npz: not a whole checkpoint") as caught:
        read_checkpoint(tmp_path / "state.npz")
    assert "\n" not in str(caught.value)


def test_an_entry_without_its_header_is_refused(tmp_path):
    write_checkpoint(tmp_path / "state.npz", TREE)
    with ZipFile(tmp_path / "state.npz", "a") as archive:
        archive.writestr("99.npy", b"no header")
    with pytest.raises(InputError, match="state.npz: not a whole .npz file"):
        read_checkpoint(tmp_path / "state.npz")
