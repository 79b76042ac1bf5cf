from itertools import combinations, product

import numpy as np
import pytest

from tinyseg.data.dataset import Dataset, all_pixels, of_any_size
from tinyseg.errors import InputError
from tinyseg.io.masks import Meaning
from tinyseg.io.preprocessing import Preprocessing, preprocessing_of
from tinyseg.ops import UNLABELLED


def dataset(subjects):
    """A dataset whose image i is filled with i, its labels with i % 2: one can see what belongs together."""
    n = len(subjects)
    images = np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None, None], (n, 1, 2, 2)).copy()
    return Dataset(
        images, images[:, 0].astype(np.uint8) % 2, tuple(f"image{i}" for i in range(n)), tuple(subjects)
    )


def numbers(data):
    """Which images these are, after a check that nothing that belongs together came apart."""
    found = [int(name.removeprefix("image")) for name in data.names]
    assert len(data) == len(found) == len(data.subjects)
    assert data.images.shape == (len(found), 1, 2, 2) and data.labels.shape == (len(found), 2, 2)
    assert data.images[:, 0, 0, 0].tolist() == found
    assert data.labels[:, 0, 0].tolist() == [i % 2 for i in found]
    return found


IMAGES = np.arange(12, dtype=np.float32).reshape(3, 1, 2, 2) / 12
LABELS = np.array([1, 0, 1], bool)[:, None, None] & np.eye(2, dtype=bool)  # (3, 2, 2)
TEN_BY_SIX = dataset([str(i % 10) for i in range(60)])
UNEVEN = dataset("a" + 2 * "b" + 3 * "c" + 5 * "d" + 8 * "e" + 13 * "f")


def test_take_keeps_together_what_belongs_together():
    taken = TEN_BY_SIX.take([7, 3, 12])
    assert numbers(taken) == [7, 3, 12] and taken.subjects == ("7", "3", "2")
    assert numbers(TEN_BY_SIX.take(np.array([5]))) == [5]


def test_take_keeps_all_else_as_it_is():
    data = Dataset(IMAGES, LABELS, preprocessing=Preprocessing(2), kinds=("a", "b", "c"))
    taken = data.take([2, 0])
    assert taken.names == taken.subjects == ("2", "0") and taken.kinds == ("c", "a")
    assert taken.preprocessing == data.preprocessing
    few = Dataset(IMAGES, 3 * LABELS.astype(int)).take([1])
    assert few.labels.max() == 0 and few.classes == 4  # a class that is not among these is still a class
    assert len(data.take([])) == 0


@pytest.mark.parametrize("data", [TEN_BY_SIX, UNEVEN])
@pytest.mark.parametrize("share", [0.001, 0.2, 0.5, 0.999])
@pytest.mark.parametrize("seed", range(5))
def test_a_split_parts_the_images_but_no_subject(data, share, seed):
    training, held_out = data.split(share, np.random.default_rng(seed))
    assert sorted(numbers(training) + numbers(held_out)) == list(range(len(data)))
    assert not set(training.subjects) & set(held_out.subjects)
    assert len(training) and len(held_out)
    for part in (training, held_out):
        assert part.subjects == tuple(data.subjects[i] for i in numbers(part))


@pytest.mark.parametrize("share, expected", [(0.1, 6), (0.15, 12), (0.2, 12), (0.5, 30), (0.95, 54)])
def test_of_equal_subjects_the_share_is_met_to_within_one(share, expected):
    for seed in range(5):
        assert len(TEN_BY_SIX.split(share, np.random.default_rng(seed))[1]) == expected


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.5])
def test_of_unequal_subjects_none_that_is_left_would_bring_the_share_nearer(share):
    for seed in range(20):
        training, held_out = UNEVEN.split(share, np.random.default_rng(seed))
        away = abs(len(held_out) - share * len(UNEVEN))
        assert away < share * len(UNEVEN)
        for subject in set(training.subjects):
            more = len(held_out) + training.subjects.count(subject)
            assert abs(more - share * len(UNEVEN)) > away


def test_if_every_subject_is_too_large_the_smallest_is_held_out():
    for seed in range(5):
        data = dataset(5 * "a" + 4 * "b")
        assert set(data.split(0.1, np.random.default_rng(seed))[1].subjects) == {"b"}


@pytest.mark.parametrize("stay", [1, 2, 5])
def test_so_many_subjects_stay_as_are_asked_for(stay):
    for seed in range(5):
        training, held_out = UNEVEN.split(0.999, np.random.default_rng(seed), stay=stay)
        assert len(set(training.subjects)) >= stay and len(held_out)
    with pytest.raises(InputError, match="at least 7 subjects, got 6"):
        UNEVEN.split(0.5, np.random.default_rng(0), stay=6)


