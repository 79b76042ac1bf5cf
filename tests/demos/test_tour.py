"""The tour: its exercises accept what is right and say what is wrong; from the top, it tells its story."""

import json
import re
from base64 import b64decode
from pathlib import Path

import autograd.numpy as np
import exercises
import numpy
import pytest
from autograd.extend import defvjp, primitive

from tinyseg import modified, original

DEMOS = Path(__file__).parent.parent.parent / "demos"
NOTEBOOK = json.loads((DEMOS / "tour.ipynb").read_text(encoding="utf-8"))
CELLS = [cell | {"source": "".join(cell["source"])} for cell in NOTEBOOK["cells"]]


def tagged(kind):
    """The sources of cells with tags such as exercise-3, by their number."""
    tags = [(tag, cell["source"]) for cell in CELLS for tag in cell["metadata"].get("tags", [])]
    return {int(tag.rpartition("-")[2]): source for tag, source in tags if tag.startswith(f"{kind}-")}


ANSWERS = {
    number: re.search(r"```python\n(.*?)```", text, flags=re.S)[1]
    for number, text in tagged("answer").items()
}


def test_it_is_stored_without_outputs_but_small_pictures():
    outputs = [output for cell in CELLS for output in cell.get("outputs", [])]
    assert outputs and all(set(output["data"]) == {"image/png", "text/plain"} for output in outputs)
    assert all(b64decode(output["data"]["image/png"])[1:4] == b"PNG" for output in outputs)
    assert (DEMOS / "tour.ipynb").stat().st_size < 600_000
    assert all(cell["execution_count"] is None for cell in CELLS if cell["cell_type"] == "code")


def test_ten_exercises_have_an_answer_each_that_is_folded_away():
    assert list(tagged("exercise")) == list(ANSWERS) == list(range(1, 11))
    folded = "<details>\n<summary>Answer</summary>\n\n"
    assert all(text.startswith(folded) for text in tagged("answer").values())
    alike = [cell for cell in CELLS if "answer" in cell["metadata"].get("tags", [])]  # for a hand-out
    assert [cell["source"] for cell in alike] == list(tagged("answer").values())


def test_links_of_the_tour_lead_somewhere():
    text = "".join(cell["source"] for cell in CELLS if cell["cell_type"] == "markdown")
    assert all((DEMOS / target).exists() for target in re.findall(r"\]\((?!http|#)([^)#]+)", text))


def look(x, down, right):
    far = max(abs(down), abs(right))
    height, width = x.shape
    return numpy.pad(x, far)[far + down : far + down + height, far + right : far + right + width]


def names():
    """What the cells before an exercise define."""
    return {
        "exercises": exercises, "numpy": numpy, "np": np, "look": look, "original": original,
        "modified": modified, "autograd_primitive": primitive, "defvjp": defvjp,
    }  # fmt: skip


@pytest.mark.parametrize("number", range(1, 11))
def test_the_answer_is_right_and_three_dots_are_none(number, capsys):
    exec(ANSWERS[number], names())
    assert capsys.readouterr().out == f"Exercise {number}: right.\n"
    exec(tagged("exercise")[number], names())
    assert capsys.readouterr().out.startswith(f"Exercise {number}: write your answer in place of the dots")


