"""Where the squares come from: the two numbers measure what they say, and the command gives its answer."""

import numpy as np
import pytest
import squares
from app.runs import refused
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import correlate
from scipy.stats import gmean, ttest_rel

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


def test_coverage_counts_the_paths_to_a_pixel():
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


def figures(comb, dice=0.8, steps=None):
    others = {"dice": dice, "impulse": 1.0, "smooth_comb": 0.0, "smooth_dice": dice}
    return [others | {"comb": c, "steps": s} for c, s in zip(comb, steps or [1.0] * len(comb))]


def test_two_ways_are_compared_by_a_paired_t_test_of_the_ratio():
    rng = np.random.default_rng(0)
    one, other = rng.uniform(0.1, 0.5, (2, 5))
    factor, p = squares.paired(one, other)
    assert factor == pytest.approx(gmean(one / other))
    assert p == pytest.approx(ttest_rel(np.log(one), np.log(other)).pvalue)
    assert squares.paired([0.2], [0.4]) == (0.5, 1.0)  # one seed says nothing of chance
    assert squares.paired([0.2, 0.4], [0.2, 0.4]) == (1.0, 1.0)
    assert squares.paired([1, 1, 1], [2, 2, 2]) == (0.5, pytest.approx(0))


def test_many_p_values_are_corrected_as_holm_did():
    assert squares.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # by hand
    assert squares.holm([0.6, 0.9]) == [1.0, 1.0]


def test_a_claim_is_borne_out_where_it_is_sure_and_in_its_direction():
    table = {name: figures([0.30, 0.32, 0.28, 0.31, 0.29]) for name in squares.WAYS}
    table["two dense layers in front"] = figures([0.10, 0.11, 0.09, 0.10, 0.10], dice=0.9)
    table["padding by the edge"] = figures([0.60, 0.62, 0.58, 0.66, 0.61])  # more, where less was claimed
    table["every dilation 5"] = figures([1.6, 1.7, 1.5, 1.8, 1.6], dice=0.2)
    said = squares.verdicts(table)
    yes = [": yes. " in sentence for sentence in said]
    assert yes == [True, False, False, True, False, False, False, False, False, False]
    assert squares.tally(table) == "dilation 2 of 6, padding 0 of 2, loss 0 of 1, depth 0 of 1"
    assert "claims that are borne out: dilation 2 of 6, padding" in squares.answer(table)
    assert "less of it: no, it is the other way round. Comb times 2.05" in said[5]
    assert "Comb times 0.33" in said[3] and said[3].endswith("Dice +0.10.")
    assert said[0].endswith('But "every dilation 5" has not learnt to find the nerve.')


@pytest.mark.parametrize("claim", range(len(squares.COMPARED)))
def test_each_claim_is_borne_out_by_its_own_direction_alone(claim):
    _, one, other, way, words = squares.COMPARED[claim]
    assert ("make more" in words) == (way == squares.MORE) and len({one, other} & set(squares.WAYS)) == 2
    for factor in (3.0, 0.3):
        table = {name: figures([0.30, 0.32, 0.28, 0.31, 0.29]) for name in squares.WAYS}
        table[one] = figures([factor * comb for comb in (0.31, 0.32, 0.29, 0.30, 0.30)])
        assert (": yes. " in squares.verdicts(table)[claim]) == ((factor > 1) == (way == squares.MORE))


def test_one_seed_is_no_test_and_what_has_not_learnt_is_named():
    table = {name: figures([0.3], dice=0.1) for name in squares.WAYS}
    said = squares.answer(table)
    assert (
        "One seed cannot tell" in said
        and "borne out" not in said
        and "p =" not in said
        and "not shown" not in said
    )
    first = squares.verdicts(table)[0]
    assert all(f'But "{name}" has not learnt' in first for name in ("every dilation 5", "as it is"))


