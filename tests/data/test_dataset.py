import numpy as np
import pytest

from tinyseg.data.dataset import Dataset
from tinyseg.errors import InputError


def dataset(subjects):
    """A dataset whose image i is filled with i, its mask with i % 2: what belongs together can be checked."""
    n = len(subjects)
    images = np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None, None], (n, 1, 2, 2)).copy()
    return Dataset(images, images % 2, tuple(f"image{i}" for i in range(n)), tuple(subjects))


def numbers(data):
    """Which images these are, after a check that nothing that belongs together came apart."""
    found = [int(name.removeprefix("image")) for name in data.names]
    assert len(data) == len(found) == len(data.subjects)
    assert data.images.shape == data.masks.shape == (len(found), 1, 2, 2)
    assert data.images[:, 0, 0, 0].tolist() == found
    assert data.masks[:, 0, 0, 0].tolist() == [i % 2 for i in found]
    return found


TEN_BY_SIX = dataset([str(i % 10) for i in range(60)])
UNEVEN = dataset("a" + 2 * "b" + 3 * "c" + 5 * "d" + 8 * "e" + 13 * "f")


def test_take_keeps_together_what_belongs_together():
    taken = TEN_BY_SIX.take([7, 3, 12])
    assert numbers(taken) == [7, 3, 12] and taken.subjects == ("7", "3", "2")
    assert numbers(TEN_BY_SIX.take(np.array([5]))) == [5]


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


def test_of_unequal_subjects_the_share_is_met_and_not_exceeded_by_more_than_the_last_drawn():
    for seed in range(50):
        training, held_out = UNEVEN.split(0.3, np.random.default_rng(seed))
        sizes = [held_out.subjects.count(subject) for subject in set(held_out.subjects)]
        wanted = 0.3 * len(UNEVEN)
        assert len(held_out) >= wanted or len(set(training.subjects)) == 1
        assert len(held_out) - max(sizes) < wanted


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
