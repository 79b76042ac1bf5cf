"""A twin computes fast what its definition says, and its gradient. All else it leaves to the definition."""

from __future__ import annotations

from autograd import make_jvp, make_vjp
from autograd.extend import defjvp_argnums, defvjp_argnums
from autograd.tracer import isbox


def define_gradients(
    op,
    definition,
    gradients,
    keep=lambda ans, *args: (None, *args),
    restore=lambda ans, *args: args,
):
    """Give a primitive its derivatives.

    Args:
        op: an autograd primitive.
        definition: the same function of the same arguments, made of ops that autograd can follow. Forward
            mode and second derivatives go through it.
        gradients: gradients(g, ans, *args, **kwargs) returns the cotangents of all array arguments, given
            the result's cotangent g. All of them at once, whichever are asked for: there is one way back.
        keep: keep(ans, *args) returns what the way back holds on to, (ans, *args) or None in their places; by
            default all but the result, which would keep an array alive that nobody needs.
        restore: restore(*kept) returns the arguments from that.
    """

    def vjp(argnums, ans, args, kwargs):
        boxed = any(map(isbox, args))
        kept = (ans, *args) if boxed else keep(ans, *args)
        del ans, args

        def backward(g):
            if boxed or isbox(g):  # it is differentiated once more
                return make_vjp(definition, argnums)(*restore(*kept), **kwargs)[0](g)
            cotangents = gradients(g, *kept, **kwargs)
            return [cotangents[argnum] for argnum in argnums]

        return backward

    def jvp(argnums, tangents, ans, args, kwargs):
        return make_jvp(definition, argnums)(*args, **kwargs)(tuple(tangents))[1]

    op.definition = definition  # for whoever wants to know what it computes
    defvjp_argnums(op, vjp)
    defjvp_argnums(op, jvp)
