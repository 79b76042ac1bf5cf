"""Do the tests notice a mistake? Make small ones in tinyseg, one at a time, and run the tests.

    python tests/mutate.py --only tinyseg/optim.py      # one file; a folder or none: all files in it
    python tests/mutate.py --every 3                    # of the mutants every third

By hand, since it takes an hour or two. A mutant lives in a copy of the tree. One that no test notices has
survived, and its line is printed. Either a test is missing, or it changes no result: then it belongs in
mutants_alike.txt, with the reason.
"""

import argparse
import ast
import gc
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from copy import deepcopy
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parent.parent
# For each file the tests that belong to it, those first that notice most in the least time.
TESTS = {
    "tinyseg/parameters.py": "test_parameters test_training",
    "tinyseg/optim.py": "test_optim test_training",
    "tinyseg/metrics.py": "test_metrics test_training",
    "tinyseg/training.py": "test_training app/test_segment",
    "tinyseg/layers.py": "test_layers test_layers_of_ones_own",
    "tinyseg/networks.py": "test_networks io/test_models",
    "tinyseg/gradcheck/check.py": "gradcheck/test_check test_gradcheck test_gradcheck_corpus",
    "tinyseg/gradcheck/compare.py": "gradcheck/test_compare test_gradcheck test_gradcheck_corpus",
    "tinyseg/gradcheck/layer.py": "gradcheck/test_layer_as_functions test_gradcheck test_gradcheck_corpus",
    "tinyseg/gradcheck/point.py": "gradcheck/test_point test_gradcheck test_gradcheck_corpus",
    "tinyseg/gradcheck/report.py": "gradcheck/test_report test_gradcheck test_gradcheck_corpus",
    "tinyseg/gradcheck/slope.py": "gradcheck/test_slope test_gradcheck test_gradcheck_corpus",
    "tinyseg/gradcheck/watch.py": "gradcheck/test_watch test_gradcheck test_gradcheck_corpus",
    "tinyseg/data/augment.py": "data/test_augment",
    "tinyseg/data/dataset.py": "data/test_dataset io/test_folder io/test_label_maps",
    "tinyseg/io/preprocessing.py": "io/test_preprocessing data/test_dataset io/test_folder app/test_segment",
    "tinyseg/io/models.py": "io/test_models test_layers_of_ones_own",
    "tinyseg/io/pixels.py": "io/test_pixels io/test_folder io/test_label_maps app/test_segment",
    "tinyseg/data/crop.py": "data/test_crop",
    "tinyseg/io/folder.py": "io/test_folder io/test_label_maps app/test_peoples_images",
    "tinyseg/io/masks.py": "io/test_masks io/test_label_maps app/test_peoples_images",
    "tinyseg/io/npz.py": "io/test_models io/test_checkpoint",
    "tinyseg/io/pairing.py": "io/test_pairing",
    "tinyseg/io/layout.py": "io/test_pairing",
    "tinyseg/io/listing.py": "io/test_pairing",
    "tinyseg/io/subjects.py": "io/test_pairing",
    "tinyseg/io/rle.py": "io/test_rle",
    "tinyseg/io/tiff.py": "io/test_tiff io/test_pixels",
    "tinyseg/io/medical.py": "io/test_medical",
    "tinyseg/ops/check.py": "ops/test_loss ops/test_contract",
    "tinyseg/ops/activation.py": "ops/test_activation ops/test_contract test_layers",
    "tinyseg/ops/combine.py": "ops/test_combine ops/test_contract test_layers",
    "tinyseg/ops/conv.py": "ops/test_conv ops/test_contract",
    "tinyseg/ops/loss.py": "ops/test_loss ops/test_contract test_training",
    "tinyseg/ops/norm.py": "ops/test_norm ops/test_contract test_layers",
    "tinyseg/fast/block.py": "fast/test_block ops/test_norm ops/test_contract test_layers",
    "tinyseg/fast/conv.py": "fast/test_bands ops/test_contract ops/test_conv",
    "tinyseg/fast/norm.py": "ops/test_norm ops/test_contract test_layers",
    "tinyseg/fast/twin.py": "fast/test_block ops/test_contract ops/test_norm ops/test_conv",
}
# Imported once, before the fork of each mutant.
PACKAGES = "pytest numpy.testing scipy.signal scipy.ndimage scipy.special autograd.scipy.signal torch"
PACKAGES += " imageio.v3 PIL.Image PIL.TiffImagePlugin PIL.PngImagePlugin PIL.JpegImagePlugin"


