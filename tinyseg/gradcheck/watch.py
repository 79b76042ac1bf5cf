"""Call somebody's function with arrays that it cannot write to, and say in one sentence what it did wrong.

autograd keeps a tape while a function runs: a node for each operation. `Watched` puts its own kind of node on
that tape. It looks as the tape is written (no result may be changed later, no argument may be lost) and as
it is read backwards, or forward mode goes along (no derivative may write into what it was given).
"""

from __future__ import annotations

import inspect
import math
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import contextmanager, suppress
from copy import copy

import numpy as np
from autograd.core import JVPNode, SparseObject, VJPNode, VSpace, backward_pass, sparse_add
from autograd.tracer import getval, isbox, notrace_primitives, trace
from autograd.util import func

from tinyseg.errors import listed
from tinyseg.gradcheck.report import GradientError

ACCUMULATORS = (func(VSpace.add), func(VSpace.mut_add), sparse_add)  # autograd writes into what these return
ULP = sys.float_info.epsilon
DENSE = float | np.ndarray  # autograd has sparse gradients too, and tuples of arrays
FLOATS = (np.float32, np.float16, np.complex64)  # narrower than the check's float64


def is_narrow(values):
    """Whether all values look as if they had been float32."""
    if values.dtype != np.float64:
        return False
    values = values[np.isfinite(values) & (values != 0)]
    with np.errstate(all="ignore"):
        single = values.astype(np.float32)
    short = (single.view(np.uint32) & 0xF) == 0  # few digits: whole numbers and the like are no sign
    return np.all(single == values) and 2 * np.sum(short) < values.size


def is_own(primitive):
    """Whether an operation is the user's: those of numpy and autograd compute float64 with float64."""
    function = getattr(primitive, "fun", primitive)  # what a primitive wraps
    module = getattr(function, "__module__", None) or ""  # a ufunc need not have one
    return not isinstance(function, np.ufunc) and module.partition(".")[0] not in ("numpy", "autograd")


def flatten(value, name: str = "") -> dict:
    """The leaves of nested dicts, lists and tuples by dotted name; all that is no container is a leaf.

    Raises:
        ValueError: two leaves have one name.
    """
    if isinstance(value, list | tuple):
        value = dict(enumerate(value))
    if not isinstance(value, Mapping):
        return {name: value}
    leaves: dict = {}
    for key, part in value.items():
        for leaf, array in flatten(part, f"{name}.{key}" if name else f"{key}").items():
            if leaf in leaves:
                raise ValueError(f"two arrays are called {leaf}: expected names that differ, also with dots")
            leaves[leaf] = array
    return leaves


def rebuilt(value, leaves: Mapping, name: str = ""):
    """`value` with other arrays in the places that `flatten` named; a place without one keeps its own."""
    if isinstance(value, list | tuple):
        parts = [rebuilt(part, leaves, f"{name}.{i}" if name else f"{i}") for i, part in enumerate(value)]
        if isinstance(value, list):
            return parts
        return value._make(parts) if hasattr(value, "_make") else tuple(parts)
    if not isinstance(value, Mapping):
        return leaves.get(name, value)
    new = copy(value) if isinstance(value, dict) else {}  # a defaultdict stays one
    if getattr(value, "__dict__", None) is value:  # its items are its attributes
        new.__dict__ = new
    new.update({k: rebuilt(part, leaves, f"{name}.{k}" if name else f"{k}") for k, part in value.items()})
    return new


def frozen(array):
    """A copy in float64 that nobody can write to."""
    array = np.array(array, np.float64)
    array.flags.writeable = False
    return array


