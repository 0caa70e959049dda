"""The simulated storage roundings of model.md 9, exact in float32, with a straight-through gradient."""

import torch


def power_of_two(exponent):
    """2**exponent for an int32 tensor with values in -126..127, built from the float's bits (no libm)."""
    return ((exponent + 127) << 23).view(torch.float32)


def ceil_log2(v):
    """ceil(log2(v)) of positive normal float32 values, read off the bits: exponent + (mantissa != 0)."""
    bits = v.contiguous().view(torch.int32)
    return (bits >> 23) - 127 + ((bits & 0x7FFFFF) != 0).to(torch.int32)


def round_to_float_grid(x, mantissa_bits, min_exponent):
    """Round to the nearest float with that many mantissa bits, ties to even, subnormals below 2**min_exponent."""
    exponent = ((x.abs().contiguous().view(torch.int32) >> 23) - 127).clamp(min=min_exponent)
    step = power_of_two(exponent - mantissa_bits)
    return torch.round(x / step) * step


def fp8_round(x):
    """E4M3 with one power-of-two scale per block of 64 values of the last axis (model.md 9.1). (..., 64 n)"""
    blocks = x.unflatten(-1, (-1, 64))
    largest = blocks.abs().amax(-1, keepdim=True).clamp(min=1e-4)
    scale = power_of_two(ceil_log2(largest * (1.0 / 448.0)))
    rounded = round_to_float_grid((blocks / scale).clamp(-448.0, 448.0), 3, -6) * scale
    return rounded.flatten(-2)


def fp4_round(x):
    """E2M1 with one power-of-two scale per block of 32 values of the last axis (model.md 9.2). (..., 32 n)"""
    blocks = x.unflatten(-1, (-1, 32))
    largest = blocks.abs().amax(-1, keepdim=True).clamp(min=6.0 * 2.0 ** -126)
    scale = power_of_two(ceil_log2(largest * (1.0 / 6.0)))
    rounded = round_to_float_grid((blocks / scale).clamp(-6.0, 6.0), 1, 0) * scale
    return rounded.flatten(-2)


def hadamard(x):
    """Sylvester-ordered Hadamard transform over the last axis (a power of two), times width**-0.5."""
    width = x.shape[-1]
    stride = 1
    while stride < width:
        a, b = x.unflatten(-1, (-1, 2, stride)).unbind(-2)
        x = torch.stack((a + b, a - b), dim=-2).flatten(-3)
        stride *= 2
    return x * width ** -0.5


def straight_through(rounding, x):
    """The rounded value forwards, the identity backwards (model.md 16.3 b)."""
    return x + (rounding(x) - x).detach()
