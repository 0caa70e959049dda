"""The operations that training replaces by faster equals (tools/train/fast.py); these are the plain ones."""

import dataclasses
from typing import Callable

import torch
import torch.nn.functional as F


def sinkhorn(logits, iterations, eps):
    """Row softmax, then alternating column and row normalisation (model.md 4.2). (..., M, M) -> same"""
    C = logits.softmax(-1) + eps
    C = C / (C.sum(-2, keepdim=True) + eps)
    for _ in range(iterations - 1):
        C = C / (C.sum(-1, keepdim=True) + eps)
        C = C / (C.sum(-2, keepdim=True) + eps)
    return C


def swiglu(gate, up, limit):
    """silu(gate) * up with the clamps of model.md 10: the gate has no lower one."""
    return F.silu(gate.clamp(max=limit)) * up.clamp(-limit, limit)


def routed_experts(x, ids, weights, w1, w3, w2, limit):
    """Weighted sum of the chosen experts, one expert after the other (model.md 10).

    x (N, E), ids (N, K), weights (N, K), w1 and w3 (X, F, E), w2 (X, E, F) -> (N, E)
    """
    y = torch.zeros_like(x)
    for e in range(w1.shape[0]):
        token, slot = (ids == e).nonzero(as_tuple=True)
        rows = x[token]
        hidden = swiglu(F.linear(rows, w1[e].to(x.dtype)), F.linear(rows, w3[e].to(x.dtype)), limit)
        hidden = hidden * weights[token, slot].unsqueeze(-1).to(x.dtype)       # before W2, as the release does
        y = y.index_add(0, token, F.linear(hidden, w2[e].to(x.dtype)))
    return y


@dataclasses.dataclass
class Ops:
    sinkhorn: Callable = sinkhorn
    routed_experts: Callable = routed_experts
