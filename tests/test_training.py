"""The stream of snapshots: it learns, repeats, resumes, and says so when it cannot go on."""

import platform
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from tinyseg.data import Dataset
from tinyseg.networks import lungnet, modified, original
from tinyseg.ops import UNLABELLED, semi_supervised
from tinyseg.optim import Adam, Clipped, Freezing, GradientDescent, constant
from tinyseg.training import (
    Diverged,
    Snapshot,
    begin,
    check_finite,
    evaluate,
    fit,
    most_probable,
    predict,
)


def blobs(count, seed=0):
    """A bright square in noise: what a small network learns in seconds."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((count, 16, 16), np.uint8)
    for label_map in labels:
        top, left = rng.integers(0, 10, 2)
        label_map[top : top + 6, left : left + 6] = 1
    images = 0.3 + 0.4 * labels[:, None] + 0.1 * rng.normal(size=(count, 1, 16, 16))
    return Dataset(images.astype(np.float32), labels)


TRAIN, HELD_OUT = blobs(12), blobs(6, seed=1)
NET = modified(dilations=(1, 2, 4))


def stream(net=NET, epochs=2, seed=0, optimizer=Adam(), **options):  # noqa: B008  a frozen value
    start = begin(net, seed, optimizer)
    return fit(net, TRAIN, start, epochs=epochs, optimizer=optimizer, **options)


def last(*args, **options):
    return list(stream(*args, **options))[-1]


def judged(snapshot, net=NET, data=HELD_OUT, **options):
    return evaluate(net, snapshot.params, snapshot.state, data, **options)


def same(one, other):
    """Two snapshots are the same to the last bit."""
    assert (one.epoch, one.step, one.losses, one.rng) == (other.epoch, other.step, other.losses, other.rng)
    for ours, theirs in ((one.params, other.params), (one.state, other.state)):
        assert all(ours[key].tobytes() == theirs[key].tobytes() for key in ours)


def test_augmentation_is_applied_to_each_minibatch():
    seen = []

    def augment(images, labels, rng):
        seen.append(len(images))
        return np.zeros_like(images), np.zeros_like(labels)

    snapshot = last(epochs=1, augment=augment)
    assert seen == [2] * 6
    assert snapshot.loss < 0.01  # of nothing at all, which the untrained network predicts


@pytest.mark.parametrize(
    "net", [NET, original(dilations=(1, 2, 4), dropout=0.1)], ids=["modified", "original"]
)
def test_it_learns(net):
    snapshots = list(stream(net, epochs=30, schedule=constant(1e-2)))
    dice = [judged(snapshot, net)[1].dice for snapshot in snapshots]
    assert dice[-1] > 0.9 > 0.5 > dice[0]
    value, counts, p = judged(snapshots[-1], net)
    assert type(value) is float and value < snapshots[0].loss and counts.counts.shape == (2, 2)
    np.testing.assert_array_equal(p, predict(net, snapshots[-1].params, snapshots[-1].state, HELD_OUT.images))
    assert p.shape == (6, 1, 16, 16) and p.dtype == np.float32


@pytest.mark.parametrize("optimizer", [GradientDescent(), GradientDescent(momentum=0.5),
                                       Clipped(GradientDescent(), 0.3)], ids=str)  # fmt: skip
def test_gradient_descent_lowers_the_loss(optimizer):
    snapshots = list(stream(epochs=6, optimizer=optimizer, schedule=constant(0.05)))
    assert snapshots[-1].loss < 0.8 * snapshots[0].loss


def test_frozen_parameters_do_not_move():
    params, _ = NET.init(np.random.default_rng(0))
    snapshot = last(optimizer=Freezing.of(Adam(), params, "block1.*", "*.beta"))
    for key, array in params.items():
        frozen = key.startswith("block1.") or key.endswith(".beta")
        assert np.array_equal(snapshot.params[key], array) == frozen, key


def test_same_seed_same_bytes_another_seed_others():
    one, two, other = (list(stream(seed=seed)) for seed in (3, 3, 4))
    for a, b in zip(one, two):
        same(a, b)
    assert one[-1].losses != other[-1].losses
    same(begin(NET), begin(NET, 0))  # unless told otherwise


@pytest.mark.parametrize("net", [NET, original(dilations=(1, 2))], ids=["modified", "with dropout"])
def test_a_snapshot_goes_on_as_if_nothing_had_happened(net):
    """Parameters, statistics, the optimiser's memory, random numbers and step: all is there."""
    whole = list(stream(net, epochs=4))
    again = list(fit(net, TRAIN, whole[1], epochs=4))
    assert [snapshot.epoch for snapshot in again] == [3, 4]
    same(whole[3], again[1])
    same(whole[2], again[0])
    assert list(fit(net, TRAIN, whole[3], epochs=4)) == []


