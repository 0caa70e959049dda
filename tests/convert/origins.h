#pragma once

#include <map>
#include <string>

namespace ds4::test {

// Where a GGUF tensor comes from: model.md 3.1 and 3.3, written down a second time. `experts`: the sources
// are FIRST + expert + LAST.
struct Origin {
    std::string source;
    std::string after_expert;  // empty unless stacked
};
using Origins = std::map<std::string, Origin>;

inline void add_layer(Origins& o, const std::string& to, const std::string& from, int ratio, bool hash) {
    for (const std::string hc : {"hc_attn", "hc_ffn"}) {
        for (const std::string part : {"_fn", "_base", "_scale"})
            o[to + hc + part + ".weight"] = {from + hc + part, ""};
    }
    std::map<std::string, std::string> names = {{"attn_norm", "attn_norm"},
                                                {"ffn_norm", "ffn_norm"},
                                                {"attn_q_a", "attn.wq_a"},
                                                {"attn_q_b", "attn.wq_b"},
                                                {"attn_q_a_norm", "attn.q_norm"},
                                                {"attn_kv", "attn.wkv"},
                                                {"attn_kv_a_norm", "attn.kv_norm"},
                                                {"attn_output_a", "attn.wo_a"},
                                                {"attn_output_b", "attn.wo_b"},
                                                {"ffn_gate_inp", "ffn.gate"},
                                                {"ffn_gate_shexp", "ffn.shared_experts.w1"},
                                                {"ffn_up_shexp", "ffn.shared_experts.w3"},
                                                {"ffn_down_shexp", "ffn.shared_experts.w2"}};
    const auto compressor = [&](const std::string& a, const std::string& b) {
        names[a + "_kv"] = b + "wkv";
        names[a + "_gate"] = b + "wgate";
        names[a + "_norm"] = b + "norm";
        o[to + a + "_ape.weight"] = {from + b + "ape", ""};
    };
    if (ratio != 0) compressor("attn_compressor", "attn.compressor.");
    if (ratio == 4) {
        compressor("indexer_compressor", "attn.indexer.compressor.");
        names["indexer.attn_q_b"] = "attn.indexer.wq_b";
        names["indexer.proj"] = "attn.indexer.weights_proj";
    }
    for (const auto& [a, b] : names) o[to + a + ".weight"] = {from + b + ".weight", ""};
    o[to + "attn_sinks.weight"] = {from + "attn.attn_sink", ""};
    if (hash) {
        o[to + "ffn_gate_tid2eid.weight"] = {from + "ffn.gate.tid2eid", ""};
    } else {
        o[to + "exp_probs_b.bias"] = {from + "ffn.gate.bias", ""};
    }
    o[to + "ffn_gate_exps.weight"] = {from + "ffn.experts.", ".w1.weight"};
    o[to + "ffn_up_exps.weight"] = {from + "ffn.experts.", ".w3.weight"};
    o[to + "ffn_down_exps.weight"] = {from + "ffn.experts.", ".w2.weight"};
}

inline Origins trunk_origins() {
    Origins o = {
        {"token_embd.weight", {"embed.weight", ""}},     {"output.weight", {"head.weight", ""}},
        {"output_norm.weight", {"norm.weight", ""}},     {"output_hc_fn.weight", {"hc_head_fn", ""}},
        {"output_hc_base.weight", {"hc_head_base", ""}}, {"output_hc_scale.weight", {"hc_head_scale", ""}}};
    const int ratios[] = {0, 0, 4, 128, 4, 128, 4};
    for (int l = 0; l < 7; ++l) {
        const std::string number = std::to_string(l);
        add_layer(o, std::string("blk.").append(number).append("."),
                  std::string("layers.").append(number).append("."), ratios[l], l < 2);
    }
    return o;
}

inline Origins mtp_origins() {
    Origins o;
    for (const std::string name :
         {"e_proj.weight", "h_proj.weight", "enorm.weight", "hnorm.weight", "norm.weight"}) {
        o["mtp.0." + name] = {"mtp.0." + name, ""};
    }
    for (const std::string part : {"_fn", "_base", "_scale"}) {
        o["mtp.0.hc_head" + part + ".weight"] = {"mtp.0.hc_head" + part, ""};
    }
    add_layer(o, "mtp.0.", "mtp.0.", 0, false);
    return o;
}

}  // namespace ds4::test
