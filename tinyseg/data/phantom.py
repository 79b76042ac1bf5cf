"""Synthetic ultrasound in which a nerve is known by what it lies beside.

A nerve in cross-section is a honeycomb: dark fascicles in a bright sheath. Tendons and muscle bundles
show the same honeycomb, so a sonographer looks for the companion: the nerve runs along the artery. This
phantom keeps that rule and nothing else. Honeycombs are thrown into the field of view, each with a place
for an artery beside it, and a fair draw decides which of them gets its artery and so is the nerve.
Texture, size and place cannot tell it from its look-alikes. A network has to see a honeycomb and the
artery at once: farther than a short stack of small kernels sees, and that is what dilation is for.

The picture forms as it does in a scanner: the tissue is a map of echo strength in dB, full of scatterers
smaller than the beam; their echoes interfere, which is speckle; the logarithm fits it all on a screen.
The recipe is our own, and no patient's data went into it.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from tinyseg.data.dataset import Dataset
from tinyseg.errors import InputError

# Lengths are in pixels of an image of 64. Any other size shows the same anatomy, coarser or finer.
# Places are complex numbers, across + 1j * depth: a distance is an absolute value, a turn is a product.
FIELD = 64
ARTERY_RADIUS = 5.5, 7.5
HALF_AXIS = 8.5, 10.5  # of a cluster, the longer one
FLATNESS = 0.7, 0.88  # the shorter half-axis over the longer one
TILT = -0.6, 0.6  # radians: muscles and what runs between them lie flat under the skin
GAP = 1, 4  # between a nerve and its artery
FAR = 30  # every look-alike's centre is further than this from the artery's
FASCICLE_RADIUS = 1.7, 2.7
WITHOUT_NERVE = 0.2  # share of the images
LAYERS = 6
BEAM = 0.55, 0.95  # sigma of its blur, in depth and across
LOOKS = 3  # scanners average a few pictures, taken at different angles, to calm the speckle
BLACK, WHITE = -22, 24  # dB from the middling echo


@dataclass(frozen=True)
class Artery:
    """A disc."""

    centre: complex
    radius: float


@dataclass(frozen=True)
class Cluster:
    """An ellipse full of fascicles: the nerve, or what looks just like it."""

    centre: complex
    long: float  # half-axis
    short: float  # half-axis
    tilt: float  # of the longer one, radians

    def radius_at(self, points: np.ndarray) -> np.ndarray:
        """How far out each point lies: 0 at the centre, 1 on the ellipse."""
        level = (points - self.centre) * np.exp(-1j * self.tilt)
        return np.hypot(level.real / self.long, level.imag / self.short)


@dataclass(frozen=True)
class Layout:
    """What lies where in one image."""

    artery: Artery
    nerve: Cluster | None
    lookalikes: tuple[Cluster, ...]  # one or two


def layout(rng: np.random.Generator) -> Layout:
    """One artery, the nerve beside it or none, and look-alikes far from it; nothing overlaps."""
    lookalikes, throws, friends = rng.integers(1, 3), 48, np.zeros(0, bool)
    while not friends.any():
        long = rng.uniform(*HALF_AXIS, throws)
        centre = rng.uniform(long, FIELD - long) + 1j * rng.uniform(long, FIELD - long)
        radius = rng.uniform(*ARTERY_RADIUS, throws)
        beside = 0.93 * long + radius + rng.uniform(*GAP, throws)
        artery = centre + beside * np.exp(2j * np.pi * rng.random(throws))
        whole = np.maximum(abs(artery.real - FIELD / 2), abs(artery.imag - FIELD / 2)) < FIELD / 2 - radius
        # Two throws are friends if either could be the nerve and the other its look-alike. Only friends share
        # an image: were the nerve alone asked, it would lie nearer the middle than its look-alikes.
        far = abs(artery[:, None] - centre) > FAR
        apart = abs(centre[:, None] - centre) > long[:, None] + long
        friends = far & far.T & apart & whole & whole[:, None]
        if lookalikes == 2:
            friends = friends[:, :, None] & friends[:, None] & friends
    chosen = rng.choice(np.argwhere(friends))  # listed in every order, so anyone may come first
    nerve, *others = (
        Cluster(centre[i], long[i], long[i] * rng.uniform(*FLATNESS), rng.uniform(*TILT)) for i in chosen
    )
    companion = Artery(artery[chosen[0]], radius[chosen[0]])
    return Layout(companion, None if rng.random() < WITHOUT_NERVE else nerve, tuple(others))


def ridge(distance: np.ndarray, width: float) -> np.ndarray:
    """A bump of height 1 where the distance is 0."""
    return np.exp(-0.5 * (distance / width) ** 2)


def ramp(distance: np.ndarray, width: float) -> np.ndarray:
    """1 where the distance is negative, 0 where it is positive, and a slope between."""
    return np.clip(0.5 - distance / width, 0, 1)


def texture(depth: np.ndarray, across: np.ndarray, grain: tuple, rng: np.random.Generator) -> np.ndarray:
    """A random field of variance 1, smooth over `grain` pixels (in depth, across), seen at those places."""
    cells = [2 / pixels for pixels in grain]  # per pixel, of a lattice: the grain spans two of them
    field = gaussian_filter(rng.standard_normal([round(FIELD * c) for c in cells]), 2, mode="wrap")
    places = [depth * cells[0], across * cells[1]]
    return map_coordinates(field / field.std(), places, order=1, mode="grid-wrap")


def tissue(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Echo strength of muscle in dB: bent layers with a fascia on each, and fibres that run along them."""
    x = points.real[0] / FIELD - 0.5
    bend = 9 * rng.normal() * x + 16 * rng.normal() * x**2
    bend += 1.2 * np.sin(2 * np.pi * (rng.uniform(1, 2) * x + rng.random()))
    depth = points.imag + bend
    echo = 2.5 * texture(points.imag, points.real, (6, 9), rng)
    echo += 2.2 * texture(depth, points.real, (0.45, 7), rng)
    tops, levels = np.sort(rng.uniform(0, FIELD, LAYERS)), rng.uniform(-5, 5, LAYERS)
    for top, step in zip(tops, np.diff(levels, prepend=0), strict=True):
        fading = 0.5 + 0.5 * np.sin(2 * np.pi * (rng.uniform(0.3, 1) * x + rng.random()))
        echo += step * ramp(top - depth, 1)
        echo += rng.uniform(5, 11) * fading * ridge(depth - top, rng.uniform(0.4, 0.9))
    return echo