def pairs(text, both=True):
    """What takes whose place: {"min": "max", "max": "min"} of "min max", and back if both."""
    one_way = dict(pair.split() for pair in text.split(", "))
    return one_way | {two: one for one, two in one_way.items() if both}


OPERATORS = pairs(
    "Lt LtE, Gt GtE, Eq NotEq, Is IsNot, In NotIn, Add Sub, Mult Div, BitAnd BitOr, And Or, LShift RShift"
)
OPERATORS |= pairs("FloorDiv Add, Mod Add, Pow Mult, MatMult Mult, BitXor BitOr", both=False)
NAMES = pairs(
    "min max, minimum maximum, argmin argmax, any all, zeros ones, zeros_like ones_like, BATCH INSTANCE"
)
CONVERSIONS = {"astype", "copy", "lower"}, {"float", "int", "bool", "str", "tuple", "list", "dict", "sorted"}


def mutations(node):
    """Pairs of a node, this one or a child, and what stands in its place: another node or None for `pass`."""

    def changed(**fields):
        new = deepcopy(node)
        for name, value in fields.items():
            setattr(new, name, value)
        return node, new

    def other(op):
        return getattr(ast, OPERATORS[type(op).__name__])()

    match node:
        case ast.Constant(value=bool(value)):
            yield changed(value=not value)
        case ast.Constant(value=int() | float() as value):
            yield changed(value=10 * value if 0 < value < 0.01 else value + 1)
        case ast.Compare(ops=ops):
            for i, op in enumerate(ops):
                yield changed(ops=[*ops[:i], other(op), *ops[i + 1 :]])
        case ast.BinOp(op=op) | ast.AugAssign(op=op):
            yield changed(op=other(op))
        case ast.BoolOp(op=op, values=values):
            yield changed(op=other(op))
            for i in range(len(values)):
                yield changed(values=[*values[:i], *values[i + 1 :]])
        case ast.UnaryOp(op=ast.USub() | ast.Not(), operand=operand):
            yield node, operand
        case ast.Name(id=name) if name in NAMES:
            yield changed(id=NAMES[name])
        case ast.Attribute(attr=name) if name in NAMES:
            yield changed(attr=NAMES[name])
        case ast.Slice():
            for bound in (node.lower, node.upper):
                if bound is not None and not isinstance(bound, ast.Constant):
                    yield bound, ast.BinOp(bound, ast.Add(), ast.Constant(1))
        case ast.Call(func=function, args=args, keywords=keywords):
            for i in range(len(keywords)):
                yield changed(keywords=[*keywords[:i], *keywords[i + 1 :]])
            if isinstance(function, ast.Attribute) and function.attr in CONVERSIONS[0]:
                yield node, function.value
            if isinstance(function, ast.Name) and function.id in CONVERSIONS[1] and len(args) == 1:
                yield node, args[0]
    if isinstance(node, ast.If | ast.IfExp | ast.While):
        yield node.test, ast.UnaryOp(ast.Not(), node.test)
    if isinstance(node, ast.comprehension):
        yield from ((test, ast.UnaryOp(ast.Not(), test)) for test in node.ifs)
    if isinstance(node, ast.Raise | ast.AugAssign | ast.Break) or (
        isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    ):
        yield node, None


def parts(node):
    """A node and all below it that can change a result: no annotation, no message, no decorator."""
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns", "decorator_list", "exc"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST) and not isinstance(child, ast.JoinedStr):
                    yield from parts(child)