def test_a_snapshot_does_not_change_while_training_goes_on():
    training = stream(epochs=3)
    first = next(training)
    kept = {key: array.copy() for key, array in (first.params | first.state).items()}
    rng = repr(first.rng)
    list(training)
    for key, array in (first.params | first.state).items():
        np.testing.assert_array_equal(array, kept[key])
    assert repr(first.rng) == rng


def test_early_stopping_is_a_break_and_the_best_is_a_comparison():
    best, best_dice, seen = None, -1.0, []
    for snapshot in stream(
        epochs=60, schedule=lambda step, steps: 1e-2 if step < 90 else 0.3
    ):  # then it forgets
        seen.append(judged(snapshot)[1].dice)
        if seen[-1] > best_dice:
            best, best_dice = snapshot, seen[-1]
        if snapshot.epoch - best.epoch >= 4:
            break
    assert len(seen) == best.epoch + 4 < 60
    assert judged(best)[1].dice == max(seen) > seen[-1]


def test_ctrl_c_leaves_the_last_snapshot():
    def press(step, steps):
        if step == 6 * 2 + 3:
            raise KeyboardInterrupt
        return 1e-3

    kept = None
    with pytest.raises(KeyboardInterrupt):
        for snapshot in stream(epochs=9, schedule=press):
            kept = snapshot
    assert isinstance(kept, Snapshot) and kept.epoch == 2 and kept.step == 12
    assert np.isfinite(predict(NET, kept.params, kept.state, HELD_OUT.images)).all()


def test_arguments_stay_as_they_are_and_dtypes_too():
    start = begin(NET, 0)
    kept = {name: array.copy() for name, array in (start.params | start.state).items()}
    (snapshot,) = fit(NET, TRAIN, start, epochs=1)
    for name, array in (start.params | start.state).items():
        np.testing.assert_array_equal(array, kept[name])
    for name, array in (snapshot.params | snapshot.state).items():
        assert array.dtype == np.float32 and array.shape == kept[name].shape
        assert not np.array_equal(array, kept[name])


def test_each_epoch_shows_every_image_once_in_an_order_of_its_own():
    seen = []

    def augment(images, labels, rng):
        seen.extend(images.mean(axis=(1, 2, 3)).tolist())
        return images, labels

    last(epochs=2, augment=augment)
    first, second = seen[:12], seen[12:]
    assert sorted(first) == sorted(second) == sorted(TRAIN.images.mean(axis=(1, 2, 3)).tolist())
    assert first != second != sorted(second)


def test_the_schedule_is_asked_for_steps_from_0_of_all_that_there_will_be():
    asked = []
    schedule = lambda *at: asked.append(at) or 1e-3  # noqa: E731
    half = last(epochs=1, batch=5, schedule=schedule)
    assert asked == [(0, 3), (1, 3), (2, 3)]  # 12 images in batches of 5, 5 and 2
    list(fit(NET, TRAIN, half, epochs=3, batch=5, schedule=schedule))
    assert asked[3:] == [(step, 9) for step in range(3, 9)]


def test_steps_and_epochs_are_counted():
    snapshots = list(stream(batch=np.int64(5), epochs=3))  # 12 images in batches of 5, 5 and 2
    assert [(s.epoch, s.step, len(s.losses)) for s in snapshots] == [(1, 3, 3), (2, 6, 3), (3, 9, 3)]
    assert snapshots[0].loss == pytest.approx(np.mean(snapshots[0].losses))
    assert type(snapshots[0].losses) is tuple
    assert {type(loss) for loss in (*snapshots[0].losses, snapshots[0].loss)} == {float}
    assert np.isnan(begin(NET).loss)  # of nothing yet


