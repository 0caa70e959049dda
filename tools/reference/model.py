"""DeepSeek V4 Flash in PyTorch: the equations of model.md 4-12, whole sequences at a time.

Parameter names are those of the released checkpoint. Shapes in comments use the letters of model.md; B is the
number of rows of the batch and T their length. `dtype` is what the projections compute in; norms, rotations,
hyper-connections, router and softmax are float32 whatever it is.

A batch row may hold several documents: `doc_start` gives each token the position where its document begins, and no
token sees anything before that. This equals separate sequences exactly as long as a document starts at a multiple
of 4 and, if it is 128 tokens or longer, at a multiple of 128, because all rotations act on differences of positions.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F

from ops import Ops, swiglu
from rounding import fp4_round, fp8_round, hadamard, straight_through


def rms(x, eps):
    """x divided by its root mean square over the last axis, in float32 (model.md 4.1)."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


def rank_descending(scores):
    """Place of each score in its row, 0 for the largest; equal scores keep the order of their index. (..., n)"""
    mine, other = scores.unsqueeze(-1), scores.unsqueeze(-2)
    n = torch.arange(scores.shape[-1], device=scores.device)
    return ((other > mine) | ((other == mine) & (n < n.unsqueeze(-1)))).sum(-1)


class Norm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return rms(x, self.eps) * self.weight


class Linear(nn.Module):
    """y = x W^T computed in x's own dtype; the parameter stays in float32."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * inputs ** -0.5)

    def forward(self, x):
        return F.linear(x, self.weight.to(x.dtype))


def rotate_tail(x, angle):
    """Rotate the last 2*angle.shape[-1] dims of x in interleaved pairs (model.md 5). x (..., D), angle (..., R/2)"""
    R = 2 * angle.shape[-1]
    a, b = x[..., -R:].unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = angle.cos(), angle.sin()
    tail = torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2)
    return torch.cat((x[..., :-R], tail), -1)


class HyperConnection(nn.Module):
    """Collapses the M streams before a block and spreads the block's output over them (model.md 4.2)."""

    def __init__(self, config, ops):
        super().__init__()
        self.c, self.ops = config, ops
        M, E = config.hc_mult, config.hidden_size
        self.fn = nn.Parameter(torch.randn(M * (2 + M), M * E) * 0.01)
        # A heavy diagonal starts the combination near plain residual streams (model.md 16.3 f).
        self.base = nn.Parameter(torch.cat((torch.zeros(2 * M), 3.0 * torch.eye(M).flatten())))
        self.scale = nn.Parameter(torch.ones(3))

    def collapse(self, S):                                         # (B, T, M, E) -> (B, T, E), post, comb
        c, M = self.c, self.c.hc_mult
        mix = F.linear(rms(S.flatten(-2), c.rms_norm_eps), self.fn)
        pre, post, comb = mix.split((M, M, M * M), -1)
        base_pre, base_post, base_comb = self.base.split((M, M, M * M))
        pre = torch.sigmoid(pre * self.scale[0] + base_pre) + c.hc_eps
        post = 2 * torch.sigmoid(post * self.scale[1] + base_post)
        logits = (comb * self.scale[2] + base_comb).unflatten(-1, (M, M))
        comb = self.ops.sinkhorn(logits, c.hc_sinkhorn_iters, c.hc_eps)
        return (pre.unsqueeze(-1) * S).sum(-2), post, comb

    @staticmethod
    def spread(y, S, post, comb):                                  # comb is applied transposed
        mixed = sum(comb[..., j, :].unsqueeze(-1) * S[..., j, :].unsqueeze(-2) for j in range(S.shape[-2]))
        return post.unsqueeze(-1) * y.float().unsqueeze(-2) + mixed


class HyperHead(nn.Module):
    """Collapses the streams once more before the final norm (model.md 4.2, hc_head)."""

    def __init__(self, config):
        super().__init__()
        self.c = config
        M, E = config.hc_mult, config.hidden_size
        self.fn = nn.Parameter(torch.randn(M, M * E) * 0.01)
        self.base = nn.Parameter(torch.zeros(M))
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, S):                                          # (B, T, M, E) -> (B, T, E)
        mix = F.linear(rms(S.flatten(-2), self.c.rms_norm_eps), self.fn)
        pre = torch.sigmoid(mix * self.scale + self.base) + self.c.hc_eps
        return (pre.unsqueeze(-1) * S).sum(-2)


