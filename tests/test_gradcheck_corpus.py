"""No right gradient is rejected, and no wrong one passes: all of gradcheck_corpus.py: `pytest -m corpus`."""

import numpy
import pytest
from gradcheck_corpus import KINKS, NARROW, RIGHT, RIGHT_OPTIONS, VACUOUS, WRONG, WRONG_OPTIONS

from tinyseg.gradcheck import GradientError

pytestmark = pytest.mark.corpus
PASSING = {"": RIGHT | RIGHT_OPTIONS, "kink": KINKS, "vacuous": VACUOUS, "float32": NARROW}


@pytest.mark.parametrize(
    ("example", "word"),
    [
        pytest.param(example, word, id=name)
        for word, examples in PASSING.items()
        for name, example in examples.items()
    ],
)
@numpy.errstate(all="ignore")
def test_what_is_right_passes(example, word):
    assert word in str(example())


@pytest.mark.parametrize("example", [pytest.param(f, id=name) for name, f in (WRONG | WRONG_OPTIONS).items()])
@numpy.errstate(all="ignore")
def test_what_is_wrong_is_caught(example):
    with pytest.raises((GradientError, ValueError)):
        example()