def test_dropout_draws_anew_each_step():
    net = original(dilations=(1,), dropout=0.5)
    kept = []

    class Recording:
        def __getattr__(self, name):
            return getattr(net, name)

        def __call__(self, params, state, x, *, train=False, rng=None):
            if train:
                kept.append(np.random.default_rng(rng.bit_generator.random_raw()).random())
            return net(params, state, x, train=train, rng=rng)

    last(net=Recording(), epochs=1)
    assert len(set(kept)) == 6


def test_nothing_to_train_on():
    nothing = HELD_OUT.take([])
    with pytest.raises(ValueError, match="expected images to train on, got none"):
        next(fit(NET, nothing, begin(NET, 0), epochs=1))


@pytest.mark.parametrize("batch", [0, -1, 2.5, True])
def test_a_batch_is_a_whole_number(batch):
    with pytest.raises(ValueError, match="expected a whole batch of at least 1 image"):
        next(stream(batch=batch))


def test_a_schedule_is_a_function_and_a_loss_one_number():
    with pytest.raises(
        ValueError, match="expected a schedule, a function \\(step, steps\\) -> rate .* got 0.01"
    ):
        next(stream(schedule=0.01))
    with pytest.raises(
        ValueError, match=r"expected the loss as one number, got an array of shape \(2, .*mean"
    ):
        next(stream(loss=lambda y, labels: (y - labels[:, None]) ** 2))