def mutants(source):
    """(line number, its text, the change, the mutant's source) for each mutation of a source.

    The change says "(2)" where the same change of the same text came up before.
    """
    content = source.encode()  # in which ast counts bytes
    starts = [0]
    for line in content.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    seen = Counter()
    for part in parts(ast.parse(source)):
        for node, new in mutations(part):
            first = starts[node.lineno - 1] + node.col_offset
            last = starts[node.end_lineno - 1] + node.end_col_offset
            text = "pass" if new is None else ast.unparse(new)
            after = f"({text})" if isinstance(new, ast.expr) and not isinstance(new, ast.Constant) else text
            change = f"{' '.join(content[first:last].decode().split())} -> {text}"
            line = source.splitlines()[node.lineno - 1].strip()
            seen[line, change] += 1
            change += f" ({seen[line, change]})" if seen[line, change] > 1 else ""
            yield node.lineno, line, change, (content[:first] + after.encode() + content[last:]).decode()


def passes(copy, tests, limit=600.0, keep_bytecode=False):
    """Whether all tests pass in a copy of the tree, in a child process, in time."""
    child = os.fork()
    if not child:
        os.setsid()
        os.chdir(copy)
        sys.dont_write_bytecode = not keep_bytecode  # a mutant's would pass for the next one's
        sys.path[:0] = [str(copy), str(copy / "tests")]
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1), os.dup2(nowhere, 2)
        main = sys.modules["pytest"].main
        found = any(main(["-xq", "-m", "not slow", "-p", "no:cacheprovider", test]) for test in tests)
        os._exit(int(found))
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def says(counts):
    return "{} mutants, {} survived; {} more change no result".format(*counts)


def alike():
    """{file, line, change: reason}: the mutants that are known to change no result."""
    known, file, line = {}, "", ""
    for text in (ROOT / "tests/mutants_alike.txt").read_text().splitlines():
        if text.startswith("        "):
            change, _, reason = text.strip().partition("  # ")
            known[file, line, change] = reason
        elif text.startswith("    "):
            line = text.strip()
        else:
            file = text.strip()
    return known


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", help="a file or folder, such as tinyseg/ops")
    parser.add_argument("--every", type=int, default=1, help="take every so many mutants")
    args = parser.parse_args()
    for package in PACKAGES.split():
        with suppress(ImportError):
            import_module(package)
    gc.freeze()  # so that no child goes through all that
    known, total = alike(), (0, 0, 0)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "tinyseg"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "runs", "__pycache__"))
        os.environ["PYTHONPATH"] = os.pathsep.join(map(str, (copy, copy / "tests")))
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # they want to be imported before all else
        for file, names in TESTS.items():
            if not file.startswith(args.only) or not (copy / file).exists():
                continue
            tests = [f"tests/{name}.py" for name in names.split() if (copy / f"tests/{name}.py").exists()]
            source, start = (copy / file).read_text(), time.monotonic()
            assert passes(copy, tests, keep_bytecode=True), f"{file}: its tests fail as it is"
            limit = 20 + 4 * (time.monotonic() - start)
            all_of_them = list(mutants(source))[:: args.every]
            chosen = [m for m in all_of_them if (file, *m[1:3]) not in known]
            survivors = 0
            for number, line, change, mutant in chosen:
                (copy / file).write_text(mutant)
                if passes(copy, tests, limit):
                    survivors += 1
                    print(f"{file}:{number}: {change}\n    {line}", flush=True)
            (copy / file).write_text(source)
            counts = len(chosen), survivors, len(all_of_them) - len(chosen)
            print(f"{file}: {says(counts)}", flush=True)
            total = [a + b for a, b in zip(total, counts)]
            for entry in set(known) - {(file, *m[1:3]) for m in mutants(source)}:
                if entry[0] == file:
                    print(f"mutants_alike.txt: no such mutant: {entry}")
    print(f"In all: {says(total)}")


if __name__ == "__main__":
    main()