WRONG = [  # exercise, what stands in the answer, what somebody writes instead, what the check says
    (1, "-g * a / b**2", "g * a / b**2", "of b has the wrong sign"),
    (1, "lambda g: g / b", "lambda g: 1 / b", "of a lacks the factor g"),
    (1, "-g * a / b**2", "-g * a / b", "should be"),
    (1, "lambda g: g / b", "1 / b", "The maker of a has to return a function of g"),
    (1, "ans, a, b: lambda g: -g", "ans, a, b, g: -g", "The maker of b has to return a function of g"),
    (1, "exercises.divide(divide_makers)", "exercises.divide(divide_makers[::-1])", "are swapped"),
    (1, "lambda ans, a, b: lambda g: -g * a / b**2", "lambda ans, a, b: lambda g: g / b", "of b is wrong"),
    (1, "lambda ans, a, b: lambda g: g / b", "lambda ans, a, b: lambda g: -g * a / b**2", "of a is wrong"),
    (2, "(of_a, of_b)", "of_a", "Give two numbers"),
    (1, "lambda g: g / b", "lambda g: None", "is None"),
    (2, "= 1, 2", "= 0, 2", "used twice"),
    (2, "= 1, 2", "= 1, 0", "0 for b"),
    (3, "w[i, j]", "w[2 - i, 2 - j]", "should look up and to the left"),
    (3, "d * (i - 1), d * (j - 1)", "i - 1, j - 1", "Multiply the offsets"),
    (3, "range(3) for j", "range(2) for j", "its weight is -2.0342, and you multiply by 0.0000"),
    (3, "return sum", "return 1 + sum", "56 pixels of 56 are wrong, the first at (0, 0)."),
    (3, "exercises.convolution(convolve)", "exercises.convolution(0.5)", "Give the function itself"),
    (3, "look(x", "look(x[:5]", "shape"),
    (3, "look(x", "see(x", "NameError"),
    (3, "d * (i - 1), d * (j - 1)", "d * i, d * j", "should look at the pixel itself"),
    (3, "w[i, j]", "w[j, i]", "Rows and columns are swapped"),
    (3, "d * (i - 1), d * (j - 1)", "d * i - 1, d * j - 1", "of row i is d * (i - 1), not d * i - 1"),
    (3, "d * (i - 1), d * (j - 1)", "d * (i - 1), j - 1", "The offset of j, to the right, has to be"),
    (3, "d * (i - 1), d * (j - 1)", "i - 1, d * (j - 1)", "The offset of i, down, has to be multiplied"),
    (3, "return sum", "return ", "is a generator"),
    (3, "return sum", "return list", "Add up the 9 arrays"),
    (3, "look(x, d * (i - 1), d * (j - 1))", "numpy.roll(x, (-d * (i - 1), -d * (j - 1)), (0, 1))",
     "26 pixels of 56 are wrong, the first at (0, 0). Only those at the border are"),
    (4, "numpy.sum(g * look(x, d * (i - 1), d * (j - 1)))", "g * look(x, d * (i - 1), d * (j - 1))",
     "dw[i, j] is one number"),
    (4, "numpy.sum(g *", "sum(g *", "dw[i, j] is one number"),
    (4, "numpy.sum", "-numpy.sum", "the wrong sign"),
    (4, "d * (i - 1), d * (j - 1)", "d * (j - 1), d * (i - 1)", "Rows and columns are swapped"),
    (4, "    return dw", "        return dw", "Does return stand in the loop?"),
    (4, "look(x", "look(x[:5]", "ValueError"),
    (5, "s + x", "s - x", "The second term has the wrong sign"),
    (5, "s + x * s", "s + s", "lacks a factor x"),
    (5, "return s + x * s * (1 - s)", "return lambda g: g * s", "is a function, where numbers should be"),
    (7, "biases + 2 * outward", "1 + 2 * outward", "The bias is one number for each output channel"),
    (7, "biases + 2 * outward", "inward + 2 * outward", "The bias is one number for each output channel"),
    (7, "2 * outward", "2", "gamma and beta are one number each for each output channel"),
    (7, "2 * outward", "2 * inward", "The norm comes after the convolution"),
    (9, "(numpy.sum(found) + numpy.sum(truth))", "numpy.sum(found) + numpy.sum(truth)", "needs brackets"),
    (9, "(numpy.sum(found) + numpy.sum(truth))", "(found.size + truth.size)", "counts the black pixels"),
    (9, "found & truth", "found and truth", "For arrays, write & in place of and"),
    (9, "numpy.sum", "sum", "should be one number. numpy.sum adds up all"),
    (1, "lambda ans, a, b: lambda g: g / b", "lambda ans, a, b: g / b", "The maker of a has to return"),
    (1, "lambda ans, a, b: lambda g: g / b", "0.5", "The maker of a has to return a function of g"),
    (4, "d * (i - 1), d * (j - 1)", "-d * (i - 1), -d * (j - 1)", "turned by 180 degrees. Weight"),
    (4, "g * look", "look", "middle weight"),
    (4, "d * (i - 1), d * (j - 1)", "(i - 1), (j - 1)", "others are not"),
    (4, "return dw", "return dw[0]", "shape"),
    (4, "d * (i - 1), d * (j - 1)", "2 * (i - 1), 2 * (j - 1)", "With a dilation of 1"),
    (1, "g / b,", "g / abs(b),", "wrong: at a ="),
    (5, "s + x * s * (1 - s)", "s * (1 - s)", "Yours is the slope of s alone."),
    (5, "s + x * s * (1 - s)", "s", "Yours is the first."),
    (5, "s + x * s * (1 - s)", "x * s * (1 - s)", "Yours is the second."),
    (5, "s + x * s * (1 - s)", "s + x * s", "The slope is wrong: at x ="),
    (5, "g * slope(x)", "slope(x)", "lacks the factor g"),
    (5, "g * slope(x)", "2 * g * slope(x)", "The checker says"),
    (5, "@autograd_primitive", "", "Leave @autograd_primitive above silu"),
    (6, "numpy.mean(xhat * g)", "numpy.sum(xhat * g) / len(g)", "The number of entries is g.size"),
    (6, " - xhat * numpy.mean(xhat * g)", "", "lacks the part along xhat"),
    (6, "- numpy.mean(g) ", "", "lacks the mean of g"),
    (6, "r * (", "(", "lacks the factor r"),
    (6, "- xhat *", "+ xhat *", "sign"),
    (6, "xhat * numpy.mean(xhat * g)", "numpy.mean(xhat * g)", "multiple of xhat"),
    (6, "numpy.mean(xhat * g)", "numpy.sum(xhat * g)", "number of entries"),
    (6, "r * (", "2 * r * (", "should be"),
    (7, "kernel**2", "kernel", "3 x 3 weights"),
    (7, "weights + biases + 2 * outward", "weights", "What else"),
    (7, "weights + biases + 2 * outward", "weights + biases", "gamma"),
    (7, "weights + biases + 2 * outward", "weights + 2 * outward", "channel is missing: the bias, gamma and"),
    (7, "weights + biases + 2 * outward", "weights + 2 * biases", "channel is missing: the bias, gamma and"),
    (7, "weights + biases + 2 * outward", "outward * inward * (kernel**2 + 1)", "has 726, and you count 770"),
    (7, "2 * outward", "inward", "has 726, and you count 711"),
    (7, "2 * outward", "3 * outward", "has 726, and you count 737"),
    (7, "2 * outward", "4 * outward", "is not learnt"),
    (7, "outward * inward * kernel**2", "inward * kernel**2", "has a kernel for each input channel"),
    (7, "outward * inward * kernel**2", "outward * kernel**2", "has a kernel for each input channel"),
    (7, "return weights", "weights", "The number is None"),
    (8, 'head="linear"', "", "still cross-entropy"),
    (8, 'original(head="linear")', "modified()", "another dropout"),
    (8, 'head="linear"', 'head="linear", residual=True', "residual connections"),
    (8, 'head="linear"', 'head="linear", maps=4', "Another field"),
    (8, 'original(head="linear")', '"linear"', "Build it"),
    (9, "2 * numpy.sum(found & truth) / (numpy.sum(found) + numpy.sum(truth))",
     "numpy.sum(found & truth) / numpy.sum(found | truth)", "IoU"),
    (9, "2 * numpy.sum(found & truth) / (numpy.sum(found) + numpy.sum(truth))",
     "numpy.mean(found == truth)", "accuracy"),
    (9, "2 * numpy.sum(found & truth) / (numpy.sum(found) + numpy.sum(truth))",
     "numpy.sum(found & truth) / numpy.sum(found)", "precision"),
    (9, "2 * numpy.sum(found & truth) / (numpy.sum(found) + numpy.sum(truth))",
     "numpy.sum(found & truth) / numpy.sum(truth)", "recall"),
    (9, "return 2", "2", "is None"),
    (9, "return 2", "return 1", "twice, as both"),
    (9, "(numpy.sum(found) + numpy.sum(truth))", "numpy.sum(found | truth)", "counts the common pixels once"),
    (9, "(numpy.sum(found) + numpy.sum(truth))", "numpy.sum(found + truth)", "counts the common pixels once"),
    (9, "(numpy.sum(found) + numpy.sum(truth))", "found.size", "a size counts the black pixels"),
    (9, "2 * numpy.sum(found & truth) / (numpy.sum(found) + numpy.sum(truth))",
     "numpy.sum(found & truth) / min(numpy.sum(found), numpy.sum(truth))", "should be"),
    (9, "return 2", "return 3", "should be"),
    (10, "(1, 3, 9, 18)", "(1, 2, 3)", "sees 13 pixels"),
    (10, "(1, 3, 9, 18)", "(1, 3, 9, 28)", "holes"),
    (10, "(1, 3, 9, 18)", "(1, 1, 2, 3, 5, 8, 13)", "works with 7 layers"),
    (10, "(1, 3, 9, 18)", "(1, 3, 9.5, 18)", "whole number"),
]  # fmt: skip


