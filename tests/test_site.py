"""The site's formulas are those of the docstrings: none is missing, none stands alone."""

import importlib
import inspect
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

SITE = Path(__file__).parent.parent / "docs/site"
FORMULAS: dict = {}
exec((SITE / "formulas.py").read_text(), FORMULAS)
FORMULAS = FORMULAS["FORMULAS"]
NO_FORMULA = {"layers.Calls"}  # an example


def public():
    """Every documented object of api.md, by its name."""
    module = ""
    for line in (SITE / "api.md").read_text().splitlines():
        word, _, name = line.strip().partition(":: ")
        if word == ".. currentmodule":
            module = name
        elif word.startswith(".. auto"):
            yield f"{module}.{name}".removeprefix("tinyseg."), getattr(importlib.import_module(module), name)


def has_formula(thing) -> bool:
    head = re.split(r"^(?:Args|Returns|Raises):", inspect.getdoc(thing), flags=re.M)[0]
    return any(line.startswith("    ") for line in head.splitlines())


def test_every_formula_of_a_docstring_has_one_to_be_rendered():
    shown = {name for name, thing in public() if has_formula(thing)} - NO_FORMULA
    assert shown == set(FORMULAS)


def test_every_public_name_has_a_place_on_the_page():
    import tinyseg
    from tinyseg import ops, views

    listed = {name for name, _ in public()}
    for package, prefix in ((ops, "ops."), (views, "views."), (tinyseg, "")):
        for name in package.__all__:
            if inspect.isfunction(getattr(package, name)):
                assert any(one.rpartition(".")[2] == name for one in listed), f"{prefix}{name}"


@pytest.mark.skipif(not find_spec("latex2mathml"), reason="latex2mathml is not installed")
@pytest.mark.parametrize("name", FORMULAS)
def test_a_formula_is_whole_mathml(name):
    from xml.etree import ElementTree

    from latex2mathml.converter import convert

    text = "".join(ElementTree.fromstring(convert(FORMULAS[name], display="block")).itertext())
    assert "\\" not in text and len(text) > 5
