"""Functions of the language in terms of the runtime: a template over the arguments, and whether the result is real.

``real`` functions take their arguments in the statement's floating type; the others keep the promoted type. ``fold``
combines any number of arguments two at a time. ``{T}`` is the element type.
"""

from __future__ import annotations

FUNCTIONS: dict[str, tuple[str, str]] = {
    "exp": ("tile::exp({0})", "real"),
    "exp2": ("tile::exp2({0})", "real"),
    "exp.nonpositive": ("tile::exp_nonpositive({0})", "real"),  # arguments proved <= 0 (simplify.py)
    "exp.difference": ("tile::exp_difference({0})", "real"),
    "exp2.nonpositive": ("tile::exp2_nonpositive({0})", "real"),
    "log": ("tile::log({0})", "real"),
    "sqrt": ("tile::sqrt({0})", "real"),
    "rsqrt": ("tile::rsqrt({0})", "real"),
    "tanh": ("tile::tanh({0})", "real"),
    "sigmoid": ("tile::sigmoid({0})", "real"),
    "silu": ("{0} * tile::sigmoid({0})", "real"),
    "gelu": ("{T}(0.5) * {0} * ({T}(1) + tile::erf({0} * {T}(0.70710678118654752440)))", "real"),
    "erf": ("tile::erf({0})", "real"),
    "softplus": ("tile::softplus({0})", "real"),
    "sin": ("tile::sin({0})", "real"),
    "cos": ("tile::cos({0})", "real"),
    "relu": ("tile::max({0}, {T}(0))", "same"),
    "abs": ("tile::abs({0})", "same"),
    "sign": ("tile::select({0} > {T}(0), {T}(1), tile::select({0} < {T}(0), {T}(-1), {T}(0)))", "same"),
    "floor": ("tile::floor({0})", "same"),
    "ceil": ("tile::ceil({0})", "same"),
    "round": ("tile::round({0})", "same"),
    "stop_gradient": ("{0}", "same"),
    "rounded": ("tile::rounded({0})", "same"),  # a product that no later addition contracts (simplify.py)
    "max": ("fold", "same"),
    "min": ("fold", "same"),
    "clamp": ("tile::min(tile::max({0}, {1}), {2})", "same"),
}
