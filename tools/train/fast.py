"""Faster equals of tools/reference/ops.py for training on a GPU. check() compares them with the plain ones."""

import torch
import triton
import triton.language as tl

import ops

BLOCK = 128


@triton.jit
def _sinkhorn_forward(logits, out, sums, T, eps, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    j = tl.arange(0, 4)
    at = t[:, None, None] * 16 + j[None, :, None] * 4 + j[None, None, :]
    mask = (t < T)[:, None, None]
    x = tl.load(logits + at, mask=mask, other=0.0)
    x = tl.exp(x - tl.max(x, axis=2)[:, :, None])
    x = x / tl.sum(x, axis=2)[:, :, None] + eps
    for step in range(STEPS):
        where = sums + (step * T + t[:, None]) * 4 + j[None, :]
        if step % 2 == 0:                                       # columns
            n = tl.sum(x, axis=1) + eps
            x = x / n[:, None, :]
        else:                                                   # rows
            n = tl.sum(x, axis=2) + eps
            x = x / n[:, :, None]
        tl.store(where, n, mask=(t < T)[:, None])
    tl.store(out + at, x, mask=mask)


@triton.jit
def _sinkhorn_backward(grad, out, sums, result, T, eps, STEPS: tl.constexpr, BLOCK: tl.constexpr):
    t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    j = tl.arange(0, 4)
    at = t[:, None, None] * 16 + j[None, :, None] * 4 + j[None, None, :]
    mask = (t < T)[:, None, None]
    g = tl.load(grad + at, mask=mask, other=0.0)
    y = tl.load(out + at, mask=mask, other=0.25)
    # y = x / n with n = sum(x) + eps: dx = (dy - sum(dy * y)) / n and x = y * n, from the last step to the first.
    for back in range(STEPS):
        step = STEPS - 1 - back
        n = tl.load(sums + (step * T + t[:, None]) * 4 + j[None, :], mask=(t < T)[:, None], other=1.0)
        if step % 2 == 0:
            g = (g - tl.sum(g * y, axis=1)[:, None, :]) / n[:, None, :]
            y = y * n[:, None, :]
        else:
            g = (g - tl.sum(g * y, axis=2)[:, :, None]) / n[:, :, None]
            y = y * n[:, :, None]
    p = y - eps
    g = p * (g - tl.sum(g * p, axis=2)[:, :, None])
    tl.store(result + at, g, mask=mask)


@torch.library.custom_op("tiny::sinkhorn", mutates_args=())
def _sinkhorn(logits: torch.Tensor, iterations: int, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    T, steps = logits.numel() // 16, 2 * iterations - 1
    logits = logits.contiguous()
    out = torch.empty_like(logits)
    sums = torch.empty(steps, T, 4, device=logits.device)
    _sinkhorn_forward[(triton.cdiv(T, BLOCK),)](logits, out, sums, T, eps, steps, BLOCK)
    return out, sums


@_sinkhorn.register_fake
def _(logits, iterations, eps):
    return torch.empty_like(logits, memory_format=torch.contiguous_format), logits.new_empty(2 * iterations - 1, logits.numel() // 16, 4)


@torch.library.custom_op("tiny::sinkhorn_gradient", mutates_args=())
def _sinkhorn_gradient(grad: torch.Tensor, out: torch.Tensor, sums: torch.Tensor, eps: float) -> torch.Tensor:
    grad = grad.contiguous()
    result = torch.empty_like(grad)
    steps, T, _ = sums.shape
    _sinkhorn_backward[(triton.cdiv(T, BLOCK),)](grad, out, sums, result, T, eps, steps, BLOCK)
    return result


@_sinkhorn_gradient.register_fake
def _(grad, out, sums, eps):
    return torch.empty_like(grad, memory_format=torch.contiguous_format)


def _keep(ctx, inputs, output):
    ctx.save_for_backward(*output)
    ctx.eps = inputs[2]


def _backward(ctx, grad, _):
    return _sinkhorn_gradient(grad, *ctx.saved_tensors, ctx.eps), None, None


_sinkhorn.register_autograd(_backward, setup_context=_keep)


def sinkhorn(logits, iterations, eps):
    """As ops.sinkhorn for M = 4, in one kernel each way. (..., 4, 4) float32"""
    return _sinkhorn(logits, iterations, eps)[0]


def routed_experts(x, ids, weights, w1, w3, w2, limit):
    """As ops.routed_experts, computing only the chosen experts: tokens are ordered by expert and each expert's
    group, padded to a multiple of 16 rows, is one part of a grouped matrix product. x must be bfloat16."""
    N, E = x.shape
    K, X = ids.shape[1], w1.shape[0]
    flat = ids.reshape(-1)
    one_hot = flat.unsqueeze(-1) == torch.arange(X, device=x.device)               # (N*K, X)
    before = one_hot.to(torch.int32).cumsum(0)
    end = ((before[-1] + 15) // 16 * 16).cumsum(0)                                 # of each group
    begin = torch.nn.functional.pad(end, (1, 0))[:-1]
    slot = begin[flat] + before.gather(1, flat.unsqueeze(-1)).squeeze(-1) - 1      # (N*K) distinct
    rows = x.new_zeros(N * K + 16 * X, E).index_copy(0, slot, x.repeat_interleave(K, 0))
    share = weights.new_zeros(N * K + 16 * X).index_copy(0, slot, weights.reshape(-1))
    offsets = end.to(torch.int32)

    def product(a, w):
        return torch._grouped_mm(a, w.to(a.dtype).transpose(-2, -1), offs=offsets)

    hidden = ops.swiglu(product(rows, w1), product(rows, w3), limit) * share.unsqueeze(-1).to(x.dtype)
    return product(hidden, w2)[slot].view(N, K, E).sum(1)


def _gradients(f, *tensors):
    leaves = [t.detach().clone().requires_grad_(t.is_floating_point()) for t in tensors]
    out = f(*leaves)
    pull = torch.linspace(-1, 1, out.numel(), device=out.device).view_as(out)
    (out.float() * pull).sum().backward()
    return [out.detach()] + [t.grad for t in leaves if t.grad is not None]


def _worst(got, want):
    return max(((g.float() - w.float()).norm() / w.float().norm()).item() for g, w in zip(got, want))


def check():
    """Relative error of values and gradients against the plain operations."""
    logits = torch.randn(1000, 4, 4, device="cuda") * 2
    N, E, X, width = 2000, 256, 12, 256
    x = torch.randn(N, E, device="cuda", dtype=torch.bfloat16)
    ids = torch.rand(N, X, device="cuda").argsort(-1)[:, :2]
    weights = torch.rand(N, 2, device="cuda")
    w1, w3, w2 = (torch.randn(X, width, E, device="cuda") * 0.06 for _ in range(3))
    w2 = w2.transpose(1, 2).contiguous()
    errors = {
        "sinkhorn": _worst(_gradients(lambda l: sinkhorn(l, 20, 1e-6), logits), _gradients(lambda l: ops.sinkhorn(l, 20, 1e-6), logits)),
        "experts": _worst(_gradients(lambda *a: routed_experts(a[0], ids, *a[1:], 10.0), x, weights, w1, w3, w2),
                          _gradients(lambda *a: ops.routed_experts(a[0], ids, *a[1:], 10.0), x, weights, w1, w3, w2)),
    }
    for name, error in errors.items():
        print("fast %-9s relative error %.1e" % (name, error))
    return errors["sinkhorn"] < 1e-2 and errors["experts"] < 3e-2
