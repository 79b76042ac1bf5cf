"""Where do the squares in the masks come from? Each explanation is tested by itself, over several seeds.

The article saw square artefacts in its masks, and thought of transposed convolution. There is none in this
network. We measure two artefacts in probability maps, each by a number:

- The comb: neighbouring pixels alternate, as the teeth of a comb do. `comb` counts the up and down that a
  nerve does not need.
- The steps: straight lines, one dilation away from a border. `steps` compares them with their neighbours.

Then we train the network in eleven ways. Each way takes one explanation away, or makes it stronger.
"""

from argparse import RawDescriptionHelpFormatter
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import autograd.numpy as np
import numpy
from scipy.stats import t as student

from tinyseg import begin, fit, modified, predict
from tinyseg.app.experiments import begin_table, run_experiments
from tinyseg.app.flags import Parser, number, positive
from tinyseg.app.run import LOG, Log, alone, guarded, make, versions
from tinyseg.data import phantom, random_symmetry
from tinyseg.errors import InputError
from tinyseg.fast import FAST
from tinyseg.fast.memory import keep_memory
from tinyseg.io.pictures import full_contrast, grey, grid, write_image
from tinyseg.metrics import confusion_matrix
from tinyseg.networks import FIBONACCI
from tinyseg.optim import linear_end
from tinyseg.training import most_probable
from tinyseg.views import influence

# 1. The comb, as a number.
#
# Walk along a row of a probability map, and add up all changes: that is the row's variation. A row that rises
# once to its highest value and falls once needs 2 * highest - first - last. Teeth need more:
#
#     comb = (sum of the variation of all rows and columns) / (sum of what they need) - 1
#
# We look at a window around each nerve, so what is falsely found elsewhere does not count. The nerve of the
# truth is convex: each row enters it once and leaves it once. So its comb is exactly 0, however its edge
# runs, and of a blurred edge hardly more. What counts is all that rises twice: teeth, holes, a second hump.
# This needs no threshold: the variation of a map is the mean number of edges of its masks, over all
# thresholds (the coarea formula).

MARGIN = 4  # pixels around the nerve


def comb(maps, labels) -> float:
    """The comb of maps (N, H, W) around the structure of labels (N, H, W); of no structure NaN."""
    windows = [numpy.asarray(one, float)[window(mask)] for one, mask in zip(maps, labels) if mask.any()]
    variation, needed = numpy.sum([(0, 0), *(walk(lines) for one in windows for lines in along(one))], axis=0)
    return float(variation / needed - 1) if needed else float("nan")


def walk(lines):
    """(the variation of all lines (count, n), what they need)."""
    needed = 2 * lines.max(axis=1) - lines[:, 0] - lines[:, -1]
    return numpy.abs(numpy.diff(lines)).sum(), needed.sum()


def along(one):
    """The rows of a map (H, W), and its columns as rows."""
    return one, one.T


def window(mask) -> tuple[slice, slice]:
    """The rows and columns of a mask (H, W), and some more."""
    ends = [numpy.flatnonzero(mask.any(axis=axis))[[0, -1]] for axis in (1, 0)]
    return tuple(slice(max(0, first - MARGIN), last + MARGIN + 1) for first, last in ends)


# 2. The steps, as a number.
#
# A tap of dilation d leaves the image where a pixel is less than d away from a border. There it finds a zero,
# all along a straight line. What comes from the images is different in each; what comes from padding is the
# same in all. So we take the mean of the maps over all images. We compare how much it jumps across those
# lines with how much it jumps across lines near by. Where the lines are nothing special, this is 1.


def steps(maps) -> float:
    """The jump across the lines of FIBONACCI's dilations, over the jump near by, of maps (N, n, n)."""
    n = maps.shape[-1]
    lines = {line for d in FIBONACCI if 5 <= d < n for line in (d, n - d)}  # between pixels line - 1 and line
    near = {line + far for line in lines for far in (-2, 2)} - lines
    jumps = sum(numpy.abs(numpy.diff(mean)).mean(axis=0) for mean in along(maps.mean(axis=0)))  # (n - 1,)
    at, beside = (numpy.mean([jumps[line - 1] for line in group if 0 < line < n]) for group in (lines, near))
    return float(at / beside)


# 3. The explanations: what is trained, by name, and how it differs from the article's modified network.