class Compressor(nn.Module):
    """Pools windows of `ratio` tokens into one row of width d (model.md 7); CSA windows overlap by one."""

    def __init__(self, config, ratio, width):
        super().__init__()
        self.ratio, self.width = ratio, width
        halves = 2 if ratio == 4 else 1
        self.wkv = Linear(config.hidden_size, halves * width)
        self.wgate = Linear(config.hidden_size, halves * width)
        self.ape = nn.Parameter(torch.zeros(ratio, halves * width))
        self.norm = Norm(width, config.rms_norm_eps)

    def forward(self, x, angle, doc_start):
        """x (B, T, E), angle (T, R/2) -> rotated, not yet rounded rows (B, T // ratio, width)"""
        r, d = self.ratio, self.width
        rows = x.shape[1] // r
        x = x[:, :rows * r]
        k = self.wkv(x).float().unflatten(1, (rows, r))                              # (B, rows, r, c*d)
        g = self.wgate(x).float().unflatten(1, (rows, r)) + self.ape
        if r == 4:
            # The window before must exist and belong to the same document, else its weight is exactly 0.
            first = torch.arange(rows, device=x.device) * r
            continues = (doc_start[:, :rows * r:r] < first).view(-1, rows, 1, 1)
            before_k = F.pad(k[:, :-1, :, :d], (0, 0, 0, 0, 1, 0))
            before_g = F.pad(g[:, :-1, :, :d], (0, 0, 0, 0, 1, 0)).masked_fill(~continues, float("-inf"))
            k = torch.cat((before_k, k[..., d:]), 2)
            g = torch.cat((before_g, g[..., d:]), 2)
        pooled = (g.softmax(2) * k).sum(2)
        return rotate_tail(self.norm(pooled), angle[:rows * r:r])


class Indexer(nn.Module):
    """Scores the compressed rows of a CSA layer for every query (model.md 8)."""

    def __init__(self, config):
        super().__init__()
        self.c = config
        IH, ID = config.index_n_heads, config.index_head_dim
        self.wq_b = Linear(config.q_lora_rank, IH * ID)
        self.weights_proj = Linear(config.hidden_size, IH)
        self.compressor = Compressor(config, 4, ID)
        self.register_buffer("hadamard", hadamard(torch.eye(ID)), persistent=False)

    def forward(self, x, qr, angle, doc_start, rounding):          # -> (B, T, C) scores, unmasked
        IH, ID = self.c.index_n_heads, self.c.index_head_dim
        B, T = x.shape[:2]
        q = rotate_tail(self.wq_b(qr).float().view(B, T, IH, ID), angle[:, None])
        K = self.compressor(x, angle, doc_start)
        if rounding:
            q = straight_through(fp4_round, q @ self.hadamard)
            K = straight_through(fp4_round, K @ self.hadamard)
        w = self.weights_proj(x).float() * (ID * IH) ** -0.5                       # (B, T, IH)
        dots = (q.flatten(1, 2) @ K.transpose(1, 2)).view(B, T, IH, -1)            # (B, T, IH, C)
        return (w.unsqueeze(-1) * dots.relu()).sum(2)