class Watched:
    """A function of one dict of arrays, called and differentiated under supervision.

    Args:
        function: takes a dict of arrays by name, returns an array.
        name: what to call the function in a message.
        arrays: the arguments; they become float64 and read-only.
    """

    def __init__(self, function: Callable, name: str, arrays: Mapping):
        self.function, self.name = function, name
        self.arrays = {key: frozen(array) for key, array in arrays.items()}
        self.narrow = self.narrow_back = ""  # the operation that returned float32, if one did
        self.hidden: list[str] | None = None  # operations that look as if they computed with float32 inside
        self.largest_float32 = 0.0  # of all numbers inside: its rounding is what all later ones see

    def __call__(self, arrays=None):
        """The function's values, float64, plainly computed."""
        try:
            arrays = self.arrays if arrays is None else {key: frozen(a) for key, a in arrays.items()}
            values = self.function(dict(arrays))
        except ValueError as error:
            raise self._named(error) from error
        return self._checked(values)

    def stepped(self, arrays):
        """Its values with other arrays, NaN where it has none."""
        try:
            return self(arrays)
        except GradientError:
            raise
        except Exception:  # outside the function's domain
            return np.nan

    def gradients(self, names, arrays=None, shake=None) -> Callable:
        """What gives the gradients of these arrays, a dict, for a cotangent: the tape, and the way back.

        With `shake`, a random generator, all that flows back is off by a few units in the last place.
        """
        arrays = self.arrays if arrays is None else {key: frozen(array) for key, array in arrays.items()}
        _, end, tape = self._traced(_Backward, names, arrays)
        tape.shake = shake

        def backward(cotangent):
            if end is None:
                return {name: np.zeros(arrays[name].shape) for name in names}
            return dict(zip(names, self._way_back(tape, cotangent, end)))

        return backward

    def rounding(self, names, cotangent, elsewhere=None) -> float:
        """How far off cotangent . values is, if each result on the way is off by 1 of itself at random.

        A result that is off by so much moves the end by its cotangent times that; the squares add up. What is
        the same `elsewhere`, for other arrays, is rounded there as it is here, and does not count.
        """
        _, end, tape = self._traced(_Backward, names, self.arrays)
        if elsewhere is not None:
            with suppress(GradientError):  # it may have no values there
                others = self._traced(_Backward, names, {key: frozen(a) for key, a in elsewhere.items()})[2]
                tape.others = others.values
        if end is not None:
            self._way_back(tape, cotangent, end)
        return math.sqrt(tape.squares)

    def hidden_float32(self, names, arrays) -> str:
        """The operation whose values look as if they had been float32 before, if one has such."""
        self.hidden = []
        self._traced(_Backward, names, {key: frozen(array) for key, array in arrays.items()})
        found, self.hidden = self.hidden, None
        return found[0] if found else ""

    def _way_back(self, tape, cotangent, end):
        try:
            with tape:
                return backward_pass(frozen(cotangent), end)
        except GradientError:
            raise
        except Exception as error:
            raise GradientError(f"{self.name}: the way back fails: {_said(error)}") from error

    def change(self, tangents: Mapping):
        """Forward mode: how the values change if the arrays change by these tangents."""
        values, end, _ = self._traced(_Forward, tangents, self.arrays, tuple(tangents.values()))
        return np.zeros(values.shape) if end is None else end.g

    def _traced(self, node, names, arrays, *root):
        """Run the function on boxes: its values, the tape's end, and the tape."""
        tape = _Tape(self)

        def function(values):
            return self.function({**arrays, **{name: values[i] for i, name in enumerate(names)}})

        try:
            with tape, warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Output seems independent of input")  # so it is 0: checked
                values, end = trace(
                    node.new_root(tape, *root), function, tuple(arrays[name] for name in names)
                )
        except GradientError:
            raise
        except NotImplementedError as error:
            said = str(error).rstrip(".")
            raise GradientError(
                f"{self.name}: no derivative is defined: {said}. Write it, by defvjp or for forward mode by "
                "defjvp; an array that is not to be differentiated belongs into the function"
            ) from error
        except Exception as error:  # it ran on plain arrays before
            if "read-only" in str(error):
                raise self._named(error) from error
            raise GradientError(
                f"{self.name}: it runs on arrays, but autograd cannot follow it: {_said(error)}, at "
                f"line {_line(error)}. Use autograd.numpy in place of numpy, and write into no array"
            ) from error
        return self._checked(getval(values)), end, tape

    def _checked(self, values):
        if isinstance(values, tuple | list | dict | None):
            raise ValueError(
                f"{self.name}: the function must return one float64 array, not {type(values).__name__}"
            )
        values = np.asarray(values)
        if values.dtype == object:
            raise GradientError(
                f"{self.name}: it returns an array of objects, through which autograd finds the gradient 0: "
                "a function of numpy was called (such as where, pad, concatenate, stack or einsum). "
                "Call autograd.numpy's"
            )
        if values.dtype != np.float64:
            hint = "; take np.real or np.abs of it" if values.dtype.kind == "c" else ""
            if values.dtype in FLOATS:
                hint = f"; the check computes in float64, since {values.dtype} would be noise"
            raise ValueError(
                f"{self.name}: the function must return one float64 array, not {values.dtype}{hint}"
            )
        return values

    def _named(self, error):
        """A better error for those that come from our rules, else the same."""
        if "read-only" in str(error):
            return GradientError(
                f"{self.name}: it writes into an array that it was given, at line {_line(error)}: "
                "whoever gave it still needs it. Write x = x + b for x += b, np.where for x[x < 0] = 0"
            )
        if "float32" in str(error) and "float64" in str(error):
            return ValueError(
                f"{self.name}: {error}. The check computes in float64: give a constant inside the function "
                "the argument's dtype, constant.astype(x.dtype)"
            )
        return error


