import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tinyseg.data.phantom import FIELD, layout, phantom, throw_fascicles
from tinyseg.errors import InputError

LAYOUTS = [layout(np.random.default_rng([0, i])) for i in range(300)]  # those of phantom(300)
WITH_NERVE = [plan for plan in LAYOUTS if plan.nerve]
IMAGES, HELD_OUT = phantom(100), phantom(40, seed=1)


def places(size):
    axis = (np.arange(size) + 0.5) * FIELD / size
    return axis + 1j * axis[:, None]


def standard_errors_from_zero(differences):
    differences = np.array(differences)
    return np.abs(differences.mean(0)) / (differences.std(0) / np.sqrt(len(differences)))


def test_shapes_types_and_names():
    data = phantom(3, size=33)
    assert data.images.shape == (3, 1, 33, 33) and data.labels.shape == (3, 33, 33)
    assert data.images.dtype == np.float32 and data.labels.dtype == np.uint8
    assert data.class_names == ("background", "structure") and data.preprocessing is None
    assert data.names == data.subjects == ("phantom_0000", "phantom_0001", "phantom_0002")


def test_images_hold_8_bit_grey_levels_and_masks_hold_0_and_1():
    assert IMAGES.images.min() >= 0 and IMAGES.images.max() <= 1
    levels = np.rint(IMAGES.images * 255).astype(np.uint8)
    np.testing.assert_array_equal(levels.astype(np.float32) / 255, IMAGES.images)
    assert len(np.unique(levels)) > 200
    assert set(np.unique(IMAGES.labels)) == {0, 1}


def test_an_image_depends_on_its_seed_and_number_alone():
    few, again, other = phantom(4, seed=7), phantom(9, seed=7), phantom(4, seed=8)
    assert few.images.tobytes() == again.images[:4].tobytes()
    assert few.labels.tobytes() == again.labels[:4].tobytes()
    assert few.names == again.names[:4]
    everything = np.concatenate([again.images, other.images])
    assert len({image.tobytes() for image in everything}) == len(everything)


def test_the_global_random_state_is_neither_read_nor_moved():
    np.random.seed(0)
    first, state = phantom(2), np.random.get_state()[1].copy()
    np.random.seed(1)
    assert phantom(2).images.tobytes() == first.images.tobytes()
    np.random.seed(0)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("size", [16, 33, 64, 100, 128])
def test_at_any_size_a_mask_is_its_nerves_ellipse(size):
    data = phantom(20, size)
    for plan, mask in zip(LAYOUTS, data.labels, strict=False):
        expected = np.pi * plan.nerve.long * plan.nerve.short / FIELD**2 if plan.nerve else 0
        assert mask.mean() == pytest.approx(expected, rel=0.03 + 3 / size)  # an edge has whole pixels
        if plan.nerve:
            centre = (places(size) * mask).sum() / mask.sum()
            assert abs(centre - plan.nerve.centre) < 32 / size


def test_the_anatomy_is_the_same_at_any_size():
    coarse, fine = phantom(8, 32).images, phantom(8, 128).images
    fine = fine.reshape(8, 1, 32, 4, 32, 4).mean((3, 5))
    own = [np.corrcoef(coarse[i].ravel(), fine[i].ravel())[0, 1] for i in range(8)]
    strange = [np.corrcoef(coarse[i].ravel(), fine[i - 1].ravel())[0, 1] for i in range(8)]
    assert min(own) > 0.6 and max(strange) < 0.5


def test_a_fifth_of_the_images_has_no_nerve():
    assert 0.74 < len(WITH_NERVE) / len(LAYOUTS) < 0.86
    assert [mask.any() for mask in IMAGES.labels] == [plan.nerve is not None for plan in LAYOUTS[:100]]


def test_the_nerve_lies_beside_the_artery_and_look_alikes_lie_far():
    for plan in LAYOUTS:
        assert all(abs(other.centre - plan.artery.centre) > 30 for other in plan.lookalikes)
    for plan in WITH_NERVE:
        gap = abs(plan.nerve.centre - plan.artery.centre) - 0.93 * plan.nerve.long - plan.artery.radius
        assert 1 <= gap <= 4
    assert {len(plan.lookalikes) for plan in LAYOUTS} == {1, 2}


def test_everything_lies_inside_the_image_and_nothing_overlaps():
    points = places(128)
    for plan in LAYOUTS:
        clusters = [*plan.lookalikes, *([plan.nerve] if plan.nerve else [])]
        shapes = [cluster.radius_at(points) <= 1 for cluster in clusters]
        shapes.append(abs(points - plan.artery.centre) <= plan.artery.radius)
        areas = [np.pi * c.long * c.short for c in clusters] + [np.pi * plan.artery.radius**2]
        np.testing.assert_allclose([4096 * shape.mean() for shape in shapes], areas, rtol=0.05)  # none is cut
        assert np.sum(shapes, 0).max() == 1