START = begin(NET)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: begin(modified), r"begin: expected a network such as modified\(\), got modified$"),
        (lambda: predict(modified, START.params, START.state, TRAIN.images), "predict: .*, got modified$"),
        (
            lambda: predict(original(), START.params, START.state, TRAIN.images),
            "block4: conv: there is no array for 'weight'$",
        ),
        (
            lambda: predict(original(dilations=NET.dilations), START.params, START.state, TRAIN.images),
            r"output: conv2d: weight: expected \(2, 3, 1, 1\), got \(1, 3, 1, 1\); is it another",
        ),
        (lambda: begin(type(NET)), r"begin: expected a network such as modified\(\), got DilatedFCN$"),
        (lambda: predict(None, START.params, START.state, TRAIN.images), "predict: .*, got NoneType$"),
        (
            lambda: predict(NET, START, START.state, TRAIN.images),
            "predict: expected params, a dict of arrays, got Snapshot; snapshot.params is one$",
        ),
        (lambda: evaluate(NET, START.params, None, TRAIN), "evaluate: expected state, .*; snapshot.state is"),
        (
            lambda: evaluate(NET, START.params, START.state, TRAIN.images),
            "evaluate: expected a Dataset, got nd",
        ),
        (lambda: next(fit(NET, TRAIN.images, START, epochs=1)), "fit: expected a Dataset, got ndarray; Data"),
        (lambda: next(fit(NET, TRAIN, START.params, epochs=1)), "fit: expected a snapshot, got dict; begin"),
        (lambda: next(fit(type(NET), TRAIN, START, epochs=1)), "fit: expected a network .*, got DilatedFCN$"),
    ],
)
def test_one_thing_in_the_place_of_another_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_a_start_of_another_network_or_optimiser_is_refused():
    with pytest.raises(ValueError, match="expected a start of this network, with "):
        next(fit(NET, TRAIN, begin(modified(maps=1, dilations=(1,))), epochs=1))
    start = begin(NET)
    for params, words in (
        (start.params | {"output.bias": np.zeros(2)}, r"with output.bias \(1,\), got \(2,\)$"),
        (start.params | {"surplus": np.zeros(2)}, r"with surplus missing, got \(2,\)$"),
        (
            {k: v for k, v in start.params.items() if k != "output.bias"},
            r"with output.bias \(1,\), got none$",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            next(fit(NET, TRAIN, replace(start, params=params), epochs=1))
    for made_for, used in ((Adam(), GradientDescent()), (GradientDescent(), Adam())):
        with pytest.raises(ValueError, match="made for another optimiser"):
            next(fit(NET, TRAIN, begin(NET, 0, made_for), epochs=1, optimizer=used))
    for memory in (start.memory[:2], (*start.memory[:2], start.memory[0]), (*start.memory, 0)):
        with pytest.raises(ValueError, match="made for another optimiser"):
            next(fit(NET, TRAIN, replace(start, memory=memory), epochs=1))


def test_a_snapshot_is_nobody_elses():
    """What one does to it does not reach the training that goes on."""
    training, expected = stream(epochs=2), last(epochs=2)
    first = next(training)
    for array in first.params.values():
        array[...] = 0
    first.state.clear()
    same(next(training), expected)


def test_masks_need_no_softmax_and_more_classes_do():
    """What cannot be learnt or counted is refused by whoever sees it first."""
    with pytest.raises(ValueError, match="labels 0 and 1, got 0 to 2"):
        judged(begin(NET, 0), data=Dataset(HELD_OUT.images, 2 * HELD_OUT.labels))
    net = original(classes=2)
    with pytest.raises(ValueError, match="labels 0 to 1, got 0 to 2"):
        judged(begin(net, 0), net, Dataset(HELD_OUT.images, 2 * HELD_OUT.labels))


def test_a_loss_of_ones_own_is_what_is_lowered():
    """Half the squared error has half the value and, at twice the rate, the same steps down."""
    how = {"optimizer": GradientDescent(), "epochs": 2}

    def half_the_loss(y, labels):
        return 0.5 * NET.loss(y, labels)

    whole = list(stream(schedule=constant(0.01), **how))
    half = list(stream(schedule=constant(0.02), loss=half_the_loss, **how))
    for a, b in zip(whole, half):
        assert b.loss == pytest.approx(0.5 * a.loss, rel=1e-4)
        assert judged(b, loss=half_the_loss)[0] == pytest.approx(0.5 * judged(a)[0], rel=1e-4)


def sparse(data):
    """The blobs as classes 0 and 2 of three, a border between them unlabelled and class 1 nowhere."""
    labels = 2 * data.labels
    border = (labels != np.roll(labels, 1, axis=1)) | (labels != np.roll(labels, 1, axis=2))
    labels[border] = UNLABELLED
    return Dataset(data.images, labels)


def test_it_learns_label_maps():
    net = lungnet(maps=3, dilations=(1, 2, 4), widths=(8, 4), classes=3)
    train, held_out = sparse(TRAIN), sparse(HELD_OUT)
    start = begin(net, 0)
    snapshots = list(
        fit(net, train, start, epochs=15, batch=1, loss=semi_supervised, schedule=constant(1e-2))
    )
    dice = [judged(s, net, held_out, loss=semi_supervised)[1].dice for s in (snapshots[0], snapshots[-1])]
    assert dice[-1] > 0.9 > dice[0]
    _, counts, p = judged(snapshots[-1], net, held_out, loss=semi_supervised)
    np.testing.assert_array_equal(p, predict(net, snapshots[-1].params, snapshots[-1].state, held_out.images))
    assert p.shape == (6, 3, 16, 16) and p.dtype == np.float32
    known = held_out.labels != UNLABELLED
    right = p.argmax(axis=1)[known] == held_out.labels[known]
    assert counts.accuracy == pytest.approx(right.mean()) and counts.counts.sum() == known.sum()
    assert counts.counts.shape == (3, 3)


def test_large_images_are_looked_at_a_few_at_once():
    """Eight of 128 x 128 pixels take as much memory as two of 256 x 256, or one larger."""
    seen = []

    class Net:
        def __call__(self, params, state, x, *, train, rng):
            seen.append(len(x))
            return x, state

        def probabilities(self, y):
            return y

    for sides, pieces in (
        ((16, 16), [8, 1]),
        ((128, 128), [8, 1]),
        ((256, 256), [2, 2, 2, 2, 1]),
        ((128, 512), [2, 2, 2, 2, 1]),
        ((600, 600), [1] * 9),
    ):
        images = np.arange(9, dtype=np.float32)[:, None, None, None] + np.zeros((1, 1, *sides), np.float32)
        np.testing.assert_array_equal(predict(Net(), {}, {}, images), images)
        assert seen == pieces
        seen.clear()
    few = SimpleNamespace(images=np.zeros((9, 1, 16, 16), np.float32), labels=np.zeros((9, 16, 16), int))
    for batch, pieces in (({}, [8, 1]), ({"batch": 4}, [4, 4, 1]), ({"batch": 0}, [1] * 9)):
        for judge in (predict, lambda *args, **how: evaluate(*args, loss=lambda y, labels: 0, **how)):
            judge(Net(), {}, {}, few.images if judge is predict else few, **batch)
            assert seen == pieces
            seen.clear()


def test_divergence_stops_with_advice():
    with pytest.raises(Diverged, match=r"step \d+: .*the rate was 1e\+10.*Try a tenth"):
        last(epochs=5, optimizer=GradientDescent(), schedule=constant(1e10))


def test_a_norm_that_overflows_is_a_divergence():
    bright = Dataset(1e20 * TRAIN.images, TRAIN.labels)
    with pytest.raises(
        Diverged, match="^step 1: input: batch_norm: the variance is too large .*the rate was 0.001"
    ):
        next(fit(NET, bright, begin(NET), epochs=1))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (HELD_OUT.images[0, 0], r"got \(16, 16\); one image alone is images\[None, None\]$"),
        (HELD_OUT.images[0], r"got \(1, 16, 16\); one image alone is images\[None\]$"),
        (HELD_OUT.images[:0], r"with no empty axis, got \(0, 1, 16, 16\)$"),
        (np.uint8(255 * HELD_OUT.images), r"got uint8; convert it with images.astype\(numpy.float32\)$"),
        (HELD_OUT.images.tolist(), r"got list; make one with numpy.array\(values, numpy.float32\)$"),
        (None, "got NoneType"),
        (HELD_OUT, "got Dataset; its .images may be one$"),
    ],
    ids=["a plane", "an image", "none", "bytes", "a list", "nothing", "a dataset"],
)
def test_what_predict_refuses(images, words):
    params, state = NET.init(np.random.default_rng(0))
    with pytest.raises(ValueError, match=f"^predict: expected images .*{words}"):
        predict(NET, params, state, images)
    with pytest.raises(ValueError, match=f"^evaluate: expected images .*{words}"):
        evaluate(NET, params, state, SimpleNamespace(images=images, labels=HELD_OUT.labels))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="elsewhere there is nothing to keep")
