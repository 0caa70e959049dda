#include "convert/tensor_table.h"

#include <utility>

namespace ds4::convert {
namespace {

// Collects the entries of one file.
class Table {
  public:
    explicit Table(const CheckpointConfig& config) : c_(config) {}

    void add(Kind kind, const std::string& name, const std::string& source, std::vector<std::uint64_t> ne) {
        entries_.push_back({name, std::move(ne), kind, {source}});
    }

    void add_hyper_connection(const std::string& name, const std::string& source, std::uint64_t width,
                              std::uint64_t n_scales) {
        add(Kind::embedding_like, name + "_fn.weight", source + "_fn",
            {flat(c_.hc_mult, c_.hidden_size), width});
        add(Kind::vector, name + "_base.weight", source + "_base", {width});
        add(Kind::vector, name + "_scale.weight", source + "_scale", {n_scales});
    }

    // `to` and `from` are name prefixes with their final dot. model.md 3.1
    void add_layer(const std::string& to, const std::string& from, std::uint32_t ratio, bool hash) {
        const std::uint64_t mix = flat(c_.hc_mult, 2 + c_.hc_mult);
        add_hyper_connection(to + "hc_attn", from + "hc_attn", mix, 3);
        add_hyper_connection(to + "hc_ffn", from + "hc_ffn", mix, 3);
        add_attention(to, from);
        if (ratio != 0) {
            add_compressor(to + "attn_compressor", from + "attn.compressor.", ratio, c_.head_dim);
        }
        if (ratio == 4) add_indexer(to, from);
        add_moe(to, from, hash);
    }

    std::vector<TableEntry> take() { return std::move(entries_); }

  private:
    static std::uint64_t flat(std::uint32_t a, std::uint32_t b) { return std::uint64_t{a} * b; }

    void add_experts(const std::string& name, const std::string& prefix, const std::string& part,
                     std::uint64_t n_in, std::uint64_t n_out) {
        std::vector<std::string> sources;
        for (std::uint32_t e = 0; e < c_.n_routed_experts; ++e) {
            std::string source = prefix;
            source.append(std::to_string(e)).append(".").append(part).append(".weight");
            sources.push_back(std::move(source));
        }
        entries_.push_back({name, {n_in, n_out, c_.n_routed_experts}, Kind::experts, std::move(sources)});
    }

    void add_attention(const std::string& to, const std::string& from) {
        const std::uint64_t e = c_.hidden_size;
        const std::uint64_t q_width = flat(c_.num_attention_heads, c_.head_dim);
        const std::uint64_t low = flat(c_.o_groups, c_.o_lora_rank);
        add(Kind::vector, to + "attn_norm.weight", from + "attn_norm.weight", {e});
        add(Kind::projection, to + "attn_q_a.weight", from + "attn.wq_a.weight", {e, c_.q_lora_rank});
        add(Kind::vector, to + "attn_q_a_norm.weight", from + "attn.q_norm.weight", {c_.q_lora_rank});
        add(Kind::projection, to + "attn_q_b.weight", from + "attn.wq_b.weight", {c_.q_lora_rank, q_width});
        add(Kind::projection, to + "attn_kv.weight", from + "attn.wkv.weight", {e, c_.head_dim});
        add(Kind::vector, to + "attn_kv_a_norm.weight", from + "attn.kv_norm.weight", {c_.head_dim});
        add(Kind::vector, to + "attn_sinks.weight", from + "attn.attn_sink", {c_.num_attention_heads});
        add(Kind::projection, to + "attn_output_a.weight", from + "attn.wo_a.weight",
            {q_width / c_.o_groups, low});
        add(Kind::projection, to + "attn_output_b.weight", from + "attn.wo_b.weight", {low, e});
    }

    void add_compressor(const std::string& to, const std::string& from, std::uint32_t ratio,
                        std::uint64_t dim) {
        const std::uint64_t width = ratio == 4 ? 2 * dim : dim;
        add(Kind::embedding_like, to + "_kv.weight", from + "wkv.weight", {c_.hidden_size, width});
        add(Kind::embedding_like, to + "_gate.weight", from + "wgate.weight", {c_.hidden_size, width});
        add(Kind::embedding_like, to + "_ape.weight", from + "ape", {width, ratio});
        add(Kind::vector, to + "_norm.weight", from + "norm.weight", {dim});
    }