@pytest.mark.parametrize(("number", "right", "instead", "said"), WRONG)
def test_a_wrong_answer_is_told_what_is_wrong(number, right, instead, said, capsys):
    code = ANSWERS[number]
    assert right in code
    exec(code.replace(right, instead), names())
    out = capsys.readouterr().out
    assert out.startswith(f"Exercise {number}: not yet. ") and said in out


UNUSUAL = [  # right answers as somebody else writes them
    (4, "look(x, d", "look(x.astype(numpy.float32), d"),
    (4, "numpy.sum(g * look", "numpy.vdot(g, look"),
    (9, "return 2", "return numpy.float32(2)"),
    (1, "lambda ans, a, b: lambda g: g / b", "lambda ans, a, b: lambda g: numpy.divide(g, b, out=g)"),
    (2, "= 1, 2", "= numpy.float32(1), 2.0"),
    (6, "return r * (g - numpy.mean(g) - xhat * numpy.mean(xhat * g))",
     "g -= g.mean(); g -= xhat * (xhat * g).mean(); return r * g"),
    (7, "2 * outward", "numpy.int64(2) * outward"),
    (10, "(1, 3, 9, 18)", "numpy.array([1, 3, 9, 27])"),
    (10, "(1, 3, 9, 18)", "[1.0, 3.0, 9.0, 18.0]"),
]  # fmt: skip


