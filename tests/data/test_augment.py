import numpy as np
import pytest

from tinyseg.data.augment import random_symmetry, symmetry

SQUARE = np.arange(16).reshape(4, 4)  # no two pixels alike: what was done to it can be read off


def which(moved, x=SQUARE):
    """The numbers of the symmetries that make `moved` of `x`."""
    return [k for k in range(8) if np.array_equal(symmetry(x, k), moved)]


def compose(a, b):
    """The symmetry that does first `a`, then `b`; it must be exactly one."""
    (k,) = which(symmetry(symmetry(SQUARE, a), b))
    return k


@pytest.mark.parametrize(
    "k, source",
    [
        (0, lambda i, j: (i, j)),
        (1, lambda i, j: (j, 3 - i)),  # the right edge comes to the top
        (2, lambda i, j: (3 - i, 3 - j)),
        (3, lambda i, j: (3 - j, i)),
        (4, lambda i, j: (i, 3 - j)),  # left and right change places
        (5, lambda i, j: (j, i)),  # the transpose
        (6, lambda i, j: (3 - i, j)),  # top and bottom change places
        (7, lambda i, j: (3 - j, 3 - i)),
    ],
)
def test_each_symmetry_pixel_by_pixel(k, source):
    moved = symmetry(SQUARE, k)
    for i, j in np.ndindex(4, 4):
        assert moved[i, j] == SQUARE[source(i, j)]


def test_the_eight_are_distinct():
    assert [which(symmetry(SQUARE, k)) for k in range(8)] == [[k] for k in range(8)]


def test_group_laws():
    table = np.array([[compose(a, b) for b in range(8)] for a in range(8)])  # closure: compose finds one
    everything = set(range(8))
    assert list(table[0]) == list(table[:, 0]) == list(range(8))  # 0 is neutral
    assert all(set(row) == everything for row in table) and all(set(row) == everything for row in table.T)
    assert all(table[table[a, b], c] == table[a, table[b, c]] for a, b, c in np.ndindex(8, 8, 8))
    # Of the five groups of eight elements only D4 has two elements of order 4 and five of order 2.
    assert [table[k, k] == 0 for k in range(8)] == [True, False, True, False, True, True, True, True]


@pytest.mark.parametrize("k", range(8))
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, bool])
def test_only_the_last_two_axes_move(k, dtype):
    x = np.random.default_rng(0).integers(0, 2, (2, 3, 4, 6)).astype(dtype)
    moved = symmetry(x, k)
    assert moved.dtype == dtype and moved.flags.c_contiguous
    assert moved.shape == ((2, 3, 6, 4) if k & 1 else (2, 3, 4, 6))
    for n, c in np.ndindex(2, 3):
        assert np.array_equal(moved[n, c], symmetry(x[n, c], k))


@pytest.mark.parametrize("k", range(8))
def test_the_result_is_a_new_array(k):
    x = SQUARE.copy()
    symmetry(x, k)[:] = -1
    assert np.array_equal(x, SQUARE)


def batch(n, height, width):
    image = np.arange(height * width, dtype=np.float32).reshape(1, 1, height, width)
    images = np.repeat(image, n, axis=0)
    return images, (images[:, 0] % 3 == 0).astype(np.uint8)


def test_each_label_map_moves_with_its_image():
    images, labels = batch(50, 4, 4)
    new_images, new_labels = random_symmetry(images, labels, np.random.default_rng(1))
    assert new_images.dtype == np.float32 and new_labels.dtype == np.uint8
    assert new_images.shape == images.shape and new_labels.shape == labels.shape
    assert np.array_equal(new_labels, new_images[:, 0] % 3 == 0)
    assert np.array_equal(images, batch(50, 4, 4)[0]) and np.array_equal(labels, batch(50, 4, 4)[1])


@pytest.mark.parametrize("dtype", [int, bool, np.float32])
def test_labels_keep_their_dtype(dtype):
    images, labels = batch(20, 4, 4)
    new_images, new_labels = random_symmetry(images, labels.astype(dtype), np.random.default_rng(1))
    assert new_labels.dtype == dtype and np.array_equal(new_labels, new_images[:, 0] % 3 == 0)


@pytest.mark.parametrize("shape, possible", [((4, 4), range(8)), ((4, 6), (0, 2, 4, 6))])
def test_every_possible_symmetry_is_equally_likely(shape, possible):
    n = 1600
    images, labels = batch(n, *shape)
    moved, _ = random_symmetry(images, labels, np.random.default_rng(2))
    drawn = [which(image[0], images[0, 0]) for image in moved]
    assert all(len(found) == 1 for found in drawn)
    counts = {k: drawn.count([k]) for k in range(8)}
    share = n / len(possible)
    for k, count in counts.items():  # five standard deviations
        assert abs(count - share) < 5 * np.sqrt(share) if k in possible else count == 0


def test_the_same_seed_draws_the_same():
    images, labels = batch(30, 4, 4)
    first, again, other = (random_symmetry(images, labels, np.random.default_rng(s))[0] for s in (3, 3, 4))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_as_many_labels_as_images():
    images, labels = batch(3, 4, 4)
    with pytest.raises(ValueError, match="argument 2 is longer"):
        random_symmetry(images, labels[:2], np.random.default_rng(0))
