"""The loop: it learns, repeats, stops cleanly, and says so when it cannot go on."""

import platform
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from tinyseg.data.dataset import Dataset
from tinyseg.networks import lungnet, modified, original
from tinyseg.ops import UNLABELLED, semi_supervised
from tinyseg.optim import GradientDescent, constant
from tinyseg.training import Diverged, evaluate, fit, predict


def blobs(count, seed=0):
    """A bright square in noise: what a small network learns in seconds."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, 1, 16, 16), np.float32)
    for mask in masks[:, 0]:
        top, left = rng.integers(0, 10, 2)
        mask[top : top + 6, left : left + 6] = 1
    images = (0.3 + 0.4 * masks + 0.1 * rng.normal(size=masks.shape)).astype(np.float32)
    names = tuple(map(str, range(count)))
    return Dataset(images, masks, names, names)


TRAIN, HELD_OUT = blobs(12), blobs(6, seed=1)
NET = modified(dilations=(1, 2, 4))


def test_augmentation_is_applied_to_each_minibatch():
    seen = []

    def augment(images, masks, rng):
        seen.append(len(images))
        return np.zeros_like(images), np.zeros_like(masks)

    fitted = run(epochs=1, augment=augment)
    assert seen == [2] * 6
    assert fitted.history[0].loss < 0.01  # of nothing at all, which the untrained network predicts


def run(net=NET, epochs=2, seed=0, **options):
    rng = np.random.default_rng(seed)
    return fit(net, *net.init(rng), TRAIN, HELD_OUT, epochs=epochs, rng=rng, **options)


@pytest.mark.parametrize(
    "net", [NET, original(dilations=(1, 2, 4), dropout=0.1)], ids=["modified", "original"]
)
def test_it_learns(net):
    fitted = run(net, epochs=30, schedule=constant(1e-2))
    assert fitted.history[-1].dice > 0.9 > 0.5 > fitted.history[0].dice
    loss, counts, probabilities = evaluate(net, fitted.params, fitted.state, HELD_OUT)
    assert (loss, counts.dice) == (fitted.history[-1].held_out_loss, fitted.history[-1].dice)
    np.testing.assert_array_equal(probabilities, predict(net, fitted.params, fitted.state, HELD_OUT.images))
    assert probabilities.shape == (6, 1, 16, 16) and probabilities.dtype == np.float32


def test_plain_gradient_descent_lowers_the_loss():
    fitted = run(epochs=6, optimizer=GradientDescent(), schedule=constant(0.05))
    assert fitted.history[-1].loss < 0.8 * fitted.history[0].loss


def test_same_seed_same_bytes_another_seed_others():
    one, two, other = run(seed=3), run(seed=3), run(seed=4)
    assert one.history == two.history != other.history
    for name in one.params:
        assert one.params[name].tobytes() == two.params[name].tobytes()


def test_arguments_stay_as_they_are_and_dtypes_too():
    params, state = NET.init(np.random.default_rng(0))
    kept = {name: array.copy() for name, array in (params | state).items()}
    fitted = fit(NET, params, state, TRAIN, HELD_OUT, epochs=1, rng=np.random.default_rng(0))
    for name, array in (params | state).items():
        np.testing.assert_array_equal(array, kept[name])
    for name, array in (fitted.params | fitted.state).items():
        assert (
            array.dtype == np.float32
            and array.shape == kept[name].shape
            and not np.array_equal(array, kept[name])
        )


def test_each_epoch_shows_every_image_once_in_an_order_of_its_own():
    seen = []

    def augment(images, masks, rng):
        seen.extend(images.mean(axis=(1, 2, 3)).tolist())
        return images, masks

    run(epochs=2, augment=augment)
    first, second = seen[:12], seen[12:]
    assert sorted(first) == sorted(second) == sorted(TRAIN.images.mean(axis=(1, 2, 3)).tolist())
    assert first != second != sorted(second)


def test_the_schedule_is_asked_for_steps_from_0():
    asked = []
    run(epochs=1, schedule=lambda step: asked.append(step) or 1e-3)
    assert asked == list(range(6))


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

    run(net=Recording(), epochs=1)
    assert len(set(kept)) == 6


def test_nothing_to_train_on_or_nothing_held_out():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="got 12 and 0 held out"):
        fit(NET, *NET.init(rng), TRAIN, HELD_OUT.take([]), epochs=1, rng=rng)


def test_evaluate_is_of_two_classes():
    net = original(classes=3)
    with pytest.raises(ValueError, match="2 classes, got 3"):
        evaluate(net, *net.init(np.random.default_rng(0)), HELD_OUT)


def test_patience_keeps_the_best_epoch_and_stops():
    kept = {}
    fitted = run(
        epochs=60,
        schedule=lambda step: 1e-2 if step < 90 else 0.3,  # from epoch 16 on it forgets
        patience=4,
        on_epoch=lambda epoch, params, state: kept.update({epoch.epoch: (params, state)}),
    )
    dice = [epoch.dice for epoch in fitted.history]
    assert fitted.best == 1 + int(np.argmax(dice))
    assert len(dice) == fitted.best + 4 < 60 and fitted.steps == 6 * len(dice)
    for ours, theirs in zip((fitted.params, fitted.state), kept[fitted.best]):
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])
    assert evaluate(NET, fitted.params, fitted.state, HELD_OUT)[1].dice == max(dice) > dice[-1]


def test_without_patience_the_last_epoch_is_kept():
    fitted = run(epochs=3)
    assert fitted.best == 3
    _, counts, _ = evaluate(NET, fitted.params, fitted.state, HELD_OUT)
    assert counts.dice == fitted.history[-1].dice


def test_ctrl_c_keeps_the_best_epoch():
    def press(step):
        if step == 6 * 8 + 3:
            raise KeyboardInterrupt

    fitted = run(epochs=20, schedule=lambda step: 1e-2 if step < 30 else 0.3, patience=20, on_step=press)
    dice = [epoch.dice for epoch in fitted.history]
    assert fitted.interrupted and len(dice) == 8
    assert evaluate(NET, fitted.params, fitted.state, HELD_OUT)[1].dice == max(dice)


def test_a_loss_of_ones_own_is_what_is_lowered():
    """Half the squared error has half the value and, at twice the rate, the same steps down."""
    how = {"optimizer": GradientDescent(), "epochs": 2}
    whole = run(schedule=constant(0.01), **how)
    half = run(schedule=constant(0.02), loss=lambda y, masks: 0.5 * NET.loss(y, masks), **how)
    for a, b in zip(whole.history, half.history):
        assert b.loss == pytest.approx(0.5 * a.loss, rel=1e-4)
        assert b.held_out_loss == pytest.approx(0.5 * a.held_out_loss, rel=1e-4)


def label_maps(data):
    """The blobs as classes 0 and 2 of three, a border between them unlabelled and class 1 nowhere."""
    masks = (2 * data.masks).astype(np.uint8)
    border = (masks != np.roll(masks, 1, axis=2)) | (masks != np.roll(masks, 1, axis=3))
    masks[border] = UNLABELLED
    return replace(data, masks=masks)


def test_it_learns_label_maps():
    net, rng = lungnet(maps=3, dilations=(1, 2, 4), widths=(8, 4), classes=3), np.random.default_rng(0)
    train, held_out = label_maps(TRAIN), label_maps(HELD_OUT)

    def loss(y, masks):
        return semi_supervised(y, masks[:, 0])

    fitted = fit(
        net, *net.init(rng), train, held_out, epochs=15, rng=rng, batch=1, loss=loss, schedule=constant(1e-2)
    )
    assert fitted.history[-1].dice > 0.9 > fitted.history[0].dice
    value, counts, p = evaluate(net, fitted.params, fitted.state, held_out, loss=loss)
    assert value == fitted.history[-1].held_out_loss and counts.dice == fitted.history[-1].dice
    np.testing.assert_array_equal(p, predict(net, fitted.params, fitted.state, held_out.images))
    assert p.shape == (6, 3, 16, 16) and p.dtype == np.float32
    known = held_out.masks != UNLABELLED
    right = p.argmax(axis=1)[:, None][known] == held_out.masks[known]
    assert counts.accuracy == pytest.approx(right.mean()) and counts.counts.sum() == known.sum()


def test_large_images_are_looked_at_a_few_at_once():
    """Eight of 128 x 128 pixels take as much memory as two of 256 x 256, or one larger."""
    seen = []

    class Net:
        classes = 2

        def __call__(self, params, state, x):
            seen.append(len(x))
            return x, state

        def probabilities(self, y):
            return y

    for side, pieces in ((16, [8, 1]), (128, [8, 1]), (256, [2, 2, 2, 2, 1]), (600, [1] * 9)):
        images = np.arange(9, dtype=np.float32)[:, None, None, None] + np.zeros(
            (1, 1, side, side), np.float32
        )
        np.testing.assert_array_equal(predict(Net(), {}, {}, images), images)
        assert seen == pieces
        seen.clear()


def test_label_maps_need_a_softmax_head():
    with pytest.raises(ValueError, match="expected a softmax head for label maps, got linear"):
        evaluate(NET, *NET.init(np.random.default_rng(0)), label_maps(HELD_OUT))


def test_steps_and_callbacks():
    steps, epochs = [], []
    fitted = run(batch=5, epochs=3, on_step=steps.append, on_epoch=lambda e, p, s: epochs.append(e))
    assert steps == list(range(1, 10))  # 12 images in batches of 5, 5 and 2
    assert fitted.steps == 9 and tuple(epochs) == fitted.history
    assert [(e.epoch, e.step) for e in epochs] == [(1, 3), (2, 6), (3, 9)]


@pytest.mark.parametrize("when", [1, 8])
def test_ctrl_c_keeps_what_was_trained(when):
    def press(step):
        if step == when:
            raise KeyboardInterrupt

    fitted = run(epochs=3, on_step=press)
    assert fitted.interrupted and fitted.steps == when and len(fitted.history) == (when - 1) // 6
    start, _ = NET.init(np.random.default_rng(0))
    assert not np.array_equal(fitted.params["block1.conv.weight"], start["block1.conv.weight"])
    assert np.isfinite(predict(NET, fitted.params, fitted.state, HELD_OUT.images)).all()


def test_divergence_stops_with_advice():
    with pytest.raises(Diverged, match=r"step \d+: .*the rate was 1e\+10.*Try a tenth"):
        run(epochs=5, optimizer=GradientDescent(), schedule=constant(1e10))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="elsewhere there is nothing to keep")
def test_kept_memory_is_not_fetched_again():
    """In a process of its own: twice 90 MB in arrays of 3 MB, which is 23,000 pages, unless they are kept."""
    code = """
import resource, sys
import numpy as np
from tinyseg.training import keep_memory

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
