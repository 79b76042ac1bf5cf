"""One harness for every op: derivatives both ways and twice, dtypes, and inputs left as they are."""

import numpy as np
from autograd import make_jvp, make_vjp

from tinyseg.gradcheck import check_gradients


def check_op(op, *arrays):
    """Hold an op of float64 arrays to everything that the house promises of an op.

    Reverse mode against central differences; forward mode against reverse mode (<v, J u> = <J^T v, u>);
    the second derivative against central differences of the first, in every pair of arguments; in float32
    every result and derivative stays float32; no argument is written to.
    """
    rng = np.random.default_rng(99)
    named = {f"x{i}": array for i, array in enumerate(arrays)}
    before = [array.copy() for array in arrays]
    output = np.asarray(op(*arrays))
    cotangent = rng.normal(size=output.shape)

    check_gradients(lambda **a: op(*a.values()), named)

    for i, array in enumerate(arrays):

        def by_one(x, i=i):
            return op(*arrays[:i], x, *arrays[i + 1 :])

        tangent = rng.normal(size=array.shape)
        _, forward = make_jvp(by_one)(array)(tangent)
        vjp, _ = make_vjp(by_one)(array)
        assert np.shape(forward) == output.shape
        np.testing.assert_allclose(
            np.sum(cotangent * forward), np.sum(vjp(cotangent) * tangent), rtol=1e-9, atol=1e-12
        )

        def gradient(i=i, **a):
            a = list(a.values())
            return make_vjp(lambda x: op(*a[:i], x, *a[i + 1 :]))(a[i])[0](cotangent)

        check_gradients(gradient, named, tolerance=1e-5)

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