class Attention(nn.Module):
    """One KV head of which key and value are the same row; window, compressed rows and a sink (model.md 6)."""

    def __init__(self, config, ratio):
        super().__init__()
        self.c, self.ratio = config, ratio
        E, H, D, Q = config.hidden_size, config.num_attention_heads, config.head_dim, config.q_lora_rank
        G, O = config.o_groups, config.o_lora_rank
        self.wq_a = Linear(E, Q)
        self.q_norm = Norm(Q, config.rms_norm_eps)
        self.wq_b = Linear(Q, H * D)
        self.wkv = Linear(E, D)
        self.kv_norm = Norm(D, config.rms_norm_eps)
        self.attn_sink = nn.Parameter(torch.zeros(H))
        self.wo_a = Linear(H * D // G, G * O)
        self.wo_b = Linear(G * O, E)
        if ratio:
            self.compressor = Compressor(config, ratio, D)
        if ratio == 4:
            self.indexer = Indexer(config)
        f = torch.tensor(config.frequencies(compressed=ratio != 0), dtype=torch.float64).float()
        self.register_buffer("frequencies", f, persistent=False)

    def round_kv(self, rows, rounding):
        """FP8 on everything but the rotated tail (model.md 9.1)."""
        if not rounding:
            return rows
        N = self.c.head_dim - self.c.qk_rope_head_dim
        return torch.cat((straight_through(fp8_round, rows[..., :N]), rows[..., N:]), -1)

    def forward(self, x, doc_start, top_k, rounding):
        """x (B, T, E), T a multiple of W -> y (B, T, E), indexer loss (scalar)"""
        c, r = self.c, self.ratio
        H, D, W = c.num_attention_heads, c.head_dim, c.sliding_window
        B, T = x.shape[:2]
        position = torch.arange(T, device=x.device)
        angle = position.float()[:, None] * self.frequencies                       # (T, R/2)

        qr = self.q_norm(self.wq_a(x)).to(x.dtype)
        q = rms(self.wq_b(qr).view(B, T, H, D), c.rms_norm_eps)
        q = (rotate_tail(q, angle[:, None]) * D ** -0.5).to(x.dtype)
        kv = rotate_tail(self.kv_norm(self.wkv(x)), angle)
        kv = self.round_kv(kv, rounding).to(x.dtype)                               # (B, T, D)

        # A block of W queries needs the raw rows of its own block and of the block before, and nothing older.
        blocks = T // W
        own = kv.view(B, blocks, W, D)
        keys = torch.cat((F.pad(own[:, :-1], (0, 0, 0, 0, 1, 0)), own), 2)         # (B, blocks, 2W, D)
        query_at = position.view(blocks, W, 1)
        key_at = position.view(blocks, W)[:, :1, None] - W + torch.arange(2 * W, device=x.device)
        begin = doc_start.view(B, blocks, W, 1)
        visible = (key_at <= query_at) & (key_at > query_at - W) & (key_at >= begin)   # (B, blocks, W, 2W)

        rows_visible = None
        if r:
            rows = self.round_kv(self.compressor(x, angle, doc_start), rounding).to(x.dtype)
            C = rows.shape[1]                                                      # (B, C, D)
            row_at = torch.arange(C, device=x.device) * r
            rows_visible = (row_at + r <= position[:, None] + 1) & (row_at >= doc_start.unsqueeze(-1))  # (B, T, C)
            if r == 4:
                # top-k passes no gradient, so the indexer reads the trunk without disturbing it.
                scores = self.indexer(x.detach(), qr.detach(), angle, doc_start, rounding)
                scores = scores.masked_fill(~rows_visible, float("-inf"))
                rows_visible = rows_visible & (rank_descending(scores.detach()) < top_k)
            keys = torch.cat((keys, rows.unsqueeze(1).expand(B, blocks, C, D)), 2)
            visible = torch.cat((visible, rows_visible.view(B, blocks, W, C)), -1)

        s = q.reshape(B, blocks, W * H, D) @ keys.transpose(-1, -2)                # (B, blocks, W*H, keys)
        s = s.view(B, blocks, W, H, -1).float().masked_fill(~visible.unsqueeze(-2), float("-inf"))
        sink = self.attn_sink.unsqueeze(-1)                                        # (H, 1)
        largest = torch.maximum(s.amax(-1, keepdim=True), sink).detach()
        e = torch.exp(s - largest)
        p = e / (e.sum(-1, keepdim=True) + torch.exp(sink - largest))
        o = p.to(x.dtype).view(B, blocks, W * H, -1) @ keys
        o = rotate_tail(o.view(B, T, H, D).float(), -angle[:, None]).to(x.dtype)

        G, O = c.o_groups, c.o_lora_rank
        low = torch.einsum("btgi,goi->btgo", o.view(B, T, G, -1), self.wo_a.weight.to(x.dtype).view(G, O, -1))
        y = self.wo_b(low.flatten(-2))

        index_loss = x.new_zeros((), dtype=torch.float32)
        if r == 4 and self.training:
            mass = p[..., 2 * W:].detach().sum(-2).view(B, T, C)                   # summed over heads
            index_loss = indexer_loss(scores, mass, rows_visible)
        return y, index_loss


def indexer_loss(scores, mass, visible):
    """Divergence of the indexer's softmax from the attention mass on the compressed rows (model.md 16.3 c)."""
    target = mass / mass.sum(-1, keepdim=True).clamp(min=1e-6)
    log_p = scores.masked_fill(~visible, -1e4).log_softmax(-1)
    divergence = (target * (target.clamp(min=1e-9).log() - log_p)).sum(-1)
    counts = (visible.sum(-1) > 1).float()
    return (divergence * counts).sum() / counts.sum().clamp(min=1)


class Gate(nn.Module):
    """Chooses K experts per token and weighs them (model.md 10)."""

    def __init__(self, config, hashed):
        super().__init__()
        self.c, self.hashed = config, hashed
        X, K = config.n_routed_experts, config.num_experts_per_tok
        self.weight = nn.Parameter(torch.randn(X, config.hidden_size) * config.hidden_size ** -0.5)
        if hashed:
            table = torch.rand(config.vocab_size, X).argsort(-1)[:, :K]            # K distinct experts per token id
            self.register_buffer("tid2eid", table.contiguous())
        else:
            self.register_buffer("bias", torch.zeros(X))                           # moved by load, not by gradient

    def forward(self, x, tokens):                                  # (N, E), (N) -> ids (N, K), weights (N, K)
        p = F.softplus(F.linear(x.float(), self.weight)).sqrt()
        if self.hashed:
            ids = self.tid2eid[tokens]
        else:
            rank = rank_descending(p.detach() + self.bias)
            ids = torch.stack([(rank == k).int().argmax(-1) for k in range(self.c.num_experts_per_tok)], -1)
        chosen = p.gather(1, ids)
        return ids, self.c.routed_scaling_factor * chosen / chosen.sum(-1, keepdim=True).clamp(min=2.0 ** -14)


class Experts(nn.Module):
    """The routed experts, stacked: w1 and w3 (X, F, E), w2 (X, E, F)."""

    def __init__(self, config):
        super().__init__()
        X, E, width = config.n_routed_experts, config.hidden_size, config.moe_intermediate_size
        self.w1 = nn.Parameter(torch.randn(X, width, E) * E ** -0.5)
        self.w3 = nn.Parameter(torch.randn(X, width, E) * E ** -0.5)
        self.w2 = nn.Parameter(torch.randn(X, E, width) * width ** -0.5)


class SharedExpert(nn.Module):
    def __init__(self, config):
        super().__init__()
        E, width = config.hidden_size, config.moe_intermediate_size
        self.w1, self.w3, self.w2 = Linear(E, width), Linear(E, width), Linear(width, E)
        self.limit = config.swiglu_limit

    def forward(self, x):
        return self.w2(swiglu(self.w1(x), self.w3(x), self.limit))


class MoE(nn.Module):
    def __init__(self, config, ops, hashed):
        super().__init__()
        self.c, self.ops = config, ops
        self.gate = Gate(config, hashed)
        self.experts = Experts(config)
        self.shared_experts = SharedExpert(config)

    def forward(self, x, normed, tokens):
        """x (B, T, E) in the projections' dtype, normed the same in float32 for the router
        -> y (B, T, E), chosen experts (B*T, K)"""
        flat = x.flatten(0, 1)
        ids, weights = self.gate(normed.flatten(0, 1), tokens.flatten())
        w = self.experts
        y = self.ops.routed_experts(flat, ids, weights, w.w1, w.w3, w.w2, self.c.swiglu_limit)
        return (y + self.shared_experts(flat)).view_as(x), ids


class Layer(nn.Module):
    """Attention and experts, each between a collapse and a spread of the streams (model.md 4)."""

    def __init__(self, config, ops, ratio, hashed, dtype):
        super().__init__()
        self.dtype = dtype
        self.attn_norm = Norm(config.hidden_size, config.rms_norm_eps)
        self.attn = Attention(config, ratio)
        self.ffn_norm = Norm(config.hidden_size, config.rms_norm_eps)
        self.ffn = MoE(config, ops, hashed)
        self.hc_attn = HyperConnection(config, ops)
        self.hc_ffn = HyperConnection(config, ops)

    def attend(self, S, doc_start, top_k, rounding):               # (B, T, M, E) -> new S, indexer loss
        x, post, comb = self.hc_attn.collapse(S)
        y, index_loss = self.attn(self.attn_norm(x).to(self.dtype), doc_start, top_k, rounding)
        return HyperConnection.spread(y, S, post, comb), index_loss

    def feed(self, S, tokens):                                     # (B, T, M, E) -> new S, chosen experts (B*T, K)
        x, post, comb = self.hc_ffn.collapse(S)
        normed = self.ffn_norm(x)
        y, ids = self.ffn(normed.to(self.dtype), normed, tokens)
        return HyperConnection.spread(y, S, post, comb), ids

    def forward(self, S, tokens, doc_start, top_k, rounding):
        S, index_loss = self.attend(S, doc_start, top_k, rounding)
        S, ids = self.feed(S, tokens)
        return S, index_loss, ids


class MTP(nn.Module):
    """Predicts token p+2 from the streams of position p and the embedding of token p+1 (model.md 12)."""

    def __init__(self, config, ops, dtype):
        super().__init__()
        E, eps = config.hidden_size, config.rms_norm_eps
        self.dtype = dtype
        self.e_proj, self.h_proj = Linear(E, E), Linear(E, E)
        self.enorm, self.hnorm, self.norm = Norm(E, eps), Norm(E, eps), Norm(E, eps)
        self.layer = Layer(config, ops, 0, False, dtype)
        self.hc_head = HyperHead(config)

    def forward(self, embedded, S, tokens, doc_start, top_k, rounding):
        """embedded (B, T, E) and tokens (B, T) of the next position, S (B, T, M, E) of this one
        -> features (B, T, E) for the head, chosen experts"""
        e = self.e_proj(self.enorm(embedded).to(self.dtype)).float()
        Z = e.unsqueeze(-2) + self.h_proj(self.hnorm(S).to(self.dtype)).float()
        Z, _, ids = self.layer(Z, tokens, doc_start, top_k, rounding)
        return self.norm(self.hc_head(Z)), ids


class Model(nn.Module):
    def __init__(self, config, ops=None, dtype=torch.float32):
        super().__init__()
        self.c, self.dtype = config, dtype
        ops = ops or Ops()
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            Layer(config, ops, config.compress_ratios[l], l < config.num_hash_layers, dtype)
            for l in range(config.num_hidden_layers))
        self.hc_head = HyperHead(config)
        self.norm = Norm(config.hidden_size, config.rms_norm_eps)
        self.head = Linear(config.hidden_size, config.vocab_size)
        self.mtp = nn.ModuleList(MTP(config, ops, dtype) for _ in range(config.num_nextn_predict_layers))
        self.rounding = True
        # A tensor, so that training can go from all rows to top-k without compiling the graph again.
        self.register_buffer("top_k", torch.tensor(config.index_topk), persistent=False)

    def trunk(self, tokens, doc_start):
        """tokens (B, T), T a multiple of W -> streams before every layer and after the last, indexer loss, routes"""
        S = self.embed(tokens).unsqueeze(-2).expand(-1, -1, self.c.hc_mult, -1).contiguous()
        streams, index_loss, routes = [S], 0.0, []
        for layer in self.layers:
            S, loss, ids = layer(S, tokens, doc_start, self.top_k, self.rounding)
            streams.append(S)
            index_loss = index_loss + loss
            routes.append(ids)
        return streams, index_loss, routes

    def draft(self, S, tokens, doc_start):
        """S (B, T, M, E) leaving the trunk -> MTP features (B, T, E) for the head, routes; the last row is void"""
        following = torch.cat((tokens[:, 1:], tokens[:, -1:]), 1)
        return self.mtp[0](self.embed(following), S, following, doc_start, self.top_k, self.rounding)

    def all_layers(self):
        """The layers of the trunk and the one inside the MTP block."""
        return list(self.layers) + [mtp.layer for mtp in self.mtp]

    def logits(self, features):                                    # (..., E) -> (..., V)
        return self.head(features.to(self.dtype)).float()

    def forward(self, tokens, mtp=False):
        """tokens (B, T) of one document each -> logits (B, T, V), streams before each layer, MTP logits or None"""
        B, T = tokens.shape
        tokens = F.pad(tokens, (0, -T % self.c.sliding_window))    # causal: what follows changes nothing
        doc_start = torch.zeros_like(tokens)
        streams, _, _ = self.trunk(tokens, doc_start)
        logits = self.logits(self.norm(self.hc_head(streams[-1][:, :T])))
        drafted = None
        if mtp:
            drafted = self.logits(self.draft(streams[-1], tokens, doc_start)[0][:, :T - 1])
        return logits, [S[:, :T] for S in streams], drafted


    def last_logits(self, tokens, last):
        """tokens (B, T), last (B) -> logits (B, V) at one position of each row"""
        tokens = F.pad(tokens, (0, -tokens.shape[1] % self.c.sliding_window))
        S = self.trunk(tokens, torch.zeros_like(tokens))[0][-1]
        S = S[torch.arange(len(last), device=S.device), last].unsqueeze(1)
        return self.logits(self.norm(self.hc_head(S)))[:, 0]


# Our module paths differ from the released names in two places: a hyper-connection's three tensors live in a
# sub-module, and so does the layer inside the MTP block.
_HYPER = [("hc_attn.", "hc_attn_"), ("hc_ffn.", "hc_ffn_"), ("hc_head.", "hc_head_")]
_OF_LAYER = ("attn", "ffn", "hc_attn", "hc_ffn")


def released_names(state):
    renamed = {}
    for name, tensor in state.items():
        for ours, theirs in _HYPER:
            name = name.replace(ours, theirs)
        renamed[name.replace("mtp.0.layer.", "mtp.0.")] = tensor
    return renamed


def module_names(tensors):
    renamed = {}
    for name, tensor in tensors.items():
        if name.startswith("mtp.0.") and name[len("mtp.0."):].startswith(_OF_LAYER):
            name = "mtp.0.layer." + name[len("mtp.0."):]
        for ours, theirs in _HYPER:
            name = name.replace(theirs, ours)
        renamed[name] = tensor
    return renamed
