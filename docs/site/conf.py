"""How Sphinx makes the site of the pages that build.py has laid out."""

import inspect
import re

from docutils import nodes
from formulas import FORMULAS
from latex2mathml.converter import convert

project, author, copyright = "tinyseg", "The tinyseg maintainers", "The tinyseg maintainers, MIT licence"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme, html_title = "furo", "tinyseg"
html_static_path, html_css_files = ["style.css"], ["style.css"]
html_copy_source = html_show_sphinx = False
default_role = "code"  # what stands in single backticks in a docstring
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
nb_execution_mode, nb_execution_timeout, nb_execution_raise_on_error = "force", 300, True
nb_merge_streams = True  # what several lines print is one output
autodoc_member_order, autodoc_typehints, autodoc_preserve_defaults = "bysource", "none", True
add_module_names = False


def formula_first(app, what, name, obj, options, lines):
    """An indented block before a docstring's sections becomes its formula, or else stays as plain text.

    Outside of code, signs that reStructuredText would take for markup are escaped.
    """
    sections = [i for i, line in enumerate(lines) if re.fullmatch(r"(Args|Returns|Raises|Yields):", line)]
    end, new, i = min(sections, default=len(lines)), [], 0
    while i < len(lines):
        if i < end and lines[i].startswith("    ") and i and not lines[i - 1]:
            block = []
            while i < end and (lines[i].startswith("    ") or not lines[i]):
                block.append(lines[i])
                i += 1
            short = name.removeprefix("tinyseg.")
            if short in FORMULAS:
                new += [".. math::", "", f"    {FORMULAS[short]}", ""]
            else:
                new += [".. code-block:: text", "", *block, ""]
            continue
        parts = re.split(r"(`[^`]*`)", lines[i])
        new.append("".join(p if p.startswith("`") else re.sub(r"([*|]|_\b)", r"\\\1", p) for p in parts))
        i += 1
    lines[:] = new


def own_arguments(app, what, name, obj, options, signature, result):
    """autograd's primitives take (*args, **kwargs): show the arguments of the function within."""
    if not hasattr(obj, "fun"):
        return None
    own = inspect.signature(obj.fun)
    bare = [argument.replace(annotation=argument.empty) for argument in own.parameters.values()]
    return str(inspect.Signature(bare)), result


def as_mathml(self, node):
    """A formula as MathML, which browsers draw by themselves."""
    block = isinstance(node, nodes.math_block)
    formula = convert(node.astext(), display="block" if block else "inline")
    self.body.append(f'<div class="formula">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def setup(app):
    app.connect("autodoc-process-signature", own_arguments)
    app.connect("autodoc-process-docstring", formula_first, priority=100)  # before napoleon
    app.add_html_math_renderer("mathml", (as_mathml, None), (as_mathml, None))


html_math_renderer = "mathml"