def test_kept_memory_is_not_fetched_again():
    """In a process of its own: twice 90 MB in arrays of 3 MB, which is 23,000 pages, unless they are kept."""
    code = """
import resource, sys
import numpy as np
from tinyseg.fast.memory import keep_memory

if sys.argv[1] == "keep":
    keep_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step = [np.ones(3 * 2**17) for _ in range(30)]
    del step
    after = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
print(after - before)
"""
    kept, anew = (
        int(subprocess.run([sys.executable, "-c", code, how], capture_output=True, check=True).stdout)
        for how in ("keep", "default")
    )
    assert kept < 1000 < anew


def test_a_probability_of_exactly_one_half_is_not_above_it():
    p = np.float32([[[0.5, np.nextafter(np.float32(0.5), 1)], [0.25, 1]]])  # (1, 2, 2)
    np.testing.assert_array_equal(most_probable(p), [[0, 1], [0, 1]])
    np.testing.assert_array_equal(most_probable(p, 0.25), [[1, 1], [0, 1]])
    several = np.stack([p, p[:, ::-1]], axis=1)  # (1, 2, 2, 2): of equals the first
    assert most_probable(several).dtype == np.uint8 and most_probable(several).shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schedule": constant(1e300)}, r"step 1: parameter \S+ became infinite; the rate was 1e\+300"),
        (
            {"loss": lambda y, labels: np.nan * NET.loss(y, labels)},
            "step 1: the loss became NaN; the rate was",
        ),
        ({"loss": lambda y, labels: 1e38 * (1e38 * NET.loss(y, labels))}, "step 1: the loss became infinite"),
    ],
    ids=["parameter", "no number", "overflow"],
)
def test_what_was_lost_and_when(options, words):
    with pytest.raises(Diverged, match=words):
        next(stream(optimizer=GradientDescent(), **options))


