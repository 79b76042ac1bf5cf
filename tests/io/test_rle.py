import csv
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tinyseg.errors import InputError
from tinyseg.io import rle
from tinyseg.io.rle import decode, encode, is_runs, read_runs, write_runs

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=7))


def pixels_of(text):
    """Kaggle's definition, pixel by pixel: the numbers from 1 that a text of runs names."""
    numbers = [int(word) for word in text.split()]
    return [n for start, length in zip(numbers[::2], numbers[1::2]) for n in range(start, start + length)]


def numbered(mask):
    """The numbers of a mask's pixels: from top to bottom, then from left to right, from 1."""
    height, width = mask.shape
    return [1 + x * height + y for x in range(width) for y in range(height) if mask[y, x]]


@given(masks)
def test_runs_name_the_pixels_of_the_mask_in_order(mask):
    assert pixels_of(encode(mask)) == numbered(mask)


@given(masks)
def test_runs_are_as_few_as_can_be(mask):
    numbers = numbered(mask)
    assert len(encode(mask).split()) == 2 * sum(n - 1 not in numbers for n in numbers)


@given(masks, st.randoms(use_true_random=False))
def test_a_mask_is_what_its_runs_name_however_they_are_cut(mask, random):
    cut = []
    for n in numbered(mask):
        if cut and sum(cut[-1]) == n and random.random() < 0.5:
            cut[-1][1] += 1
        else:
            cut.append([n, 1])
    decoded = decode(" ".join(f"{start} {length}" for start, length in cut), mask.shape)
    assert decoded.dtype == bool and decoded.shape == mask.shape
    assert numbered(decoded) == numbered(mask)


@pytest.mark.parametrize("text", ["", "-1", " "])
def test_nothing_and_minus_one_are_an_empty_mask(text):
    assert decode(text, (2, 3)).tolist() == [[False] * 3] * 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3", "expected pairs of start and length, got 3 numbers"),
        ("1 2.5", "expected whole numbers above 0, got '2.5'"),
        ("1 ²", "expected whole numbers above 0, got '²'"),
        ("-3 2", "expected whole numbers above 0, got '-3'"),
        ("0 2", "expected starts and lengths of at least 1, got run 1: 0 2"),
        ("1 1 3 0", "expected starts and lengths of at least 1, got run 2: 3 0"),
        ("1 1 6 2", "expected runs within 3 x 2 pixels, got run 2: 6 2"),
        ("1 9999999999999", "expected runs within 3 x 2 pixels, got run 1: 1 9999999999999"),
        ("4 1 2 1", "expected rising starts, got run 2: 2 1"),
        ("1 2 2 1", "expected runs that do not overlap, got run 2: 2 1"),
        ("1 1 " * 50, "expected at most 28 characters, got 200"),
    ],
)
def test_what_are_no_runs_of_this_image_is_refused(text, message):
    with pytest.raises(InputError) as caught:
        decode(text, (2, 3))
    assert str(caught.value) == f"run lengths: {message}"


def test_the_columns_but_the_last_are_the_name(tmp_path):
    (tmp_path / "a.csv").write_text("subject,img,pixels\n1,1,168153 9 168570 15\n1,2,\n")
    assert read_runs(tmp_path / "a.csv") == {"1_1": ("168153 9 168570 15",), "1_2": ("",)}


def test_rows_of_one_image_are_its_objects_and_an_ending_is_no_part_of_its_name(tmp_path):
    (tmp_path / "a.csv").write_text(
        "\ufeffImageId, EncodedPixels\nb.c.JPG,1 2\na,-1\nb.c.JPG,5 1\n\n", "utf-8"
    )
    assert read_runs(tmp_path / "a.csv") == {"b.c": ("1 2", "5 1"), "a": ("",)}


def test_masks_that_were_written_are_read_back(tmp_path):
    rng = np.random.default_rng(0)
    written = {name: rng.random((40, 30)) < share for name, share in [("1_2", 0.5), ('a,"b"', 0.1), ("é", 0)]}
    write_runs(tmp_path / "a.csv", {name: encode(mask) for name, mask in written.items()})
    assert (tmp_path / "a.csv").read_bytes().startswith(b"img,pixels\n1_2,")
    read = read_runs(tmp_path / "a.csv")
    assert list(read) == list(written)
    assert all(np.array_equal(decode(*read[name], mask.shape), mask) for name, mask in written.items())


def test_a_mask_longer_than_csvs_own_limit_is_read_and_the_limit_left_alone(tmp_path):
    limit = csv.field_size_limit()
    mask = np.zeros((400, 400), bool)
    mask[::2] = True
    write_runs(tmp_path / "a.csv", {"a": encode(mask)})
    assert len(encode(mask)) > limit
    assert np.array_equal(decode(*read_runs(tmp_path / "a.csv")["a"], mask.shape), mask)
    assert csv.field_size_limit() == limit


def test_a_csv_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    write_runs(tmp_path / "a.csv", {"a": "1 4"})
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"a\.csv: cannot be written \(No space left on device\)"):
        write_runs(tmp_path / "a.csv", {"b": "1 4"})
    assert read_runs(tmp_path / "a.csv") == {"a": ("1 4",)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            "line 1: expected a header such as img,pixels or ImageId,EncodedPixels, with commas, got nothing",
        ),
        (
            "a,1 2\n",
            "line 1: expected a header such as img,pixels or ImageId,EncodedPixels, with commas, got a,1 2",
        ),
        ("img,pixels\na,1 2\nb,1,2\n", "line 3: expected 2 columns, got 3"),
        ("img,pixels\na\n", "line 2: expected 2 columns, got 1"),
    ],
)
def test_a_csv_without_runs_is_refused_with_the_file_and_the_line(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        read_runs(tmp_path / "a.csv")
    assert str(caught.value) == f"{tmp_path / 'a.csv'}, {message}"


def test_a_csv_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("img,pixels\na,1 2\n")
    monkeypatch.setattr(rle, "MOST_BYTES", 10)
    with pytest.raises(InputError, match=r"a\.csv: expected a CSV of at most 10 bytes, got 17; split it"):
        read_runs(tmp_path / "a.csv")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_a_pipe_is_no_csv_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"a\.csv: expected a CSV file, got none of this name"):
        read_runs(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("header", "runs"),
    [
        ("subject,img,pixels", True), ("ImageId,EncodedPixels", True), ("id,rle", True),
        ("img,rle_mask", True),
        ("img,mask", True), ("image,subject", False), ("pixels", False), ("name,age", False), ("", False),
    ],
)  # fmt: skip
def test_a_csv_of_runs_is_known_by_its_header(tmp_path, header, runs):
    (tmp_path / "a.csv").write_text(header)
    assert is_runs(tmp_path / "a.csv") is runs


def test_a_table_of_somebody_elses_is_not_written_over(tmp_path):
    (tmp_path / "a.csv").write_text("patient,age\n1,40\n")
    with pytest.raises(InputError, match="a.csv: expected a new file, or run lengths to write anew"):
        write_runs(tmp_path / "a.csv", {"a": "1 4"})
    assert (tmp_path / "a.csv").read_text() == "patient,age\n1,40\n"
