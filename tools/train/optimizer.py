"""Muon for the matrices, Adam for everything else."""

import collections

import torch


def orthogonal(G):
    """Nearly the orthogonal factor of every matrix of a stack, by five Newton-Schulz steps in bfloat16. (n, r, c)"""
    X = G.bfloat16()
    tall = X.shape[-2] > X.shape[-1]
    if tall:
        X = X.transpose(-2, -1)
    X = X / (X.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        A = X @ X.transpose(-2, -1)
        X = 3.4445 * X + (-4.7750 * A + 2.0315 * (A @ A)) @ X
    return (X.transpose(-2, -1) if tall else X).float()


class Muon:
    """Momentum whose matrix is made orthogonal; matrices of one shape are updated as one stack."""

    def __init__(self, parameters, momentum=0.95, decay=0.05):
        self.momentum, self.decay = momentum, decay
        by_shape = collections.defaultdict(list)
        for p in parameters:
            by_shape[p.shape[-2:]].append(p)
        self.groups = list(by_shape.values())
        self.velocity = [torch.zeros_like(self._stack([p.data for p in group])) for group in self.groups]

    @staticmethod
    def _stack(tensors):
        return torch.cat([t.reshape(-1, *t.shape[-2:]) for t in tensors])

    @torch.no_grad()
    def step(self, lr):
        for group, velocity in zip(self.groups, self.velocity):
            grad = self._stack([p.grad for p in group])
            velocity.mul_(self.momentum).add_(grad)
            update = orthogonal(grad + self.momentum * velocity)
            rows, columns = update.shape[-2:]
            update *= max(1.0, rows / columns) ** 0.5
            sizes = [p.numel() // (rows * columns) for p in group]
            for p, u in zip(group, update.split(sizes)):
                p.mul_(1 - lr * self.decay).add_(u.view_as(p), alpha=-lr)


def build(model, device):
    """-> Muon, Adam. Small vectors and tables learn at their own rates, relative to the schedule."""
    matrices, groups = [], collections.defaultdict(list)
    for name, p in model.named_parameters():
        if name == "embed.weight":
            groups[0.008].append(p)
        elif name == "head.weight":
            groups[0.002].append(p)
        elif name.endswith(("fn", "gate.weight", "weights_proj.weight")) and "wgate" not in name:
            groups[0.0004].append(p)                     # wide sums of few outputs move fast
        elif p.ndim >= 2 and not name.endswith("ape"):
            matrices.append(p)
        else:
            groups[0.003].append(p)
    adam = torch.optim.AdamW([{"params": ps, "lr": lr, "base": lr} for lr, ps in groups.items()], betas=(0.9, 0.95), eps=1e-10,
                             weight_decay=0.0, **({"fused": True} if device == "cuda" else {}))
    return Muon(matrices), adam
