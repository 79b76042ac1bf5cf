"""A page to look at for each run: one HTML file that needs nothing from elsewhere.

Each function here makes a piece of HTML of plain values, and `page` puts pieces together. Whatever comes from
outside (names of files and classes, the command) is escaped. There is no time of day in it: the same
values give the same bytes. The style, and what moves when the slider does, are in report.html.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from itertools import islice

import numpy as np

from tinyseg.app.data import Data
from tinyseg.app.figures import FEW, said
from tinyseg.app.judging import at_own_size
from tinyseg.app.progress import Epoch
from tinyseg.app.run import Log, versions
from tinyseg.errors import plural
from tinyseg.io.pictures import PREDICTION, TRUTH
from tinyseg.io.tiles import resized_to

MOST_IMAGES, MOST_BYTES = 60, 12_000_000  # what the slider holds, so that a browser opens it at once
Line = list[tuple[float, float]]  # points (x, y) of a curve; a y of NaN leaves a gap
PICTURES = {  # what a run draws, in the order of the page
    "overlays.png": "Held-out images. Each column has its name above it.",
    "masks.png": "The same images, the masks by themselves.",
    "probability.png": "What lies behind the masks: all probabilities, from the lowest to the highest.",
    "data.png": "Images that it was trained on.",
    "steps.gif": "Images, true masks, predicted masks and overlays in turn.",
    "epochs.gif": "One image that is not trained on, before training and after the epochs.",
}


@dataclass(frozen=True)
class Shown:
    """An image under the slider."""

    name: str
    image: np.ndarray  # (H, W) in [0, 1]
    p: np.ndarray  # (H, W): the probability of the structure
    truth: np.ndarray | None = None  # (H, W) labels: 1 where it is, 0 where not, or UNLABELLED; None: unknown


# Pieces of a page


def page(title: str, sections: Iterable[str]) -> str:
    """A whole page of sections."""
    form = files("tinyseg.app").joinpath("report.html").read_text(encoding="utf-8")
    return form.replace("<!--title-->", escape(title)).replace("<!--body-->", "\n".join(sections))


def section(heading: str, *pieces: str) -> str:
    """Pieces under a heading."""
    return "\n".join(["<section>", f"<h2>{escape(heading)}</h2>", *pieces, "</section>"])


def paragraph(text: str) -> str:
    """A paragraph."""
    return f"<p>{escape(text)}</p>"


def verbatim(text: str) -> str:
    """Text whose lines and spaces stay as they are."""
    return f'<pre tabindex="0">{escape(text)}</pre>'


def warning_list(warnings: Sequence[str]) -> str:
    """Sentences that must not be overlooked."""
    return f'<ul class="warnings">{"".join(f"<li>{escape(each)}</li>" for each in warnings)}</ul>'


def words(value) -> str:
    """A value of a table: a fraction with three decimals, and a dash for what is not known."""
    if value is None or value != value:
        return "–"
    return f"{round(value, 3) + 0.0:.3f}" if isinstance(value, float) else str(value)  # -0.0 + 0.0 is 0.0


def table(label: str, rows: Sequence[dict], shares: Sequence[dict] = ()) -> str:
    """Rows with the same keys, which head the columns; a long or wide table scrolls.

    `shares` may give some values of each row a number in [0, 1], which colours them.
    """
    first, *others = rows[0]
    text = {column for column in others if any(row[column] and isinstance(row[column], str) for row in rows)}

    def cell(row, share, column):
        how = f' style="--share:{share[column]:.3f}"' if column in share else left(column)
        return f"<td{how}>{escape(words(row[column]))}</td>"

    def left(column):
        return ' class="text"' if column in text and not shares else ""

    heads = "".join(f'<th scope="col"{left(column)}>{escape(column)}</th>' for column in (first, *others))
    lines = [
        f'<tr><th scope="row">{escape(words(row[first]))}</th>'
        + "".join(cell(row, share, column) for column in others)
        + "</tr>"
        for row, share in zip(rows, shares or [{}] * len(rows))
    ]
    body = "\n".join(lines)
    return (
        f"<h3>{escape(label)}</h3>"
        f'<div class="scroll" role="region" aria-label="{escape(label)}" tabindex="0">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>\n{body}\n</tbody></table></div>"
    )


def confusion(counts: Sequence[Sequence[int]], names: Sequence[str], **scores: Sequence) -> str:
    """The confusion matrix: pixels and their share of the row's class, then each class's scores."""
    rows, shares = [], []
    for k, (name, row) in enumerate(zip(names, counts)):
        share = {f"taken for {other}": n / max(sum(row), 1) for other, n in zip(names, row)}
        cells = {column: f"{n} ({share[column]:.1%})" for column, n in zip(share, row)}
        rows.append({"truth": name, **cells, **{score: values[k] for score, values in scores.items()}})
        shares.append(share)
    return table("Pixels of each class, and what they were taken for", rows, shares)


def data_uri(content: bytes, kind: str) -> str:
    """Content of a kind such as image/png as an address that holds it."""
    return f"data:{kind};base64,{b64encode(content).decode()}"


def figure(name: str, content: bytes, caption: str) -> str:
    """A PNG or GIF with its caption; what moves stays folded until one opens it."""
    kind = "image/gif" if name.endswith(".gif") else "image/png"
    img = f'<img src="{data_uri(content, kind)}" alt="{escape(caption)}">'
    shown = f"<figure>{img}<figcaption>{escape(f'{name}: {caption}')}</figcaption></figure>"
    if kind == "image/png":
        return shown
    return f"<details><summary>{escape(caption)} (moves)</summary>{shown}</details>"


def curves(label: str, lines: dict[str, Line], x_label: str = "step", top: float | None = None) -> str:
    """Lines by name as an SVG, from y = 0 to `top` or to the highest; a screen reader is told their ends."""
    finite = [(x, y) for line in lines.values() for x, y in line if np.isfinite(y)]
    right = max((x for x, _ in finite), default=0) or 1
    levels = [0.0, *(y for _, y in finite)]
    low, top = min(levels), top or max(levels)
    top += top == low  # of nothing but zeros
    left, width, above, height = 44, 340, 10, 180

    def at(x, y):
        return f"{left + width * x / right:.1f} {above + height * (top - y) / (top - low):.1f}"

    drawn = []
    for y in ticks(low, top):
        drawn.append(f'<path class="grid" d="M{at(0, y)}L{at(right, y)}"/>')
        level = at(0, y).split()[1]
        drawn.append(f'<text x="{left - 6}" y="{level}" dy="4" text-anchor="end">{y:g}</text>')
    for x in ticks(0, right):
        place = at(x, 0).split()[0]
        drawn.append(f'<text x="{place}" y="{above + height + 16}" text-anchor="middle">{x:g}</text>')
    drawn.append(f'<text x="{left + width / 2}" y="222" text-anchor="middle">{escape(x_label)}</text>')
    keys, told = [], []
    for k, (name, line) in enumerate(lines.items()):
        thinned = line[:: max(1, len(line) // 400)]
        path, pen = "", "M"
        for x, y in thinned + line[-1:]:
            path += f"{pen}{at(x, y)}" if np.isfinite(y) else ""
            pen = "L" if np.isfinite(y) else "M"
        drawn.append(f'<path class="line{k % 4}" d="{path and path + "h0"}"/>')  # h0: one point is a dot
        sample = (
            f'<svg width="34" height="8" aria-hidden="true"><path class="line{k % 4}" d="M2 4h30"/></svg>'
        )
        keys.append(f'<span class="key">{sample} {escape(name)}</span>')
        told.append(
            f"{name} from {words(float(line[0][1]))} to {words(float(line[-1][1]))}" if line else name
        )
    told_of_all = escape(f"{label} by {x_label}: {', '.join(told)}")
    return (
        f'<figure><svg viewBox="0 0 400 228" width="400" role="img" aria-label="{told_of_all}">'
        f"{''.join(drawn)}</svg>"
        f"<figcaption>{escape(label)}: {''.join(keys)}</figcaption></figure>"
    )


def ticks(low: float, high: float) -> list[float]:
    """Up to about six round numbers from low to high."""
    rough = (high - low) / 5
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * (1 - 1e-9))
    return [float(k * step) + 0.0 for k in range(int(np.ceil(low / step)), int(high / step + 1e-9) + 1)]


def slider(images: Iterable[Shown], marks: dict[str, float], count: int | None = None) -> str:
    """Images on which a threshold t moves the mask p > t; `marks` are thresholds by name, the first at first.

    The slider stands at a number s from 0 to 100, t = low + s (high - low) / 100, so that a key moves it by a
    hundredth. The page holds the probabilities as float32: what is found, and its Dice, are exact. Of `count`
    images, by default all given, no more are asked for than the page takes.
    """
    if count is None:
        images = list(images)
        count = len(images)
    held, size = [], 0
    for one in islice(images, MOST_IMAGES):
        size += 8 * one.image.size  # image, truth and float32 are 6 bytes; base64 has 4 letters for 3 of them
        if size > MOST_BYTES:
            break
        held.append(one)
    left_out = f"{count - len(held)} of {count} images are left out, so that the page stays small."
    if not held:
        return paragraph(left_out)
    ends = [*marks.values(), *(end(one.p[np.isfinite(one.p)]) for one in held for end in (np.min, np.max))]
    low, high = float(min(ends)), float(max(ends))
    places = {name: 100 * (at - low) / (high - low or 1) for name, at in marks.items()}
    start, truth = next(iter(places.values())), any(one.truth is not None for one in held)

    def packed(array, kind):
        return b64encode(np.ascontiguousarray(array, kind).tobytes()).decode()

    def content(one):
        return {
            "image": packed((np.clip(np.nan_to_num(one.image), 0, 1) * 255).round(), "u1"),
            "p": packed(one.p, "<f4"),
            "truth": None if one.truth is None else packed(one.truth, "u1"),
        }

    given = {
        "low": low,
        "high": high,
        "marks": [[places[name], at] for name, at in marks.items()],
        "colours": {"truth": TRUTH, "prediction": PREDICTION},
        "images": [content(one) for one in held],
    }
    text = json.dumps(given).replace("<", "\\u003c")  # no name can end the script
    buttons = "".join(
        f'<button type="button" value="{s}">{escape(name)}</button>' for name, s in places.items()
    )
    options = "".join(f'<option value="{s}"></option>' for s in places.values())
    figures = "\n".join(
        f'<figure><canvas width="{one.image.shape[1]}" height="{one.image.shape[0]}" role="img" '
        f'aria-label="{escape(one.name)} with the mask at the threshold"></canvas>'
        f"<figcaption>{escape(one.name)}<br><span></span></figcaption></figure>"
        for one in held
    )
    outline = ", and yellow the outline of the truth" if truth else ""
    return f"""