def test_the_rng_alone_decides():
    first, again = (numbers(TEN_BY_SIX.split(0.3, np.random.default_rng(1))[1]) for _ in range(2))
    assert first == again
    _, held_out = TEN_BY_SIX.split(0.3, np.random.default_rng(1))  # nor has the order of a set any say
    assert set(held_out.subjects) == set(np.random.default_rng(1).permutation(list("0123456789"))[:3])
    drawn = [set(TEN_BY_SIX.split(0.3, np.random.default_rng(seed))[1].subjects) for seed in range(40)]
    assert set.union(*drawn) == set(TEN_BY_SIX.subjects)  # each of the ten has its turn


def test_two_subjects_are_enough_and_one_is_not():
    training, held_out = dataset("aab").split(0.5, np.random.default_rng(0))
    assert {training.subjects, held_out.subjects} == {("a", "a"), ("b",)}
    with pytest.raises(InputError, match=r"at least 2 subjects, got 1: \['a'\]"):
        dataset("aaa").split(0.5, np.random.default_rng(0))


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan")])
def test_a_share_that_would_leave_one_side_empty_is_refused(share):
    with pytest.raises(InputError, match=f"between 0 and 1 to hold out, got {share}"):
        TEN_BY_SIX.split(share, np.random.default_rng(0))


# Folds


@pytest.mark.parametrize("data", [TEN_BY_SIX, UNEVEN])
@pytest.mark.parametrize("n", [2, 3, 6])
@pytest.mark.parametrize("seed", range(3))
def test_folds_part_the_images_but_no_subject(data, n, seed):
    folds = data.folds(n, np.random.default_rng(seed))
    assert len(folds) == n and all(map(len, folds))
    assert sorted(i for fold in folds for i in numbers(fold)) == list(range(len(data)))
    assert sum(len(set(fold.subjects)) for fold in folds) == len(set(data.subjects))


@pytest.mark.parametrize("count, n", [(10, 5), (11, 5), (14, 5), (7, 3)])
def test_folds_of_equal_subjects_differ_by_one_subject_at_most(count, n):
    folds = dataset([str(i % count) for i in range(2 * count)]).folds(n, np.random.default_rng(0))
    sizes = [len(fold) for fold in folds]
    assert max(sizes) - min(sizes) == (2 if count % n else 0)


def test_the_largest_fold_is_near_the_least_that_any_grouping_can_have():
    """Every grouping is tried."""
    rng = np.random.default_rng(0)
    for n in (2, 3):
        for _ in range(10):
            sizes = rng.integers(1, 12, 6)
            data = dataset("".join(size * letter for size, letter in zip(sizes, "abcdef")))
            groupings = (np.bincount(groups, sizes, n).max() for groups in product(range(n), repeat=6))
            largest = max(map(len, data.folds(n, rng)))
            assert largest <= (4 / 3 - 1 / (3 * n)) * min(groupings)


def test_the_rng_alone_decides_the_folds():
    def drawn(seed):
        return [fold.names for fold in TEN_BY_SIX.folds(5, np.random.default_rng(seed))]

    assert drawn(1) == drawn(1) != drawn(2)


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (7, "--folds 7: expected a subject for each fold, got 6: a, b, c, .*; at most --folds 6 can be had"),
        (1, "at least 2 groups of subjects, got 1"),
        (0, "at least 2 groups of subjects, got 0"),
    ],
)
def test_folds_that_cannot_be_had_are_refused(n, words):
    with pytest.raises(InputError, match=words):
        UNEVEN.folds(n, np.random.default_rng(0))


# Two arrays and nothing else


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.int8, np.uint16])
def test_two_arrays_suffice(dtype):
    labels = LABELS.astype(dtype)
    data = Dataset(IMAGES, labels)
    assert data.labels.dtype == np.uint8 and labels.dtype == dtype
    np.testing.assert_array_equal(data.labels, labels)
    assert data.images is IMAGES and (data.labels is labels) == (dtype is np.uint8)
    assert data.names == data.subjects == ("0", "1", "2") and len(data) == 3
    assert data.class_names == ("background", "structure") and data.classes == 2
    assert data.preprocessing is None and data.kinds == ()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_images_become_float32(dtype):
    images = IMAGES.astype(dtype)
    data = Dataset(images, LABELS)
    assert data.images.dtype == np.float32 and images.dtype == dtype
    np.testing.assert_array_equal(data.images, images.astype(np.float32))


def test_lists_and_iterators_become_arrays_and_tuples():
    data = Dataset(IMAGES.tolist(), LABELS.tolist(), list("abc"), list("xxy"), ["nothing", "nerve"])
    assert data.images.dtype == np.float32 and data.labels.dtype == np.uint8
    assert data.names == ("a", "b", "c") and data.subjects == ("x", "x", "y")
    assert data.class_names == ("nothing", "nerve")


