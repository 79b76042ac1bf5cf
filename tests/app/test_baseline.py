"""The baseline without a network finds what brightness and a blur can find, and no more."""

import numpy as np
import pytest

from tinyseg.app.baseline import brightness_and_blur
from tinyseg.data import Dataset, annotate, lung_ct
from tinyseg.metrics import best_threshold, confusion_matrix


@pytest.mark.parametrize("sign", [1, -1], ids=["bright", "dark"])
def test_a_blob_in_noise(sign):
    rng = np.random.default_rng(0)
    labels = np.zeros((8, 64, 64), np.uint8)
    for i, one in enumerate(labels):
        one[8 + 4 * i : 28 + 4 * i, 20:44] = 1
    images = (0.5 + sign * 0.2 * labels + 0.3 * rng.normal(size=labels.shape)).astype(np.float32)
    data = Dataset(images[:, None], labels)
    sharp = best_threshold(sign * images, labels)[1]
    train, held_out = data.take(range(4)), data.take(range(4, 8))
    assert confusion_matrix(brightness_and_blur(train, held_out), held_out.labels).dice > 0.8 > 2 * sharp


def test_brightness_and_its_surroundings():
    """By brightness alone, bright specks in the dark are what a bright area is; by both they are not."""
    data = annotate(lung_ct(30, 48))
    train, held_out = data.take(range(20)), data.take(range(20, 30))
    dice = confusion_matrix(brightness_and_blur(train, held_out), held_out.labels, 6).dice
    assert 0.4 < dice < 0.75
    shuffled = confusion_matrix(brightness_and_blur(train, held_out)[::-1], held_out.labels, 6).dice
    assert shuffled < dice - 0.2


def of_sizes(sizes):
    rng, images, labels = np.random.default_rng(1), [], []
    for h, w in sizes:
        label_map = np.zeros((h, w), np.uint8)
        label_map[h // 4 : h // 2, w // 4 : w // 2] = 1
        images.append((0.4 + 0.2 * label_map + 0.3 * rng.random((h, w)))[None].astype(np.float32))
        labels.append(label_map)
    return images, labels


def test_rectangles_turned_round_give_the_same_turned_round():
    images, labels = of_sizes([(24, 60), (24, 60), (40, 24), (24, 24)])
    data = Dataset(images, labels)
    turned = Dataset([image.transpose(0, 2, 1) for image in images], [one.T for one in labels])
    for one, other in zip(brightness_and_blur(data, data), brightness_and_blur(turned, turned)):
        assert one.any()
        assert np.mean(one == other.T) > 0.99  # blurred along the other axis first: some sums round otherwise


def test_different_sizes_are_found_as_each_alone():
    train = Dataset(*of_sizes([(32, 32)] * 3))
    images, labels = of_sizes([(32, 50), (50, 32), (32, 32)])
    found = brightness_and_blur(train, Dataset(images, labels))
    assert [one.shape for one in found] == [one.shape for one in labels]
    for one, image, label_map in zip(found, images, labels):
        alone = brightness_and_blur(train, Dataset(image[None], label_map[None]))
        np.testing.assert_array_equal(one, alone[0])


def test_what_is_found_takes_a_byte_for_each_pixel():
    data = Dataset(*of_sizes([(32, 50), (50, 32)]))
    found = brightness_and_blur(data, data)
    assert [one.nbytes for one in found] == [one.size for one in data.labels]