def test_the_first_number_that_is_lost_has_a_name():
    like, state = {"a": np.ones((1, 2)), "b": np.ones(1)}, {"norm.mean": np.ones(2), "seen": np.array(3)}
    fine = {"value": 1.0, "vector": np.ones(3), "like": like, "state": state}
    check_finite(**fine, step=1, rate=0.1)
    for lost, words in (
        ({"value": np.inf}, "the loss became infinite"),
        ({"vector": np.array([1, 1, np.nan])}, "parameter b became NaN"),
        (
            {"state": state | {"norm.mean": np.array([-np.inf, 1])}},
            r"running statistic norm\.mean became infinite",
        ),
    ):
        with pytest.raises(Diverged, match=f"step 7: {words}; the rate was 0.1"):
            check_finite(**(fine | lost), step=7, rate=0.1)


def test_a_running_statistic_that_overflows_ends_the_training_at_its_step():
    class Growing:
        def __getattr__(self, name):
            return getattr(NET, name)

        def __call__(self, params, state, x, **options):
            y, new_state = NET(params, state, x, **options)
            return y, new_state | {"norm.mean": np.float32(1e13) * state["norm.mean"]}

    start = begin(NET)
    start.state["norm.mean"] = np.ones(1, np.float32)
    with pytest.raises(Diverged, match=r"step 3: running statistic norm\.mean became infinite"):  # 1e39
        list(fit(Growing(), TRAIN, start, epochs=1))


def test_a_network_that_empties_its_state_empties_no_other():
    class Rude:
        def __getattr__(self, name):
            return getattr(NET, name)

        def __call__(self, params, state, x, **options):
            y, new_state = NET(params, state, x, **options)
            state.clear()
            return y, new_state

    start = begin(NET)
    (snapshot,) = fit(Rude(), TRAIN, start, epochs=1)
    assert start.state.keys() == snapshot.state.keys() == begin(NET).state.keys()


def of_sizes(*sizes):
    """Images (1, h, w) and labels (h, w) of these sizes."""
    rng = np.random.default_rng(5)
    images = [rng.random((1, *size), np.float32) for size in sizes]
    return images, [np.uint8(image[0] > 0.6) for image in images]


def test_images_of_different_sizes_are_predicted_as_each_alone():
    params, state = NET.init(np.random.default_rng(0))
    images, labels = of_sizes((8, 12), (12, 8), (1, 30))
    for given in (images, Dataset(images, labels).images):
        p = predict(NET, params, state, given)
        assert p.dtype == object and len(p) == 3
        for one, image in zip(p, images):
            np.testing.assert_array_equal(one, predict(NET, params, state, image[None])[0])


def test_a_list_of_images_of_one_size_is_predicted_as_their_array():
    params, state = NET.init(np.random.default_rng(0))
    images, _ = of_sizes((8, 12), (8, 12))
    stacked = predict(NET, params, state, np.stack(images))
    np.testing.assert_allclose(predict(NET, params, state, images), stacked, rtol=0, atol=1e-6)


def test_of_different_sizes_each_pixel_weighs_the_same_in_the_loss_and_the_counts():
    params, state = NET.init(np.random.default_rng(0))
    images, labels = of_sizes((8, 12), (12, 9), (1, 30))
    params[[*params][-1]] += 0.5  # the bias of the output
    value, counts, p = evaluate(NET, params, state, Dataset(images, labels))
    scores, there = (np.concatenate([one.ravel() for one in maps]) for maps in (p, labels))
    assert value == pytest.approx(np.mean((scores - there) ** 2), rel=1e-5)  # NET's loss is the squared error
    pairs = [[((there == t) & ((scores > 0.5) == f)).sum() for f in (0, 1)] for t in (0, 1)]
    assert counts.counts.tolist() == pairs


def test_what_is_refused_of_one_of_different_sizes_is_refused():
    params, state = NET.init(np.random.default_rng(0))
    for wrong, words in ((np.zeros((4, 4), "f"), r"got \(1, 4, 4\)"), (np.zeros((1, 4, 4), "u1"), "uint8")):
        with pytest.raises(ValueError, match=f"^predict: expected images .*{words}"):
            predict(NET, params, state, [*of_sizes((8, 12))[0], wrong])