class _Tape:
    """What one run of a function leaves behind. It is read-only while the function or the way back runs."""

    def __init__(self, watched: Watched):
        self.watched, self.shake, self.squares = watched, None, 0.0
        self.arrays: list[np.ndarray] = []
        self.values: list = []  # of all operations, in their order
        self.others: list = []  # those of another run

    def __enter__(self):
        for array in self.arrays:
            array.flags.writeable = False
        return self

    def __exit__(self, *error):
        for array in 2 * self.arrays:  # twice: a view can be written to only once its base can
            with suppress(ValueError):
                array.flags.writeable = True

    def freeze(self, value):
        if isinstance(value, np.ndarray) and value.flags.writeable:
            value.flags.writeable = False
            self.arrays.append(value)

    def look(self, value, fun, given, kwargs):
        """At an operation, what it is given of the tape and what it returns, as it is written down."""
        for key, argument in kwargs.items():
            if isbox(argument):
                raise GradientError(
                    f"{self.watched.name}: `{fun.__name__}` gets {key} by keyword, where autograd does not "
                    "follow it; pass it by position"
                )
        value = getval(value)
        if getattr(value, "dtype", None) in FLOATS:
            self.watched.narrow = self.watched.narrow or f"`{fun.__name__}` returns {value.dtype}"
            finite = np.abs(value[np.isfinite(value)])
            self.watched.largest_float32 = max(self.watched.largest_float32, float(np.max(finite, initial=0)))
        elif self.watched.hidden is not None and self.narrows(value, fun, given):
            self.watched.hidden.append(f"`{fun.__name__}` returns what float32 can hold")
        if fun not in ACCUMULATORS:
            self.freeze(value)

    def narrows(self, value, fun, given):
        """Whether it is this operation whose values look like float32.

        They may do so in float64 too: the difference of two numbers that are nearly equal has few digits.
        """
        made = isinstance(value, np.ndarray) and is_own(fun) and is_narrow(value)
        return made and not any(is_narrow(np.asarray(one)) for one in given)

    def differs(self, number: int):
        """Whether a value is another one in the other run, entry by entry."""
        if number >= len(self.others) or np.shape(self.others[number]) != np.shape(self.values[number]):
            return True
        return self.values[number] != self.others[number]

    @contextmanager
    def making(self, what, called):
        """Say which derivative it is that fails as the tape is written, and how autograd calls it."""
        try:
            yield
        except (GradientError, NotImplementedError):
            raise
        except Exception as error:
            if "read-only" in str(error):
                raise
            raise GradientError(
                f"{self.watched.name}: the {what} fails: {_said(error)}; it is called as {called}"
            ) from error

    def guard(self, vjp, value, fun, shapes):
        """The same vjp, which cannot write into its cotangent, and has to return what fits."""
        number = len(self.values)
        self.values.append(value)
        what = f"{self.watched.name}: the vjp of `{fun.__name__}`"

        def guarded(g):
            self.freeze(g)
            if isinstance(value, DENSE):
                moves = np.abs(g * value)
                self.squares += np.sum(moves**2, where=np.isfinite(moves) & self.differs(number))
            try:
                found = list(vjp(g))
            except Exception as error:
                if "read-only" in str(error):
                    raise GradientError(
                        f"{what} writes into what it was given, at line {_line(error)}: others still need "
                        "it. Return a new array, as g * mask for g *= mask"
                    ) from error
                raise GradientError(f"{what} fails: {_said(error)}") from error
            if len(found) != len(shapes):
                count = f"{len(shapes)} gradient{'s' if len(shapes) > 1 else ''}"
                raise GradientError(f"{what}: expected {count}, got {len(found)}")
            for shape, one in zip(shapes, found):
                fits = shape is None or isinstance(one, SparseObject) or _shape(one) == shape
                if one is None or not fits:
                    raise GradientError(f"{what}: expected a gradient of shape {shape}, got {_shape(one)}")
                if getattr(one, "dtype", None) in FLOATS:
                    self.watched.narrow_back = f"the vjp of `{fun.__name__}` returns {one.dtype}"
            if self.shake is None:
                return found
            return [
                one * (1 + 4 * ULP * self.shake.uniform(-1, 1, np.shape(one)))
                if isinstance(one, DENSE)
                else one
                for one in found
            ]

        return guarded