@pytest.mark.parametrize(("number", "usual", "instead"), UNUSUAL)
def test_a_right_answer_is_right_however_it_is_written(number, usual, instead, capsys):
    assert usual in ANSWERS[number]
    exec(ANSWERS[number].replace(usual, instead), names())
    assert capsys.readouterr().out == f"Exercise {number}: right.\n"


@pytest.mark.lesson
def test_with_its_answers_it_runs_from_the_top_and_finds_what_it_says():
    nbformat = pytest.importorskip("nbformat")
    from tour import TOUR, pictures_alone, run

    notebook = nbformat.read(TOUR, 4)
    for cell in notebook.cells:
        for tag in cell.metadata.get("tags", []):
            if tag.startswith("exercise-"):
                cell.source = ANSWERS[int(tag.partition("-")[2])]
    run(notebook)
    printed = "".join(
        output.text for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs
        if output.output_type == "stream" and output.name == "stdout"
    )  # fmt: skip
    assert re.findall(r"^Exercise (\d+): right\.$", printed, flags=re.M) == [str(n) for n in range(1, 11)]
    good, black = map(float, re.findall(r"Dice on 50 held-out images: ([\d.]+)", printed))
    assert good > 0.5 and black < 0.05
    lines = re.findall(r"^(.*?) +(?:sees.*)?Dice ([\d.]+)", printed, flags=re.M)
    dice = {name.strip(): float(value) for name, value in lines}
    assert max(dice["all ones"], dice["all fives"]) < 0.3 < 0.5 < dice["Fibonacci to 13"]
    assert max(dice["original"], dice["residual connections"]) < 0.05 and dice["squared error"] > 0.4
    pictures_alone(notebook)
    assert sum(len(cell.get("outputs", [])) for cell in notebook.cells) >= 4
