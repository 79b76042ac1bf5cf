"""Where the squares come from: the two numbers measure what they say, and the command gives its answer."""

import numpy as np
import pytest
import squares
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate

from tinyseg import check_gradients
from tinyseg.fast import FAST


def ellipse(y, x, a, b, turn, n=40):
    rows, columns = np.mgrid[:n, :n]
    u = (rows - y) * np.cos(turn) + (columns - x) * np.sin(turn)
    v = (columns - x) * np.cos(turn) - (rows - y) * np.sin(turn)
    return ((u / a) ** 2 + (v / b) ** 2 <= 1).astype(float)


@settings(max_examples=50, deadline=None)
@given(*(st.floats(low, high) for low, high in ((0, 39), (0, 39), (2, 12), (2, 12), (0, 3.2))))
def test_the_truth_has_no_comb_wherever_it_lies_and_neither_has_a_part_of_its_height(y, x, a, b, turn):
    mask = ellipse(y, x, a, b, turn)
    if mask.any():
        assert squares.comb([mask], [mask]) == 0
        assert squares.comb([0.3 * mask + 0.1], [mask]) == pytest.approx(0, abs=1e-9)


def test_the_comb_of_a_map_is_the_mean_over_thresholds_of_the_edges_of_its_masks():
    rng = np.random.default_rng(0)
    levels = 50
    one = rng.integers(0, levels + 1, (12, 12)) / levels
    mask = np.ones((12, 12))
    edges = np.mean(
        [
            [len(np.flatnonzero(np.diff(one[i] > (k + 0.5) / levels))) for k in range(levels)]
            for i in range(12)
        ]
    )
    variation, _ = squares.walk(one)
    assert variation / 12 == pytest.approx(edges)
    assert squares.comb([one], [mask]) > 0.5


def test_each_tooth_counts_twice_its_depth():
    row = np.zeros((9, 9))
    row[4, 2:7] = [1, 0.4, 1, 0, 1]
    mask = np.zeros((9, 9))
    mask[4, 2:7] = 1
    variation, needed = squares.walk(row)
    assert (variation, needed) == pytest.approx((2 + 2 * 0.6 + 2 * 1, 2))


def test_steps_are_found_at_the_lines_of_the_dilations_alone():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(50, 64, 64))
    assert squares.steps(noise) == pytest.approx(1, abs=0.15)
    stepped = noise.copy()
    stepped[:, :, 13:] += 3
    assert squares.steps(stepped) > 1.5
    stepped = noise.copy()
    stepped[:, 18:] += 3  # 18 is no dilation, and not beside one
    assert squares.steps(stepped) == pytest.approx(squares.steps(noise))


@pytest.mark.parametrize(("mode", "scipys"), [("edge", "nearest"), ("reflect", "mirror")])
@pytest.mark.parametrize("dilation", [1, 3, 5])
def test_a_padded_convolution_is_scipys(mode, scipys, dilation):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(1, 2, 8, 9)), rng.normal(size=(1, 2, 3, 3))
    wide = np.zeros((2, 2 * dilation + 1, 2 * dilation + 1))
    wide[:, ::dilation, ::dilation] = w[0]
    expected = sum(correlate(x[0, c], wide[c], mode=scipys) for c in range(2))
    y = squares.padded(mode).conv2d(x, w, dilation=dilation)
    np.testing.assert_allclose(y[0, 0], expected, atol=1e-12)


def test_the_gradients_of_a_padded_convolution_are_right_and_stay_float32():
    rng = np.random.default_rng(0)
    conv2d = squares.padded("edge").conv2d
    arrays = {"x": rng.normal(size=(1, 2, 6, 7)), "w": rng.normal(size=(2, 2, 3, 3))}
    check_gradients(lambda x, w: conv2d(x, w, dilation=2), arrays, order=2)
    x, w = (array.astype("f") for array in arrays.values())
    assert conv2d(x, w, dilation=2).dtype == np.float32
    np.testing.assert_array_equal(conv2d(x, w[:, :, 1:2, 1:2]), FAST.conv2d(x, w[:, :, 1:2, 1:2]))


def test_coverage_counts_the_ways_to_a_pixel():
    ways = np.ones(1)
    for d in (1, 2, 3):  # by hand: every choice of -d, 0, d
        ways = np.bincount(
            [i + k * d for i in range(len(ways)) for k in range(3) for _ in range(int(ways[i]))]
        )
    holes, comb = squares.coverage((1, 2, 3))
    assert holes == (ways == 0).mean()
    assert comb == pytest.approx(np.abs(np.diff(ways)).sum() / (2 * ways.max() - ways[0] - ways[-1]) - 1)
    assert squares.coverage((1, 1, 1)) == (0, 0)
    assert squares.coverage((5, 5))[0] == 16 / 21  # every fifth of 21 is seen


def test_a_transposed_convolution_of_stride_two_is_uneven():
    assert squares.transposed().tolist() == [1, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 1]


def test_smoothing_is_the_blur_that_it_says():
    maps = np.random.default_rng(0).random((2, 7, 8))
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    np.testing.assert_allclose(squares.smooth(maps), [correlate(one, kernel, mode="nearest") for one in maps])


def figures(comb, dice=0.8):
    return [
        {"comb": c, "dice": dice, "steps": 1.0, "impulse": 1.0, "smooth_comb": 0.0, "smooth_dice": dice}
        for c in comb
    ]


def test_the_verdict_is_that_of_a_paired_t_test():
    table = {"one": figures([0.9, 1.1, 1.0]), "other": figures([0.3, 0.4, 0.5])}
    yes, sentence = squares.verdict(table, "dilation", "one", "other", "makes more of it")
    assert yes and "Comb +0.60 (+0.35 to +0.85)" in sentence  # 0.6 +- 4.303 * 0.1 / sqrt(3)
    assert not squares.verdict(table, "dilation", "one", "other", "makes less of it")[0]
    table["one"] = figures([0.2, 0.9, 0.5])
    assert not squares.verdict(table, "dilation", "one", "other", "makes more of it")[0]
    assert not squares.verdict(
        {k: v[:1] for k, v in table.items()}, "dilation", "one", "other", "makes more"
    )[0]


@pytest.mark.lesson
def test_the_command_gives_its_answer_and_a_picture(tmp_path, capfd):
    command = ["--seeds", "2", "--epochs", "1", "--images", "12", "--out", str(tmp_path / "squares")]
    table = squares.main(command)
    assert list(table) == list(squares.WAYS) and all(len(runs) == 2 for runs in table.values())
    out = capfd.readouterr().out
    assert "What makes the comb" in out and (tmp_path / "squares/squares.png").exists()
    squares.main(command)  # nothing is done again
    assert "20 of 20 runs are in" in capfd.readouterr().out
