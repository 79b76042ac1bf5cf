"""One harness for every op: derivatives both ways and twice, dtypes, and inputs left as they are."""

import numpy as np
from autograd import make_jvp, make_vjp

from tinyseg.gradcheck import check_gradients


def check_op(op, *arrays):
    """Hold an op of float64 arrays to everything that the house promises of an op.

    Reverse mode, forward mode and second derivatives against central differences; forward mode against
    reverse mode, which is much sharper (<v, J u> = <J^T v, u>); in float32 every result and derivative stays
    float32; no argument is written to.
    """
    rng = np.random.default_rng(99)
    named = {f"x{i}": array for i, array in enumerate(arrays)}
    before = [array.copy() for array in arrays]
    check_gradients(lambda **a: op(*a.values()), named, order=2, modes=("reverse", "forward"))

    for i, array in enumerate(arrays):

        def by_one(x, i=i):
            return op(*arrays[:i], x, *arrays[i + 1 :])

        tangent = rng.normal(size=array.shape)
        vjp, value = make_vjp(by_one)(array)
        _, forward = make_jvp(by_one)(array)(tangent)
        assert np.shape(forward) == np.shape(value)
        cotangent = rng.normal(size=np.shape(value))
        np.testing.assert_allclose(
            np.sum(cotangent * forward), np.sum(vjp(cotangent) * tangent), rtol=1e-9, atol=1e-12
        )

    for array, kept in zip(arrays, before):
        np.testing.assert_array_equal(array, kept)

    singles = [array.astype(np.float32) for array in arrays]
    assert np.asarray(op(*singles)).dtype == np.float32
    for i, single in enumerate(singles):

        def by_one(x, i=i):
            return op(*singles[:i], x, *singles[i + 1 :])

        vjp, value = make_vjp(by_one)(single)
        assert vjp(np.ones_like(value)).dtype == np.float32
        assert np.asarray(make_jvp(by_one)(single)(single)[1]).dtype == np.float32