    void add_indexer(const std::string& to, const std::string& from) {
        add(Kind::embedding_like, to + "indexer.attn_q_b.weight", from + "attn.indexer.wq_b.weight",
            {c_.q_lora_rank, flat(c_.index_n_heads, c_.index_head_dim)});
        add(Kind::embedding_like, to + "indexer.proj.weight", from + "attn.indexer.weights_proj.weight",
            {c_.hidden_size, c_.index_n_heads});
        add_compressor(to + "indexer_compressor", from + "attn.indexer.compressor.", 4, c_.index_head_dim);
    }

    void add_moe(const std::string& to, const std::string& from, bool hash) {
        const std::uint64_t e = c_.hidden_size;
        const std::uint64_t f = c_.moe_intermediate_size;
        add(Kind::vector, to + "ffn_norm.weight", from + "ffn_norm.weight", {e});
        add(Kind::embedding_like, to + "ffn_gate_inp.weight", from + "ffn.gate.weight",
            {e, c_.n_routed_experts});
        if (hash) {
            add(Kind::hash_table, to + "ffn_gate_tid2eid.weight", from + "ffn.gate.tid2eid",
                {c_.num_experts_per_tok, c_.vocab_size});
        } else {
            add(Kind::vector, to + "exp_probs_b.bias", from + "ffn.gate.bias", {c_.n_routed_experts});
        }
        const std::string experts = from + "ffn.experts.";
        add_experts(to + "ffn_gate_exps.weight", experts, "w1", e, f);
        add_experts(to + "ffn_up_exps.weight", experts, "w3", e, f);
        add_experts(to + "ffn_down_exps.weight", experts, "w2", f, e);
        const std::string shared = from + "ffn.shared_experts.";
        add(Kind::projection, to + "ffn_gate_shexp.weight", shared + "w1.weight", {e, f});
        add(Kind::projection, to + "ffn_up_shexp.weight", shared + "w3.weight", {e, f});
        add(Kind::projection, to + "ffn_down_shexp.weight", shared + "w2.weight", {f, e});
    }

    const CheckpointConfig& c_;
    std::vector<TableEntry> entries_;
};

}  // namespace

std::vector<TableEntry> trunk_table(const CheckpointConfig& c) {
    Table table(c);
    table.add(Kind::embedding_like, "token_embd.weight", "embed.weight", {c.hidden_size, c.vocab_size});
    table.add(Kind::projection, "output.weight", "head.weight", {c.hidden_size, c.vocab_size});
    table.add(Kind::vector, "output_norm.weight", "norm.weight", {c.hidden_size});
    table.add_hyper_connection("output_hc", "hc_head", c.hc_mult, 1);
    for (std::uint32_t l = 0; l < c.num_hidden_layers; ++l) {
        const std::string number = std::to_string(l);
        table.add_layer("blk." + number + ".", "layers." + number + ".", c.ratio(l), l < c.num_hash_layers);
    }
    return table.take();
}

std::vector<TableEntry> mtp_table(const CheckpointConfig& c) {
    Table table(c);
    const std::uint64_t e = c.hidden_size;
    for (const char* name : {"e_proj.weight", "h_proj.weight"}) {
        table.add(Kind::projection, std::string("mtp.0.") + name, std::string("mtp.0.") + name, {e, e});
    }
    for (const char* name : {"enorm.weight", "hnorm.weight", "norm.weight"}) {
        table.add(Kind::vector, std::string("mtp.0.") + name, std::string("mtp.0.") + name, {e});
    }
    table.add_hyper_connection("mtp.0.hc_head", "mtp.0.hc_head", c.hc_mult, 1);
    table.add_layer("mtp.0.", "mtp.0.", 0, false);
    return table.take();
}

}  // namespace ds4::convert