def test_a_mean_says_how_many_seeds_have_no_figure():
    runs = [{"impulse": figure} for figure in (1.0, float("nan"), 2.0)]
    assert squares.mean(runs, "impulse") == "1.50 (1 without)"
    assert squares.mean(runs[1:2], "impulse") == "-"


def test_the_steps_are_compared_in_the_same_way_and_corrected_for_two():
    zero, edge = [1.11, 1.17, 1.08, 1.19, 1.18], [0.95, 0.95, 1.02, 0.97, 1.02]
    reflect = [1.0, 1.1, 1.2, 1.0, 1.3]
    table = {name: figures([0.3] * 5, steps=zero) for name in squares.WAYS}
    for name, steps in zip(squares.PADDINGS, (edge, reflect)):
        table[name] = figures([0.3] * 5, steps=steps)
    p, other = (ttest_rel(np.log(steps), np.log(zero)).pvalue for steps in (edge, reflect))
    assert f"0.98 padding by the edge (p = {2 * p:.2g}), 1.12 padding by reflection (p = {other:.2g})" in (
        squares.answer(table)
    )


def test_images_without_a_nerve_have_no_comb_and_bear_nothing_out():
    assert np.isnan(squares.comb(np.zeros((1, 8, 8)), np.zeros((1, 8, 8))))
    said = squares.answer({name: figures([float("nan"), 0.3]) for name in squares.WAYS})
    assert ": yes" not in said


def test_nobodys_files_are_touched(tmp_path, capsys):
    for name in ("log.txt", "as it is, seed 0.npz"):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text("mine")
        assert f"got one with {name}" in refused(squares.main, capsys, ["--out", folder])
        assert [path.name for path in folder.iterdir()] == [name] and (folder / name).read_text() == "mine"
    (tmp_path / "runs.csv").write_text("a,b\n1,2\n")
    (tmp_path / "log.txt").write_text("mine")
    refused(squares.main, capsys, ["--out", tmp_path])
    assert (tmp_path / "log.txt").read_text() == "mine"


def test_a_command_that_was_stopped_before_its_first_run_goes_on(tmp_path, monkeypatch, capsys):
    def stopped(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("tinyseg.app.experiments.executor", stopped)
    for _ in range(2):
        with pytest.raises(SystemExit, match="130"):
            squares.main(["--out", str(tmp_path)])
        assert capsys.readouterr().err == "interrupted; the same command goes on with what is missing\n"


def test_a_damaged_file_is_none(tmp_path):
    path = tmp_path / "maps.npz"
    np.savez(path, p=np.ones((2, 3, 3)))
    whole = path.read_bytes()
    assert squares.maps_of(path).sum() == 18 and squares.maps_of(tmp_path / "none") is None
    for content in (whole[:-30], whole[:100], b"", b"text", whole.replace(b"p.npy", b"q.npy")):
        path.write_bytes(content)
        assert squares.maps_of(path) is None


@pytest.mark.lesson
def test_the_command_gives_its_answer_and_a_picture(tmp_path, capfd):
    command = ["--seeds", "2", "--epochs", "1", "--images", "16", "--out", str(tmp_path / "squares")]
    table = squares.main(command)
    assert list(table) == list(squares.WAYS) and all(len(runs) == 2 for runs in table.values())
    out = capfd.readouterr().out
    assert "With a remedy" in out and (tmp_path / "squares/squares.png").exists()
    runs = 2 * len(squares.WAYS)
    (tmp_path / "squares/as it is, seed 1.npz").write_bytes(b"cut")
    squares.main(command)  # nothing else is done again
    assert f"{runs - 1} of {runs} runs are in" in capfd.readouterr().out
    squares.main(command + ["--seeds", "1"])
    squares.main(command)
    assert f"{runs} of {runs} runs are in" in capfd.readouterr().out
    before = (tmp_path / "squares/runs.csv").read_bytes()
    said = refused(squares.main, capfd, [*command, "--epochs", "2"])
    assert "was made with epochs 1, not 2; --out DIR is another" in said
    assert (tmp_path / "squares/runs.csv").read_bytes() == before
