"""Label maps on disk: any values are classes, 255 is what nobody annotated, and nothing is guessed."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tinyseg.errors import InputError
from tinyseg.io.folder import load_folder
from tinyseg.io.masks import Meaning
from tinyseg.io.preprocessing import Preprocessing
from tinyseg.ops import UNLABELLED

RNG = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    return tmp_path


def save(folder, name, labels, mode=None, suffix=".png"):
    """A noisy image and its label map."""
    shape = labels.shape[:2]
    Image.fromarray(RNG.integers(0, 256, shape, dtype=np.uint8)).save(folder / "images" / f"{name}.png")
    image = Image.fromarray(labels)
    if mode == "P":
        image.putpalette(np.random.default_rng(5).integers(0, 256, 768).tolist())
    image.save(folder / "masks" / f"{name}{suffix}")


def load(folder, size=8):
    return load_folder(folder, size, label_maps=True)


@pytest.mark.parametrize("mode", [None, "P"], ids=["grey", "palette"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_values_are_classes_in_rising_order_over_all_files(folder, mode, suffix):
    one = RNG.choice(np.uint8([0, 3, 255]), (8, 8))
    two = RNG.choice(np.uint8([3, 10]), (8, 8))
    save(folder, "a", one, mode, suffix)
    save(folder, "b", two, mode, suffix)
    data = load(folder)
    assert data.labels.dtype == np.uint8 and data.labels.shape == (2, 8, 8)
    number = {0: 0, 3: 1, 10: 2, 255: UNLABELLED}
    np.testing.assert_array_equal(data.labels[0], np.vectorize(number.get)(one))
    np.testing.assert_array_equal(data.labels[1], np.vectorize(number.get)(two))
    names = ("value 0", "value 3", "value 10")
    assert data.preprocessing == Preprocessing(8, masks=Meaning((0, 3, 10), names, ignore=UNLABELLED))
    assert data.class_names == names and data.classes == 3


def test_16_bit_values(folder):
    labels = RNG.choice(np.uint16([0, 300, 65534]), (8, 8))
    save(folder, "a", labels)
    data = load(folder)
    assert data.preprocessing.masks.values == (0, 300, 65534)
    np.testing.assert_array_equal(np.array(data.preprocessing.masks.values)[data.labels[0]], labels)


@pytest.mark.parametrize("values", [(0, 255), (0, 1), (1, 2)])
def test_two_values_are_two_classes(folder, values):
    labels = RNG.choice(np.uint8(values), (8, 8))
    save(folder, "a", labels)
    data = load(folder)
    assert data.preprocessing.masks.values == values
    np.testing.assert_array_equal(data.labels[0], labels == values[1])


def test_255_beside_two_others_is_unlabelled(folder):
    save(folder, "a", RNG.choice(np.uint8([0, 255]), (8, 8)))  # by itself it would be a mask
    save(folder, "b", RNG.choice(np.uint8([0, 1, 255]), (8, 8)))
    data = load(folder)
    assert data.preprocessing.masks.values == (0, 1)
    assert set(np.unique(data.labels[0])) == {0, UNLABELLED}


def test_a_label_map_of_nothing_but_255_is_unlabelled_beside_others(folder):
    save(folder, "a", np.full((8, 8), 255, np.uint8))
    save(folder, "b", RNG.choice(np.uint8([0, 3]), (8, 8)))
    data = load(folder)
    assert data.preprocessing.masks.values == (0, 3) and data.classes == 2
    assert (data.labels[0] == UNLABELLED).all() and set(np.unique(data.labels[1])) == {0, 1}


def test_a_cell_has_the_value_that_covers_most_of_it(folder):
    labels = np.uint8([[0, 0, 5, 5], [0, 7, 7, 5], [9, 9, 0, 7], [255, 255, 9, 5]])
    save(folder, "a", labels)
    data = load(folder, 2)
    values = np.array([*data.preprocessing.masks.values])
    assert values.tolist() == [0, 5, 7, 9]
    np.testing.assert_array_equal(data.labels[0], [[0, 1], [3, 0]])  # of equals the lowest


def test_a_class_that_resizing_erases_is_still_a_class(folder):
    labels = np.zeros((40, 100), np.uint8)
    labels[:, 40:60], labels[0, 0] = 1, 2
    save(folder, "a", labels)
    data = load(folder, 4)
    assert data.preprocessing.masks.values == (0, 1, 2) and data.classes == 3
    assert set(np.unique(data.labels)) == {0, 1}


def test_kinds_of_files_are_kept_for_a_user_to_see(folder):
    save(folder, "a_1", RNG.choice(np.uint8([0, 1]), (8, 9)))
    save(folder, "b_1", RNG.choice(np.uint8([0, 1]), (7, 7)))
    Image.fromarray(RNG.integers(0, 256, (7, 7, 3), dtype=np.uint8)).save(folder / "images" / "b_1.png")
    data = load(folder)
    assert data.kinds == ("9 x 8 pixels, 8-bit grey", "7 x 7 pixels, 8-bit colour")
    assert data.take([1]).kinds == data.kinds[1:]


@pytest.mark.parametrize(
    ("labels", "suffix", "words"),
    [
        (np.zeros((8, 8), np.uint8), ".jpg", "a.jpg: expected a label map as .bmp .* --mask-values half"),
        (np.zeros((8, 8), np.uint8), ".gif", "a.gif: expected a label map as"),
        (np.zeros((8, 8), np.uint8), ".webp", "a.webp: expected a label map as"),
        (np.zeros((8, 8), np.uint8), ".png", "label maps of 2 to 254 classes, got the values 0"),
        (np.full((8, 8), 255, np.uint8), ".png", "label maps of 2 to 254 classes, got the values 255"),
        (np.arange(300, dtype=np.uint16).reshape(15, 20), ".png", r"4, ... \(300 values\)"),
    ],
)  # fmt: skip
def test_what_is_no_label_map(folder, labels, suffix, words):
    save(folder, "a", labels, suffix=suffix)
    with pytest.raises(InputError, match=words):
        load(folder)


@pytest.mark.parametrize("suffix", [".bmp", ".pgm"])
def test_other_formats_that_keep_values(folder, suffix):
    labels = RNG.choice(np.uint8([0, 2, 7]), (8, 8))
    save(folder, "a", labels, suffix=suffix)
    assert np.array_equal(np.array([0, 2, 7])[load(folder).labels[0]], labels)


def test_one_bit_is_a_mask_and_not_part_of_a_label_map(folder):
    save(folder, "a", RNG.random((8, 8)) > 0.5)
    save(folder, "b", RNG.choice(np.uint8([0, 255]), (8, 8)))
    data = load(folder)
    assert data.preprocessing.masks.values == (0, 255) and set(np.unique(data.labels)) == {0, 1}
    save(folder, "c", RNG.choice(np.uint8([0, 1]), (8, 8)))
    with pytest.raises(InputError, match="label maps of one kind, got a mask of 1 bit among them"):
        load(folder)


def test_grey_levels_of_2_bits_are_the_values(folder):
    save(folder, "a", np.zeros((8, 8), np.uint8))
    body = b"".join(b"\0" + bytes([0b00011011] * 2) for _ in range(8))  # 0 1 2 3 0 1 2 3 in each row
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 2, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(body)),
        (b"IEND", b""),
    ]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    (folder / "masks/a.png").write_bytes(content)
    assert load(folder).preprocessing.masks.values == (0, 1, 2, 3)


def test_images_in_place_of_label_maps_are_refused_at_the_first(folder, monkeypatch):
    looked_at = []
    for name in "abc":
        save(folder, name, RNG.integers(0, 60000, (40, 40), dtype=np.uint16))
    monkeypatch.setattr("tinyseg.io.folder.resized_labels", lambda *args: looked_at.append(args))
    with pytest.raises(InputError, match="label maps of 2 to 254 classes"):
        load(folder)
    assert not looked_at
