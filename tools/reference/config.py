"""Hyper-parameters of a DeepSeek V4 Flash model, under the names of the released config.json (model.md 1.1)."""

import dataclasses
import json
import math


@dataclasses.dataclass
class Config:
    vocab_size: int                 # V
    hidden_size: int                # E
    num_hidden_layers: int
    num_attention_heads: int        # H
    head_dim: int                   # D, of which the last qk_rope_head_dim are rotated
    qk_rope_head_dim: int           # R
    q_lora_rank: int                # Q
    o_groups: int                   # G
    o_lora_rank: int                # O
    sliding_window: int             # W
    compress_ratios: list           # one of 0 (SWA), 4 (CSA), 128 (HCA) per layer, then one for the MTP block
    index_n_heads: int              # IH
    index_head_dim: int             # ID
    index_topk: int                 # TK
    moe_intermediate_size: int      # F
    n_routed_experts: int           # X
    num_experts_per_tok: int        # K
    num_hash_layers: int
    num_nextn_predict_layers: int = 1
    routed_scaling_factor: float = 1.5
    swiglu_limit: float = 10.0
    hc_mult: int = 4                # M
    hc_sinkhorn_iters: int = 20
    hc_eps: float = 1e-6
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    compress_rope_theta: float = 160000.0
    rope_scaling: dict = None
    max_position_embeddings: int = 0

    @staticmethod
    def load(path):
        with open(path) as file:
            values = json.load(file)
        known = {field.name for field in dataclasses.fields(Config)}
        return Config(**{name: value for name, value in values.items() if name in known})

    def frequencies(self, compressed):
        """R/2 rotation frequencies as a list of floats (model.md 5); compressed layers use their own theta and YaRN."""
        R = self.qk_rope_head_dim
        theta = self.compress_rope_theta if compressed else self.rope_theta
        plain = [theta ** (-2.0 * i / R) for i in range(R // 2)]
        if not compressed:
            return plain
        yarn = self.rope_scaling
        original, factor = yarn["original_max_position_embeddings"], yarn["factor"]

        def dim_that_turns(beta):
            return R * math.log(original / (beta * 2 * math.pi)) / (2 * math.log(theta))

        low = max(0, math.floor(dim_that_turns(yarn["beta_fast"])))
        high = min(R - 1, math.ceil(dim_that_turns(yarn["beta_slow"])))
        width = high - low if high != low else 0.001
        ramps = [min(1.0, max(0.0, (i - low) / width)) for i in range(R // 2)]
        return [f * ((1 - ramp) + ramp / factor) for f, ramp in zip(plain, ramps)]
