"""Series of known serial correlation."""

import math

import numpy as np


def autoregression(coefficient, *shape, seed):
    """AR(1) series along the last axis, of unit innovations, begun in their stationary distribution."""
    values = np.random.default_rng(seed).normal(size=shape)
    values[..., 0] /= math.sqrt(1 - coefficient**2)
    for t in range(1, shape[-1]):
        values[..., t] += coefficient * values[..., t - 1]
    return values