class _Backward(VJPNode):
    """A node of autograd's that its tape looks at."""

    __slots__ = ["tape"]

    def initialize_root(self, tape):
        self.tape = tape
        super().initialize_root()

    def __init__(self, value, fun, args, kwargs, parent_argnums, parents):
        self.tape = parents[0].tape
        given = [getval(args[i]) for i in parent_argnums]
        self.tape.look(value, fun, given, kwargs)
        with self.tape.making(f"vjp of `{fun.__name__}`", "vjp(ans, *args), and what it returns as (g)"):
            super().__init__(value, fun, args, kwargs, parent_argnums, parents)
        shapes = [np.shape(a) if isinstance(a, DENSE) else None for a in given]
        self.vjp = self.tape.guard(self.vjp, getval(value), fun, shapes)


class _Forward(JVPNode):
    """The same in forward mode."""

    __slots__ = ["tape"]

    def initialize_root(self, tape, tangent):
        self.tape = tape
        super().initialize_root(tangent)

    def __init__(self, value, fun, args, kwargs, parent_argnums, parents):
        self.tape = parents[0].tape
        self.tape.look(value, fun, [args[i] for i in parent_argnums], kwargs)
        for parent in parents:
            self.tape.freeze(parent.g)  # its tangent, which others need
        what = f"jvp of `{fun.__name__}`"
        with self.tape.making(what, "jvp(g, ans, *args)"):
            super().__init__(value, fun, args, kwargs, parent_argnums, parents)
        if isinstance(value, DENSE) and _shape(self.g) != np.shape(value):
            raise GradientError(
                f"{self.tape.watched.name}: the {what}: expected a tangent of shape {np.shape(value)}, "
                f"got {_shape(self.g)}"
            )


for ours, autograds in ((_Backward, VJPNode), (_Forward, JVPNode)):
    notrace_primitives[ours] = notrace_primitives[autograds]  # comparisons and the like leave no node


def by_name(function: Callable, arrays: Mapping) -> Callable:
    """The function of these arrays as one of a dict of them, which it takes by position wherever it can.

    autograd follows no primitive's keywords. A function whose arguments have other names gets the arrays in
    their order.

    Raises:
        ValueError: the function does not take these arrays.
    """
    try:
        signature = inspect.signature(getattr(function, "fun", function))  # `fun` is what a primitive wraps
    except (TypeError, ValueError):  # a builtin does not say
        return lambda values: function(*values.values())
    either, only = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY
    named = signature.replace(
        parameters=[p.replace(kind=either) if p.kind is only else p for p in signature.parameters.values()]
    )
    try:
        named.bind(**arrays)
    except TypeError as error:
        try:
            if set(arrays) & set(signature.parameters):
                raise error
            signature.bind(*arrays.values())
        except TypeError:
            names = list(signature.parameters)
            hint = f"; a function of one dict gets {{{names[0]!r}: {{...}}}}" if len(names) == 1 else ""
            raise ValueError(
                f"check_gradients: the function takes {listed(names)}; "
                f"the arrays are {listed(arrays)}: {error}{hint}"
            ) from None
        return lambda values: function(*values.values())

    def call(values):
        bound = named.bind(**values)
        return function(*bound.args, **bound.kwargs)

    return call


def _said(error: Exception) -> str:
    """An error as one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200].rstrip('.')}" if text else type(error).__name__


def _shape(value):
    """The shape of an array or number; of anything else, what it is."""
    if isinstance(value, np.ndarray | np.number | float | int):
        return np.shape(value)
    return "None" if value is None else f"a {type(value).__name__}"


def kind(value) -> str:
    """Of numbers and arrays the dtype, of anything else its type."""
    dtype = np.asarray(value).dtype
    return f"{dtype}" if dtype.kind != "O" or isinstance(value, np.ndarray) else type(value).__name__


def _line(error: BaseException) -> str:
    """Where an error came from: the last line of the user's own code."""
    own = [
        frame
        for frame in inspect.getinnerframes(error.__traceback__)  # type: ignore[arg-type]
        if not frame.frame.f_globals.get("__name__", "").startswith(
            ("tinyseg.gradcheck", "autograd.", "numpy.")
        )
    ]
    return f"{own[-1].lineno}, `{(own[-1].code_context or ['?'])[0].strip()}`" if own else "?"
