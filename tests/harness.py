"""One harness for every op: derivatives both ways and twice, dtypes, and inputs left as they are."""

import numpy as np
from autograd import make_jvp, make_vjp

from tinyseg.gradcheck import check_gradients


def check_op(op, *arrays):
    """Hold an op of float64 arrays to everything that the house promises of an op.

    Reverse mode, forward mode and second derivatives are right, for all arguments at once and for each by
    itself, and nothing is written to; in float32 every result and derivative stays float32.
    """
    named = {f"x{i}": array for i, array in enumerate(arrays)}
    check_gradients(lambda **a: op(*a.values()), named, order=2, modes=("reverse", "forward"))

    singles = [array.astype(np.float32) for array in arrays]
    assert np.asarray(op(*singles)).dtype == np.float32
    for i, single in enumerate(singles):

        def by_one(x, i=i):
            return op(*singles[:i], x, *singles[i + 1 :])

        vjp, value = make_vjp(by_one)(single)
        assert vjp(np.ones_like(value)).dtype == np.float32
        assert np.asarray(make_jvp(by_one)(single)(single)[1]).dtype == np.float32