def throw_fascicles(cluster: Cluster, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Centres and radii of a cluster's fascicles, thrown like darts: one that hits another falls off."""
    radius = rng.uniform(*FASCICLE_RADIUS, 120)
    spot = np.sqrt(rng.random(120)) * np.exp(2j * np.pi * rng.random(120))  # evenly over a disc
    spot = spot.real * (cluster.long - radius) + 1j * spot.imag * (cluster.short - radius)
    spot = cluster.centre + spot * np.exp(1j * cluster.tilt)
    clear = abs(spot[:, None] - spot) > 0.95 * (radius[:, None] + radius)
    stuck, left = [], np.arange(120)
    while left.size:
        stuck.append(left[0])
        left = left[clear[left[0], left]]
    return spot[stuck], radius[stuck]


def draw_cluster(echo: np.ndarray, points: np.ndarray, cluster: Cluster, rng: np.random.Generator) -> None:
    """Put a honeycomb where tissue was: bright between dark fascicles, and a sheath around it all."""
    near = cluster.radius_at(points) < 1.5  # nothing changes elsewhere, so we work on this corner alone
    points, ground = points[near], echo[near]
    out = cluster.radius_at(points)
    centres, radii = throw_fascicles(cluster, rng)
    edge = (abs(points[:, None] - centres) - radii).min(1)  # how far outside the nearest fascicle
    comb = rng.uniform(3, 6) - 15 * ramp(edge + 0.3, 0.8) + 2.5 * ridge(edge - 0.3, 0.4)
    sheath = 5 * ridge((out - 0.97) * cluster.short, 0.6)
    echo[near] += ramp(out - 1, 0.12) * (comb - 0.5 * ground) + sheath


def draw_artery(echo: np.ndarray, points: np.ndarray, artery: Artery, rng: np.random.Generator) -> None:
    """Put blood where tissue was: hardly an echo, and a wall that shines where the beam meets it head-on."""
    edge = abs(points - artery.centre) - artery.radius
    head_on = ((points.imag - artery.centre.imag) / artery.radius) ** 2
    echo += ramp(edge, 0.8) * (rng.uniform(-22, -14) - echo) + 8 * head_on * ridge(edge - 0.7, 0.5)


def echo_strength(plan: Layout, points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What comes back from each point in dB: all that lies there, less what the beam lost on its way."""
    echo = tissue(points, rng)
    for cluster in filter(None, (plan.nerve, *plan.lookalikes)):
        draw_cluster(echo, points, cluster, rng)
    draw_artery(echo, points, plan.artery, rng)
    echo += rng.uniform(-9, 1) * points.imag / FIELD
    if rng.random() < 0.5:  # where the probe touches the skin badly, a shadow falls from top to bottom
        echo -= rng.uniform(3, 10) * ridge(points.real - rng.uniform(0, FIELD), rng.uniform(4, 9))
    return echo


def b_mode(echo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture on the screen, whole grey levels 0 to 255: speckle, its envelope, log compression."""
    zoom = np.sqrt(len(echo) / FIELD)  # a finer picture comes from a finer beam, but not so much finer
    amplitude = np.float32(10) ** (echo / 20).astype(np.float32)
    scatterers = rng.standard_normal((2, LOOKS, *echo.shape), np.float32)  # real and imaginary part
    waves = gaussian_filter(amplitude * scatterers, [0, 0, BEAM[0] * zoom, BEAM[1] * zoom])
    envelope = np.hypot(*waves).mean(0)
    level = 20 * np.log10(envelope / np.median(envelope)) + rng.uniform(-3, 3)  # dB; a hand on the gain knob
    grey = np.clip((level - BLACK) / (WHITE - BLACK), 0, 1)
    return np.rint(255 * gaussian_filter(grey, 0.4 * zoom))


def check_numbers(whose: str, **numbers: tuple) -> None:
    """Refuse (value, least) by name where the value is not a whole number or is less."""
    for name, (value, least) in numbers.items():
        if not isinstance(value, Integral) or value < least:
            raise InputError(f"{whose}'s {name} must be a whole number, at least {least}, got {value!r}")


def phantom(count: int, size: int = 64, seed: int = 0) -> Dataset:
    """`count` images of an artery, the nerve beside it and its look-alikes, each its own subject.

    Image i depends on `seed`, i and `size` alone, so phantom(5) is how phantom(10) begins.

    Returns:
        Dataset: images (count, 1, size, size) float32 in [0, 1], multiples of 1/255 like those of an 8-bit
        file; labels (count, size, size) uint8, 1 in the nerve's ellipse (5% of the pixels), all 0 in the
        fifth of the images without a nerve.

    Raises:
        InputError: `count` below 1, `size` below 16 (fascicles finer than a pixel) or `seed` below 0.
    """
    check_numbers("phantom", count=(count, 1), size=(size, 16), seed=(seed, 0))
    axis = (np.arange(size) + 0.5) * (FIELD / size)
    points = axis + 1j * axis[:, None]
    images = np.zeros((count, 1, size, size), np.float32)
    labels = np.zeros((count, size, size), np.uint8)
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        plan = layout(rng)
        images[i, 0] = b_mode(echo_strength(plan, points, rng), rng) / 255
        if plan.nerve:
            labels[i] = plan.nerve.radius_at(points) <= 1
    names = tuple(f"phantom_{i:04d}" for i in range(count))
    return Dataset(images, labels, names, names, ("background", "structure"))