<p>Move the slider, by hand or by arrow keys. Blue is where the probability is above the
threshold{outline}.{" " + left_out if len(held) < count else ""}</p>
<noscript><p class="warnings">The slider needs JavaScript.</p></noscript>
<div>{buttons}
<span class="choice"><input type="checkbox" id="behind" autocomplete="off">
<label for="behind">probabilities in place of the images</label></span></div>
<div class="controls">
<label for="threshold">Threshold</label>
<input type="range" id="threshold" list="marks" min="0" max="100" step="any" value="{start}"
 autocomplete="off">
<datalist id="marks">{options}</datalist>
<div class="ends" aria-hidden="true"><span>{words(low)}</span><span>{words(high)}</span></div>
<output id="result" for="threshold"></output>
</div>
<div class="images">
{figures}
</div>
<script type="application/json" id="held-out">{text}</script>"""


# The page of a training


def training_page(
    title: str,
    *,
    command: str,
    versions: dict[str, str],
    found: str,
    metrics: dict,
    losses: dict[str, Line],
    scores: dict[str, Line],
    pictures: dict[str, bytes],
    images: Iterable[Shown] = (),
    count: int | None = None,
    rows: Sequence[dict] = (),
) -> str:
    """The page of one training.

    Args:
        command: what was typed.
        versions: of Python and packages.
        found: in words, what was found in the data.
        metrics: as in metrics.json; what is not there is not shown.
        losses, scores: curves by name, over steps.
        pictures: content of PNG and GIF files, by the names in PICTURES.
        images: held-out ones for the slider, and `count` of them; none for more than two classes.
        rows: a dict for each held-out image.
    """
    names = metrics["classes"]
    sections = [section("What was done", verbatim(command), paragraph(
        ", ".join(f"{name} {number}" for name, number in versions.items())), verbatim(found))]  # fmt: skip
    if metrics.get("warnings"):
        sections.insert(0, section("Warnings", warning_list(metrics["warnings"])))
    scored = {"Dice": metrics["dice_of_each"], "IoU": metrics["iou_of_each"]}
    sections.append(
        section(
            "Figures of the held-out images",
            table(
                f"Dice and IoU of {names[1] if len(names) == 2 else 'all classes, their mean'}; "
                "the standard deviation of Dice, and the 95% interval of its mean",
                figure_rows(metrics),
            ),
            *(map(paragraph, said(metrics).splitlines()) if "empty" in metrics else ()),
            confusion(metrics["confusion"], names, **scored),
        )
    )
    if images:
        marks = {"0.5, as in the masks": 0.5}
        if "best_threshold" in metrics:
            at = metrics["best_threshold"]
            marks[f"{words(at)}, the one chosen"] = at
        black = (
            "Every predicted mask is black: the highest probability anywhere is "
            f"{words(metrics.get('max_probability'))}. Move the slider to the left, and see what lies behind."
        )
        sections.append(
            section(
                "What a threshold finds",
                paragraph(black) if metrics.get("max_probability", 1) <= 0.5 else "",
                slider(images, marks, count),
            )
        )
    drawn = [curves("Loss", losses), curves("Score", scores, top=1.0)]
    sections.append(section("How the training went", f'<div class="pair">{"".join(drawn)}</div>'))
    shown = [figure(name, pictures[name], text) for name, text in PICTURES.items() if name in pictures]
    sections.append(section("Pictures", f'<div class="pair">{"".join(shown[:2])}</div>', *shown[2:]))
    if rows:
        heads = {"dice": "Dice", "iou": "IoU"}
        named = [{heads.get(column, column): value for column, value in row.items()} for row in rows]
        sections.append(section("Image by image", table("Held-out images", named)))
    return page(title, sections)


def figure_rows(metrics: dict) -> list[dict]:
    """The figures that there are: of what, Dice and IoU, and the spread of the Dice."""
    rows = [("all pixels together", metrics["dice"], metrics["iou"], {})]
    enough = metrics.get("by_subject", {}).get("count", 0) >= FEW
    for by in ("subject", "image"):
        if part := metrics.get(f"by_{by}"):
            dice = part["dice"]
            rows.append((f"mean over {plural(part['count'], by)}", dice["mean"], part["iou"]["mean"], dice))
    if "best_threshold" in metrics:
        name = f"at the threshold chosen, {words(metrics['best_threshold'])}"
        rows.append((name, metrics["best_threshold_dice"], "", {}))
    if "whole_dice" in metrics:
        rows.append(("every pixel, annotated or not", metrics["whole_dice"], "", {}))
    rows.append(("by brightness and a blur, no network", metrics["baseline_dice"], "", {}))
    return [
        {
            "held-out images": name,
            "Dice": dice,
            "IoU": iou,
            "standard deviation": spread.get("std", ""),
            "95% interval": " to ".join(map(words, spread.get("interval") or [] if enough else [])),
        }
        for name, dice, iou, spread in rows
    ]


def write_report(
    run: Log,
    p: np.ndarray,
    data: Data,
    metrics: dict,
    history: Sequence[Epoch],
    *,
    title: str,
    command: str,
    found: str,
    rows: Sequence[dict] = (),
) -> None:
    """Write report.html of what a run has drawn and measured.

    `p` is as for `draw`, the rest as for `training_page`; the Dice follows the title.
    """
    held_out, name = data.held_out, "validation" if data.validation else "held out"

    def line(field):
        return [(epoch.step, getattr(epoch, field)) for epoch in history]

    def shown(i):
        own, labels = at_own_size(p[i], held_out, i)
        image = held_out.images[i].mean(axis=0)  # (channels, h, w) -> (h, w)
        return Shown(held_out.names[i], resized_to(image, labels.shape), own[0], labels)

    pictures = {each: (run.folder / each) for each in PICTURES}
    content = training_page(
        f"{title}: Dice {words(metrics['dice'])}",
        command=command,
        versions=versions(),
        found=found,
        metrics=metrics,
        losses={"training": line("loss"), name: line("val_loss")},
        scores={f"Dice, {name}": line("val_dice"), f"IoU, {name}": line("val_iou")},
        pictures={each: path.read_bytes() for each, path in pictures.items() if path.exists()},
        images=map(shown, range(len(held_out))) if held_out.classes == 2 else (),
        count=len(held_out),
        rows=rows,
    )
    run.write("report.html", content)