LEARNT = 0.5  # of Dice: a map that has not learnt may have any comb
REMEDIES = ("dilations that fall again", "two dense layers in front", "two dense layers behind")
BASE, PADDINGS = "as it is", ("padding by the edge", "padding by reflection")
CONTROL = "two layers of 13 behind"
LOSSES = "cross-entropy, no residual", "squared error, no residual"
WAYS: dict[str, dict] = {
    BASE: {},
    # Dilation. Neighbouring pixels look through taps that lie d apart, so they see different pixels, and
    # their noise differs. With dilations of 5 alone, pixels of 25 lattices have nothing in common.
    "every dilation 1": {"dilations": (1,) * 10},
    "every dilation 5": {"dilations": (5,) * 10},
    "dilations that fall again": {"dilations": (1, 2, 4, 8, 16, 16, 8, 4, 2, 1)},
    "two dense layers in front": {"dilations": (1, 1, *FIBONACCI)},
    "two dense layers behind": {"dilations": (*FIBONACCI, 1, 1)},
    # Depth. Two more layers, whatever their dilation, could be what helps: a control for the two above. Of
    # 13, most of their taps lie within an image of 64 pixels; of 55, few would.
    CONTROL: {"dilations": (*FIBONACCI, 13, 13)},
    # Padding: what a tap finds outside the image.
    "padding by the edge": {"padding": "edge"},
    "padding by reflection": {"padding": "reflect"},
    # The loss. With residual connections cross-entropy hardly learns, so both are without.
    "squared error, no residual": {"residual": False},
    "cross-entropy, no residual": {"residual": False, "head": "softmax"},
}
MORE, LESS, YES = "more", "less", "yes"
# Which two are compared, whether the first is to make more of the comb or less, and that as a sentence.
COMPARED = [
    ("dilation", "every dilation 5", BASE, MORE, "dilations of 5 alone make more of it"),
    ("dilation", "every dilation 1", BASE, LESS, "no dilation makes less of it"),
    ("dilation", "dilations that fall again", BASE, LESS, "a falling schedule makes less of it"),
    ("dilation", "two dense layers in front", BASE, LESS, "dense layers in front make less of it"),
    ("dilation", "two dense layers behind", BASE, LESS, "dense layers behind make less of it"),
    ("padding", "padding by the edge", BASE, LESS, "padding by the edge makes less of it"),
    ("padding", "padding by reflection", BASE, LESS, "padding by reflection makes less of it"),
    ("loss", *LOSSES, LESS, "cross-entropy makes less of it"),
    ("depth", CONTROL, BASE, LESS, "two more layers of dilation 13 make less of it"),
    ("dilation", "two dense layers behind", CONTROL, LESS, "two dense layers behind make less than those"),
]