def test_names_are_the_subjects_unless_these_are_told():
    assert Dataset(IMAGES, LABELS, ("a", "b", "c")).subjects == ("a", "b", "c")
    data = Dataset(IMAGES, LABELS, subjects=("x", "x", "y"))
    assert data.names == ("0", "1", "2") and data.subjects == ("x", "x", "y")


def test_of_arrays_alone_each_image_is_a_subject():
    training, held_out = Dataset(IMAGES, LABELS).split(0.3, np.random.default_rng(0))
    assert sorted(training.names + held_out.names) == ["0", "1", "2"] and len(held_out) == 1


@pytest.mark.parametrize(
    ("most", "names"),
    [
        (0, ("background", "structure")),  # nothing was found, which does not make it a single class
        (1, ("background", "structure")),
        (2, ("class 0", "class 1", "class 2")),
        (254, tuple(f"class {k}" for k in range(255))),
    ],
)
def test_there_are_as_many_classes_as_the_labels_have_numbers(most, names):
    labels = most * LABELS.astype(int)
    labels[1] = UNLABELLED  # is none
    data = Dataset(IMAGES, labels)
    assert data.class_names == names and data.classes == len(names)
    assert data.take([0]).class_names == names
    assert (data.labels[1] == UNLABELLED).all()


def test_labels_of_which_nobody_annotated_any():
    data = Dataset(IMAGES, np.full((3, 2, 2), UNLABELLED))
    assert data.class_names == ("background", "structure") and (data.labels == UNLABELLED).all()


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (IMAGES, LABELS[:, None], r"labels (N, H, W) for images (3, 1, 2, 2), got bool (3, 1, 2, 2)"),
        (IMAGES, LABELS[:, None], "masks (N, 1, H, W) become labels by masks[:, 0] > 0.5"),
        (IMAGES, LABELS.astype("f"), "expected whole labels (N, H, W) for images (3, 1, 2, 2), got float32"),
        (IMAGES, LABELS[:2], "expected whole labels (N, H, W) for images (3, 1, 2, 2), got bool (2, 2, 2)"),
        (IMAGES, LABELS[:, :1], "got bool (3, 1, 2)"),
        (IMAGES, LABELS.astype(int) - 1, "labels 0 to 254, and 255 for what is not annotated, got -1 to 0"),
        (
            IMAGES,
            LABELS.astype(int) * 256,
            "255 for what is not annotated, got 0 to 256",
        ),
        (np.uint8(255 * IMAGES), LABELS, "images (N, channels, H, W) of floats, got uint8 (3, 1, 2, 2)"),
        (np.uint8(255 * IMAGES), LABELS, "images / 255 makes floats of 8-bit pixels"),
        (IMAGES > 0.5, LABELS, "images (N, channels, H, W) of floats, got bool (3, 1, 2, 2)"),
        (IMAGES[:, 0], LABELS, "of floats, got float32 (3, 2, 2)"),
        (IMAGES[:, 0], LABELS, "images[:, None] adds an axis for one channel"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_with_a_way_out(images, labels, words):
    with pytest.raises(ValueError) as error:
        Dataset(images, labels)
    assert str(error.value).startswith("Dataset: expected ") and words in str(error.value)


def test_the_ways_out_are_ways_out():
    pixels, masks = np.uint8(255 * IMAGES), LABELS[:, None].astype("f")
    assert np.array_equal(Dataset(pixels / 255, masks[:, 0] > 0.5).labels, LABELS)
    assert Dataset(IMAGES[:, 0][:, None], LABELS).images.shape == IMAGES.shape


@pytest.mark.parametrize(
    ("fields", "got"),
    [
        ({"names": ("a", "b")}, "2 names and 2 subjects"),
        ({"subjects": ("a", "b", "c", "d")}, "3 names and 4 subjects"),
        ({"names": ("a", "b", "c"), "subjects": ("a",)}, "3 names and 1 subjects"),
    ],
)
def test_wrong_counts_of_names_or_subjects_are_refused(fields, got):
    with pytest.raises(ValueError, match=f"a name and a subject for each of 3 images, got {got}"):
        Dataset(IMAGES, LABELS, **fields)


def test_preprocessing_of_images_that_came_from_no_file():
    wide = np.zeros((2, 3, 6, 9), np.float32)
    labels = np.zeros((2, 6, 9), int)
    two = preprocessing_of(Dataset(wide, labels, class_names=("nothing", "nerve")))
    assert two == Preprocessing(6, 3, None, Meaning((0, 255), ("nothing", "nerve"), 0))
    names = ("class 0", "class 1", "class 2")
    assert preprocessing_of(Dataset(wide, labels + 2)) == Preprocessing(
        6, 3, None, Meaning((0, 1, 2), names, ignore=255)
    )
    given = Preprocessing(64, 3, (0, 4095))
    assert preprocessing_of(Dataset(wide, labels, preprocessing=given)) is given


def test_a_label_without_a_class_name_is_refused():
    labels = 2 * LABELS.astype(int)
    assert Dataset(IMAGES, labels, class_names=("a", "b", "c")).classes == 3
    with pytest.raises(ValueError, match="expected labels below 2, a number for each class name, got 2"):
        Dataset(IMAGES, labels, class_names=("a", "b"))


def test_the_largest_label_of_int8():
    assert Dataset(IMAGES, (127 * LABELS).astype(np.int8)).classes == 128


# Images of different sizes


def test_images_of_different_sizes_are_held_apart():
    images, labels = [np.zeros((1, 4, 5)), np.ones((1, 6, 3))], [np.zeros((4, 5), bool), np.ones((6, 3), int)]
    data = Dataset(images, labels, subjects=("a", "b"))
    assert len(data) == 2 and data.classes == 2
    assert [(image.dtype, image.shape) for image in data.images] == [
        (np.float32, (1, 4, 5)),
        (np.float32, (1, 6, 3)),
    ]
    assert [label_map.dtype for label_map in data.labels] == [np.uint8, np.uint8]
    assert all_pixels(data.labels).tolist() == [0] * 20 + [1] * 18
    one, other = data.parted({"b"})
    np.testing.assert_array_equal(other.images[0], images[1])
    assert data.take([1, 0, 1]).labels[2].shape == (6, 3)


def test_a_list_of_images_of_one_size_is_an_array():
    data = Dataset(list(IMAGES), list(LABELS))
    assert data.images.shape == IMAGES.shape and data.labels.shape == LABELS.shape
    np.testing.assert_array_equal(all_pixels(data.labels), LABELS.ravel())


ONE, OTHER, WHOLE = np.zeros((1, 4, 5)), np.zeros((1, 6, 3)), np.zeros((4, 5), int)


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        ([ONE, OTHER], [WHOLE, WHOLE], "labels .* of each image's size"),
        ([ONE, OTHER], [WHOLE], "labels .* of each image's size"),
        ([ONE, OTHER[0]], [WHOLE, OTHER[0].astype(int)], "expected images .channels, h, w. of floats"),
        ([ONE, OTHER.astype(int)], [WHOLE, OTHER[0].astype(int)], "of floats, got int64"),
        ([ONE, OTHER], [WHOLE, np.zeros((3, 6), int)], "expected whole labels .h, w."),
        (
            [ONE, OTHER],
            [WHOLE, np.full((6, 3), 300)],
            "255 for what is not annotated, got 300 to 300",
        ),
    ],
)
def test_images_of_different_sizes_that_do_not_fit(images, labels, words):
    with pytest.raises(ValueError, match=words):
        Dataset(images, labels)