def test_fascicles_lie_inside_their_cluster_side_by_side():
    for seed, plan in enumerate(WITH_NERVE[:50]):
        centres, radii = throw_fascicles(plan.nerve, np.random.default_rng(seed))
        assert len(radii) >= 4
        around = centres[:, None] + radii[:, None] * np.exp(2j * np.pi * np.linspace(0, 1, 32))
        assert plan.nerve.radius_at(around).max() < 1.05
        apart = abs(centres[:, None] - centres) - 0.95 * (radii[:, None] + radii)
        assert apart[~np.eye(len(radii), dtype=bool)].min() > 0


def test_neither_size_nor_place_tells_the_nerve_from_its_look_alikes():
    def measures(cluster):
        from_middle = cluster.centre - (1 + 1j) * FIELD / 2
        return cluster.long, cluster.short, cluster.tilt, from_middle.real, from_middle.imag, abs(from_middle)

    plans = [layout(np.random.default_rng([1, i])) for i in range(800)]
    differences = [
        np.subtract(measures(plan.nerve), np.mean([measures(other) for other in plan.lookalikes], 0))
        for plan in plans
        if plan.nerve
    ]
    assert (standard_errors_from_zero(differences) < 4).all()


def test_neither_brightness_nor_texture_tells_the_nerve_from_its_look_alikes():
    def measures(image, cluster):
        inside = image[cluster.radius_at(places(64)) < 0.9]
        return inside.mean(), inside.std(), inside.min(), inside.max()

    differences = [
        np.subtract(measures(image[0], plan.nerve), measures(image[0], plan.lookalikes[0]))
        for image, plan in zip(IMAGES.images, LAYOUTS, strict=False)
        if plan.nerve
    ]
    assert (standard_errors_from_zero(differences) < 4).all()


def test_the_artery_is_the_dark_and_smooth_disc():
    for image, plan in zip(IMAGES.images, LAYOUTS, strict=False):
        inside = image[0][abs(places(64) - plan.artery.centre) < 0.7 * plan.artery.radius]
        assert inside.mean() < 0.5 * image.mean() and inside.std() < image.std()


def dice_of_the_best_threshold(scores, held_out_scores):
    """Dice on the held-out images of the threshold that is best on the others, of all there are."""
    order = np.argsort(scores, axis=None)[::-1]
    hits, called = np.cumsum(IMAGES.labels.ravel()[order], dtype=float), 1 + np.arange(order.size)
    dice = 2 * hits / (called + IMAGES.labels.sum())
    found = held_out_scores.ravel() >= scores.ravel()[order[dice.argmax()]]
    return dice.max(), 2 * HELD_OUT.labels.ravel()[found].sum() / (found.sum() + HELD_OUT.labels.sum())


def dice_of_the_best_blur_and_threshold(images, held_out_images):
    tries = []
    for sigma in (0.5, 1, 2, 3, 4, 6, 8):
        seen, unseen = (gaussian_filter(x, (0, 0, sigma, sigma)) for x in (images, held_out_images))
        tries += [dice_of_the_best_threshold(seen, unseen), dice_of_the_best_threshold(-seen, -unseen)]
    return max(tries)[1]  # what the search scored best on its own images is what counts


def test_no_threshold_finds_the_nerve():
    assert dice_of_the_best_blur_and_threshold(IMAGES.images, HELD_OUT.images) < 0.3


def test_the_search_for_a_threshold_would_find_a_nerve_that_shines():
    shining = [data.images + data.labels[:, None] for data in (IMAGES, HELD_OUT)]
    assert dice_of_the_best_blur_and_threshold(*shining) > 0.8


def test_the_place_where_nerves_usually_lie_does_not_find_the_nerve():
    usual = gaussian_filter(IMAGES.labels.mean(0), 2)
    scores = [np.broadcast_to(usual, data.labels.shape) for data in (IMAGES, HELD_OUT)]
    assert dice_of_the_best_threshold(*scores)[1] < 0.3


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"count": 0}, "phantom's count must be a whole number, at least 1, got 0"),
        ({"count": 1, "size": 15}, "phantom's size must be a whole number, at least 16, got 15"),
        ({"count": 1, "size": 64.5}, "phantom's size must be a whole number, at least 16, got 64.5"),
        ({"count": 1, "seed": -1}, "phantom's seed must be a whole number, at least 0, got -1"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(arguments, message):
    with pytest.raises(InputError) as error:
        phantom(**arguments)
    assert str(error.value) == message