def padded(mode: str):
    """An engine whose convolution looks at a padded image: "edge" repeats the border, "reflect" mirrors it.

    Padding copies pixels, so it is a product with a matrix of zeros and ones on each side. autograd knows
    its gradient.
    """

    def copies(n, reach):
        places = numpy.pad(numpy.arange(n), reach, mode)  # which pixel each place copies
        return (places[:, None] == numpy.arange(n)).astype(numpy.float32)  # (n + 2 * reach, n)

    def conv2d(x, weight, bias=None, *, dilation=1):
        (h, w), reach = x.shape[2:], dilation * (weight.shape[2] // 2)
        x = np.matmul(np.matmul(copies(h, reach), x), copies(w, reach).T)  # (N, C, H + 2 reach, W + 2 reach)
        y = FAST.conv2d(x, weight, bias, dilation=dilation)
        return y[:, :, reach : reach + h, reach : reach + w]  # (N, O, H, W)

    return replace(FAST, conv2d=conv2d)


def network(changes: dict):
    """The modified network with these changes."""
    fields = {key: value for key, value in changes.items() if key != "padding"}
    return modified(**fields, **({"engine": padded(changes["padding"])} if "padding" in changes else {}))


def smooth(maps):
    """Maps (N, H, W) blurred by 1 2 1 along both axes: the cheapest remedy, after training."""
    for axis in (1, 2):
        ends = [(1, 1) if i == axis else (0, 0) for i in range(3)]
        one, two, three = (
            numpy.pad(maps, ends, "edge").take(range(k, k + maps.shape[axis]), axis) for k in range(3)
        )
        maps = (one + 2 * two + three) / 4
    return maps


# 4. One run: train, and measure on held-out images.


def images_of(count: int, seed: int):
    """(three quarters to train on, a quarter held out) of so many synthetic images."""
    data, first = phantom(count, seed=seed), count * 3 // 4
    return data.take(range(first)), data.take(range(first, count))


def work(name: str, settings: dict) -> dict:
    """Train one network with one seed, and measure it; its probabilities go to a file."""
    keep_memory()
    changes, seed = WAYS[settings["way"]], settings["seed"]
    net, (train, held_out) = network(changes), images_of(settings["images"], seed)
    how = {"schedule": linear_end(0.003), "augment": random_symmetry}
    *_, last = fit(net, train, begin(net, seed), epochs=settings["epochs"], **how)
    p = predict(net, last.params, last.state, held_out.images)[:, 0]  # (N, 1, H, W) -> (N, H, W)
    numpy.savez(Path(settings["out"]) / f"{name}.npz", p=p.astype(numpy.float16))
    blurred = smooth(p)
    return {
        "comb": comb(p, held_out.labels),
        "steps": steps(p),
        "impulse": impulse(net, last, held_out),
        "dice": dice(p, held_out),
        "smooth_comb": comb(blurred, held_out.labels),
        "smooth_dice": dice(blurred, held_out),
    }


def impulse(net, last, data) -> float:
    """The comb of the influence that the pixels around a nerve have on its middle, in up to ten images.

    NaN if nothing moves the output there: all relus of a head may be 0.
    """
    maps, windows = [], []
    for image, mask in zip(data.images, data.labels):
        if mask.any() and len(maps) < 10:
            middle = tuple(numpy.argwhere(mask).mean(axis=0).astype(int))
            maps.append(influence(net, last.params, last.state, image[None], at=middle))
            windows.append(mask)
    return comb(maps, windows)


def dice(p, data) -> float:
    """The Dice of probabilities (N, H, W) at 0.5."""
    return confusion_matrix(most_probable(p[:, None]), data.labels).dice  # (N, H, W) -> (N, 1, H, W)


# 5. What needs no training: on how many paths a pixel of the image reaches the middle of the output.


def coverage(dilations) -> tuple[float, float]:
    """(share of the window that no path reaches, comb of the number of paths), along one axis."""
    counts = paths(dilations)
    variation, needed = walk(counts[None])
    return float((counts == 0).mean()), float(variation / needed - 1)


def paths(dilations) -> numpy.ndarray:
    """On how many paths 3 x 3 layers reach each pixel of their window from its middle, along one axis."""
    counts = numpy.ones(1)
    for d in dilations:
        taps = numpy.zeros(2 * d + 1)
        taps[[0, d, 2 * d]] = 1
        counts = numpy.convolve(counts, taps)
    return counts


def transposed() -> numpy.ndarray:
    """What a transposed convolution of stride 2 with a kernel of three ones makes of a row of ones."""
    y = numpy.zeros(13)
    for i in range(6):
        y[2 * i : 2 * i + 3] += 1  # each input adds a kernel; kernels overlap at every second place
    return y


# 6. The answer.


def answer(table: dict[str, list[dict]]) -> str:
    """All figures, a seed beside the other, and what they say of each explanation."""
    lines = [
        "| way | comb | mean | Dice | mean | steps | mean | impulse response |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def cells(runs, *keys):
        return [cell for key in keys for cell in (row(runs, key), f"{mean(runs, key)}{spread(runs, key)}")]

    for name, runs in table.items():
        line = [name, *cells(runs, "comb", "dice", "steps"), mean(runs, "impulse")]
        lines.append(f"| {' | '.join(line)} |")
    blurred = cells(table[BASE], "smooth_comb", "smooth_dice")
    lines.append(f"| {' | '.join([f'{BASE}, its map blurred by 1 2 1', *blurred])} | | | |")
    lines += ["", "The number of paths from a pixel of the image to the output, without any training:", ""]
    lines += ["| schedule | no path at all | comb |", "|---|---|---|"]
    for name in (name for name in WAYS if name == BASE or "dilations" in WAYS[name]):
        holes, uneven = coverage(WAYS[name].get("dilations", FIBONACCI))
        lines.append(f"| {name} | {holes:.0%} | {uneven:.2f} |")
    y = transposed()
    variation, needed = walk(y[None])
    row_of_ones = " ".join(f"{one:.0f}" for one in y)
    straight = [paired(figures(table[name], "steps"), figures(table[BASE], "steps"))[1] for name in PADDINGS]
    said = verdicts(table)
    steps, many = [f"{mean(table[BASE], 'steps')} {BASE}"], len(table[BASE]) > 1
    for name, p in zip(PADDINGS, holm(straight)):
        steps.append(f"{mean(table[name], 'steps')} {name}" + f" (p = {p:.2g})" * many)
    test = "A paired t-test over the seeds, of the logarithm of the comb of two ways;"
    test += f"\nthe p-values are corrected for {len(COMPARED)} comparisons (Holm)."
    return "\n".join(
        [
            *lines,
            "",
            f"Is it so? {test if many else 'One seed cannot tell: --seeds 5 tests each claim by a t-test.'}",
            "",
            *(f"- {sentence}" for sentence in said),
            "- transposed convolution: there is none here. One of stride 2 with a kernel of three makes",
            f"  {row_of_ones} of a row of ones: a comb of {variation / needed - 1:.1f}.",
            f"- the steps at the lines of zero padding (1: none): {', '.join(steps)}.",
            *(["", f"In short, claims that are borne out: {tally(table)}."] if many else []),
            "",
            *remedies(table),
        ]
    )


def verdicts(table) -> list[str]:
    """A sentence on each claim: whether the seeds bear it out, how sure that is, and what it costs."""

    sentences = []
    for (explanation, one, other, _, claim), (factor, p, found) in zip(COMPARED, compared(table)):
        dice, before = (numpy.mean(figures(table[name], "dice")) for name in (one, other))
        verdict, test = f"{found}. ", f" (p = {p:.2g})"
        if len(table[one]) < 2:
            verdict = test = ""  # of one seed nobody can say what is chance
        words = f"{explanation}: {claim}: {verdict}Comb times {factor:.2f}{test}, Dice {dice - before:+.2f}."
        for name, its_dice in ((one, dice), (other, before)):
            words += f' But "{name}" has not learnt to find the nerve.' if its_dice < LEARNT else ""
        sentences.append(words)
    return sentences


def compared(table) -> list[tuple[float, float, str]]:
    """Of each claim (the factor of the comb, its corrected p-value, whether it is borne out)."""
    pairs = [paired(*(figures(table[name], "comb") for name in pair)) for _, *pair, _, _ in COMPARED]
    found = []
    for (_, _, _, direction, _), (factor, _), p in zip(COMPARED, pairs, holm([p for _, p in pairs])):
        borne_out = YES if (factor > 1) == (direction == MORE) else "no, it is the other way round"
        found.append((factor, p, borne_out if p < 0.05 else "not shown"))
    return found


def tally(table) -> str:
    """Of each explanation, how many of its claims are borne out."""
    of_each: dict[str, list[bool]] = {}
    for (explanation, *_), (_, _, found) in zip(COMPARED, compared(table)):
        of_each.setdefault(explanation, []).append(found == YES)
    return ", ".join(f"{name} {sum(yes)} of {len(yes)}" for name, yes in of_each.items())


def paired(one, other) -> tuple[float, float]:
    """(the geometric mean of one / other, the p-value of a paired t-test that it is 1), two-sided.

    Of one pair there is no test: then the p-value is 1.
    """
    logs = numpy.log(numpy.array(one) / numpy.array(other))
    n, factor = len(logs), float(numpy.exp(logs.mean()))
    if n < 2 or not logs.any():
        return factor, 1.0
    with numpy.errstate(divide="ignore"):  # all pairs have the same ratio: then p is 0
        return factor, float(2 * student.sf(abs(logs.mean()) / (numpy.std(logs, ddof=1) / n**0.5), n - 1))


def holm(ps) -> list[float]:
    """Each p-value after the correction of Holm (1979) for all of them together."""
    order, highest, corrected = numpy.argsort(ps), 0.0, [1.0] * len(ps)
    for k, i in enumerate(order):
        highest = max(highest, min(1.0, (len(ps) - k) * ps[i]))
        corrected[i] = highest
    return corrected


def remedies(table) -> list[str]:
    """What each remedy makes of comb and Dice."""
    after = {name: (table[name], "comb", "dice") for name in REMEDIES}
    after["a blur by 1 2 1 after training"] = (table[BASE], "smooth_comb", "smooth_dice")
    lines = [
        f"With a remedy (without: comb {mean(table[BASE], 'comb')}, Dice {mean(table[BASE], 'dice')}):",
        "",
    ]
    for name, (runs, comb_key, dice_key) in after.items():
        lines.append(f"- {name}: comb {mean(runs, comb_key)}, Dice {mean(runs, dice_key)}")
    return lines


def figures(runs, key) -> list[float]:
    """A figure of all seeds."""
    return [run[key] for run in runs]


def row(runs, key) -> str:
    """A figure of all seeds side by side."""
    return " ".join(f"{figure:.2f}" for figure in figures(runs, key))


def mean(runs, key) -> str:
    """The mean of a figure over the seeds that have one."""
    known = [figure for figure in figures(runs, key) if numpy.isfinite(figure)]
    if not known:
        return "-"
    missing = f" ({len(runs) - len(known)} without)" if len(known) < len(runs) else ""
    return f"{numpy.mean(known):.2f}{missing}"


def spread(runs, key) -> str:
    """The standard deviation of a figure over the seeds."""
    return f" ± {numpy.std(figures(runs, key), ddof=1):.2f}" if len(runs) > 1 else ""


def maps_of(path: Path) -> numpy.ndarray | None:
    """The probabilities (N, H, W) in a run's file; None if it is damaged, or not there."""
    try:
        with numpy.load(BytesIO(path.read_bytes())) as file:
            return file["p"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def picture(out: Path, images: int, seed: int) -> numpy.ndarray:
    """Three nerves in rows, close by: image, truth, and what each way makes of it."""
    _, held_out = images_of(images, seed)
    shown = [i for i, mask in enumerate(held_out.labels) if mask.any()][:3]
    rows = []
    for i in shown:
        rows_of, columns_of = window(held_out.labels[i])
        rows.append([held_out.images[i, 0][rows_of, columns_of], held_out.labels[i][rows_of, columns_of]])
        for name in WAYS:
            p = maps_of(out / f"{name}, seed {seed}.npz")[i]
            rows[-1].append(full_contrast(p[rows_of, columns_of], p))
    return grid([[grey(one) for one in line] for line in rows], names=("image", "truth", *WAYS), width=110)


@guarded
def main(argv=None):
    parser = Parser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=positive, default=5, metavar="N", help="how many seeds (default 5)")
    parser.add_argument(
        "--epochs", type=positive, default=10, metavar="N", help="passes over the images (default 10)"
    )
    parser.add_argument(
        "--images",
        type=number(int, 16, "at least 16 images"),
        default=200,
        metavar="N",
        help="three quarters train (default 200)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/squares"), metavar="DIR", help="(default runs/squares)"
    )
    args = parser.parse_args(argv)
    settings = {"epochs": args.epochs, "images": args.images, "out": str(args.out)}
    runs = {
        f"{way}, seed {seed}": settings | {"way": way, "seed": seed}
        for seed in range(args.seeds)
        for way in WAYS
    }
    there = {"there": lambda name, settings: maps_of(args.out / f"{name}.npz") is not None}
    make(args.out)
    with alone(args.out):
        files = [LOG, "squares.png", *(f"{name}.npz" for name in runs)]
        begin_table(args.out / "runs.csv", runs, files)
        log = Log(args.out)
        log.say(" ".join(f"{name} {version}" for name, version in versions().items()))
        results = run_experiments(work, runs, table=args.out / "runs.csv", say=log.say, **there)
        for name, run in results.items():
            if words := [value for value in run.values() if not isinstance(value, float | int)]:
                raise InputError(
                    f"{args.out / 'runs.csv'}: expected numbers of {name}, got {words[0]!r}; delete its row"
                )
        table = {way: [results[f"{way}, seed {seed}"] for seed in range(args.seeds)] for way in WAYS}
        log.say("\n" + answer(table))
        write_image(args.out / "squares.png", picture(args.out, args.images, 0))
        log.say(f"\n{args.out / 'squares.png'} shows nerves, close by.")
    return table


if __name__ == "__main__":
    main()