def test_labels_at_the_files_own_size_go_with_their_images():
    own = of_any_size([np.zeros((9, 9)), np.ones((7, 8)), np.ones((5, 5))])
    data = Dataset(IMAGES[:3], LABELS[:3], own_labels=own)
    assert data.take([2, 0]).own_labels[0].shape == (5, 5)
    assert Dataset(IMAGES, LABELS).take([0]).own_labels is None


def test_as_near_to_the_share_as_whole_subjects_allow():
    """Against all ways to choose subjects, for subjects of alike and of very unlike sizes."""
    rng = np.random.default_rng(0)
    for trial in range(60):
        n = int(rng.integers(3, 10))
        sizes = [rng.integers(1, 10, n), rng.geometric(0.05, n), np.full(n, 4)][trial % 3].tolist()
        subjects = [f"s{i}" for i, size in enumerate(sizes) for _ in range(size)]
        count = len(subjects)
        data = Dataset(np.zeros((count, 1, 1, 1)), np.zeros((count, 1, 1), int), subjects=subjects,
                       names=tuple(map(str, range(count))))  # fmt: skip
        _, out = data.split(0.2, np.random.default_rng(trial), stay=2)
        ways = (sum(some) for k in range(1, n - 1) for some in combinations(sizes, k))
        best = min(abs(size - 0.2 * count) for size in ways)
        assert abs(len(out) - 0.2 * count) <= best + 0.01 * count


@pytest.mark.parametrize("what", ["names", "subjects", "class_names"])
def test_names_are_texts(what):
    with pytest.raises(ValueError, match=f"expected {what} that are texts, got 0; str"):
        Dataset(np.zeros((2, 1, 3, 3), np.float32), np.zeros((2, 3, 3), int), **{what: (0, 1)})
