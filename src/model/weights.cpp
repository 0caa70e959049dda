#include "model/weights.h"

#include <cstring>
#include <string>
#include <vector>

#include "ds4/error.h"

namespace ds4 {
namespace {

std::string shape_text(const gguf::Tensor& t) {
    std::string text = "[";
    for (int i = 0; i < t.n_dims; ++i)
        text += (i > 0 ? ", " : "") + std::to_string(t.ne[static_cast<std::size_t>(i)]);
    return text + "]";
}

std::string shape_text(std::initializer_list<std::int64_t> ne) {
    std::string text = "[";
    for (const std::int64_t n : ne) text += (text.size() > 1 ? ", " : "") + std::to_string(n);
    return text + "]";
}

}  // namespace

// Finds tensors under a name prefix and turns them into checked views.
class WeightLoader {
  public:
    WeightLoader(WeightStore& store, const Config& config, std::string prefix)
        : store_(store), c_(config), prefix_(std::move(prefix)) {}

    // n_out rows of n_in; `stack` of them for experts.
    Matrix matrix(const std::string& name, std::int64_t n_in, std::int64_t n_out, std::int64_t stack = 1,
                  Backend::MatrixUse use = Backend::MatrixUse::product) {
        return place(host_matrix(name, n_in, n_out, stack), use);
    }
    // As it lies in the file.
    Matrix host_matrix(const std::string& name, std::int64_t n_in, std::int64_t n_out, std::int64_t stack) {
        const gguf::Tensor& t = tensor(name + ".weight");
        if (stack > 1) {
            check_shape(t, {n_in, n_out, stack});
        } else {
            check_shape(t, {n_in, n_out});
        }
        if (t.format->decode == nullptr)
            fail(t, "has type " + std::string(t.format->name) + ", not a weight format");
        Matrix m;
        m.data = t.data.data();
        m.type = t.format->type;
        m.n_in = n_in;
        m.n_out = n_out;
        m.stack = stack;
        m.row_bytes = quant::row_bytes(*t.format, static_cast<std::size_t>(n_in));
        return m;
    }
    // Operand of grouped_matmul.
    Matrix grouped_matrix(const std::string& name, std::int64_t n_in, std::int64_t n_out,
                          std::int64_t n_groups) {
        return place(host_matrix(name, n_in, n_out, 1), Backend::MatrixUse::product, n_groups);
    }
    // Experts of width f for rows of e; suffix: of the tensors' names.
    Experts experts(const std::string& suffix, std::int64_t e, std::int64_t f, std::int64_t stack) {
        Experts host;
        host.gate = host_matrix("ffn_gate_" + suffix, e, f, stack);
        host.up = host_matrix("ffn_up_" + suffix, e, f, stack);
        host.down = host_matrix("ffn_down_" + suffix, f, e, stack);
        if (host.gate.type != host.up.type) {
            throw ModelError(store_.file_.path().string() + ": " + prefix_ + "ffn_gate_" + suffix +
                             " and ffn_up_" + suffix + " have different types");
        }
        const auto [known, is_new] =
            store_.placed_experts_.try_emplace({host.gate.data, host.up.data, host.down.data});
        if (is_new) known->second = store_.backend_.place_experts(host);
        return known->second;
    }
    // A matrix of which single rows are read.
    Matrix table(const std::string& name, std::int64_t n_in, std::int64_t n_out) {
        return matrix(name, n_in, n_out, 1, Backend::MatrixUse::rows);
    }

    Vector vector(const std::string& full_name, std::int64_t n) {
        const gguf::Tensor& t = tensor(full_name);
        check_shape(t, {n});
        const quant::Type type = t.format->type;
        if (type != quant::Type::f32 && type != quant::Type::f16 && type != quant::Type::bf16) {
            fail(t, "has type " + std::string(t.format->name) + "; vectors must be F32, F16 or BF16");
        }
        std::vector<float> values(static_cast<std::size_t>(n));
        t.format->decode(t.data.data(), values.data(), values.size());
        return {upload(values.data(), values.size()), n};
    }
    Vector norm(const std::string& name, std::int64_t n) { return vector(name + ".weight", n); }

    HyperConnection hyper_connection(const std::string& name, std::int64_t width, std::int64_t n_scales) {
        HyperConnection hc;
        hc.fn = matrix(name + "_fn", c_.n_streams * c_.hidden, width, 1, Backend::MatrixUse::mixing);
        hc.base = vector(name + "_base.weight", width);
        hc.scale = vector(name + "_scale.weight", n_scales);
        hc.n_streams = c_.n_streams;
        hc.sinkhorn_iterations = c_.sinkhorn_iterations;
        hc.eps = c_.hc_eps;
        hc.rms_eps = c_.rms_eps;
        return hc;
    }

    CompressorWeights compressor(const std::string& name, std::int64_t ratio, std::int64_t dim) {
        const std::int64_t width = Config::compressor_width(ratio, dim);
        return {matrix(name + "_kv", c_.hidden, width), matrix(name + "_gate", c_.hidden, width),
                matrix(name + "_ape", width, ratio, 1, Backend::MatrixUse::added), norm(name + "_norm", dim)};
    }

    AttentionWeights attention(std::int64_t ratio) {
        const std::int64_t q_width = c_.n_heads * c_.head_dim;
        const std::int64_t low = c_.out_groups * c_.out_rank;
        AttentionWeights a;
        a.norm = norm("attn_norm", c_.hidden);
        a.q_a = matrix("attn_q_a", c_.hidden, c_.q_rank);
        a.q_a_norm = norm("attn_q_a_norm", c_.q_rank);
        a.q_b = matrix("attn_q_b", c_.q_rank, q_width);
        a.kv = matrix("attn_kv", c_.hidden, c_.head_dim);
        a.kv_norm = norm("attn_kv_a_norm", c_.head_dim);
        a.sinks = vector("attn_sinks.weight", c_.n_heads);
        a.out_a = grouped_matrix("attn_output_a", q_width / c_.out_groups, low, c_.out_groups);
        a.out_b = matrix("attn_output_b", low, c_.hidden);
        if (ratio != 0) a.compressor = compressor("attn_compressor", ratio, c_.head_dim);
        if (ratio == 4) {
            a.indexer.q_b = matrix("indexer.attn_q_b", c_.q_rank, c_.index_heads * c_.index_dim);
            a.indexer.proj = matrix("indexer.proj", c_.hidden, c_.index_heads);
            a.indexer.compressor = compressor("indexer_compressor", ratio, c_.index_dim);
        }
        return a;
    }

    MoeWeights moe(bool hash_layer) {
        const std::int64_t e = c_.hidden;
        const std::int64_t f = c_.expert_width;
        MoeWeights m;
        m.norm = norm("ffn_norm", e);
        m.router = matrix("ffn_gate_inp", e, c_.n_experts);
        if (hash_layer) {
            m.hash = hash_table();
        } else {
            m.router_bias = vector("exp_probs_b.bias", c_.n_experts);
        }
        m.routed = experts("exps", e, f, c_.n_experts);
        m.shared = experts("shexp", e, f, 1);
        return m;
    }

    LayerWeights layer(std::int64_t ratio, bool hash_layer) {
        LayerWeights w;
        w.ratio = ratio;
        w.hc_attention = hyper_connection("hc_attn", c_.hc_mix_width(), 3);
        w.hc_moe = hyper_connection("hc_ffn", c_.hc_mix_width(), 3);
        w.attention = attention(ratio);
        w.moe = moe(hash_layer);
        return w;
    }

  private:
    const gguf::Tensor& tensor(const std::string& name) const {
        const gguf::Tensor* t = store_.file_.find_tensor(prefix_ + name);
        if (t == nullptr) {
            throw ModelError(store_.file_.path().string() + ": tensor " + prefix_ + name + " is missing");
        }
        return *t;
    }

    [[noreturn]] void fail(const gguf::Tensor& t, const std::string& what) const {
        throw ModelError(store_.file_.path().string() + ": tensor " + std::string(t.name) + " " + what);
    }

    void check_shape(const gguf::Tensor& t, std::initializer_list<std::int64_t> ne) const {
        std::size_t i = 0;
        bool same = true;
        for (const std::int64_t n : ne) same = same && t.ne[i++] == static_cast<std::uint64_t>(n);
        for (; i < t.ne.size(); ++i) same = same && t.ne[i] == 1;
        if (!same) fail(t, "has shape " + shape_text(t) + ", the metadata ask for " + shape_text(ne));
    }

    // The entries are indices into the experts, so they are checked here once instead of at every token.
    const std::int32_t* hash_table() {
        const gguf::Tensor& t = tensor("ffn_gate_tid2eid.weight");
        check_shape(t, {c_.n_used_experts, c_.vocab});
        if (t.format->type != quant::Type::i32)
            fail(t, "has type " + std::string(t.format->name) + ", must be I32");
        const auto* table = reinterpret_cast<const std::int32_t*>(t.data.data());
        const std::int64_t n = c_.n_used_experts * c_.vocab;
        for (std::int64_t i = 0; i < n; ++i) {
            if (table[i] < 0 || table[i] >= c_.n_experts) {
                fail(t, "sends token " + std::to_string(i / c_.n_used_experts) + " to expert " +
                            std::to_string(table[i]) + " of " + std::to_string(c_.n_experts));
            }
        }
        return upload(table, static_cast<std::size_t>(n));
    }

    template <class T>
    const T* upload(const T* values, std::size_t n) {
        void* memory = store_.vectors_.emplace_back(store_.backend_, n * sizeof(T)).get();
        store_.backend_.upload(memory, values, n * sizeof(T));
        return static_cast<const T*>(memory);
    }

    // Tensors of one file may share their bytes.
    Matrix place(const Matrix& m, Backend::MatrixUse use, std::int64_t n_groups = 1) {
        const auto known = store_.placed_.find({m.data, use});
        const auto same_shape = [&](const Matrix& p) {
            return p.type == m.type && p.n_in == m.n_in && p.n_out == m.n_out && p.stack == m.stack;
        };
        if (known != store_.placed_.end() && same_shape(known->second)) return known->second;
        const Matrix placed =
            n_groups == 1 ? store_.backend_.place(m, use) : store_.backend_.place_grouped(m, n_groups);
        store_.placed_.insert_or_assign({m.data, use}, placed);
        return placed;
    }

    WeightStore& store_;
    const Config& c_;
    std::string prefix_;
};

Weights WeightStore::load_trunk(const Config& config) {
    WeightLoader global(*this, config, "");
    Weights w;
    w.embedding = global.table("token_embd", config.hidden, config.vocab);
    w.output = global.matrix("output", config.hidden, config.vocab);
    w.norm = global.norm("output_norm", config.hidden);
    w.hc_head = global.hyper_connection("output_hc", config.n_streams, 1);
    for (std::int64_t l = 0; l < config.n_layers; ++l) {
        WeightLoader loader(*this, config, "blk." + std::to_string(l) + ".");
        w.layers.push_back(loader.layer(config.ratio(l), config.is_hash_layer(l)));
        w.layers.back().moe.routed.clamp = config.clamp[static_cast<std::size_t>(l)];
        w.layers.back().moe.shared.clamp = config.shared_clamp[static_cast<std::size_t>(l)];
    }
    return w;
}

MtpWeights WeightStore::load_mtp(const Config& config) {
    WeightLoader loader(*this, config, "mtp.0.");
    MtpWeights w;
    w.e_proj = loader.matrix("e_proj", config.hidden, config.hidden);
    w.h_proj = loader.matrix("h_proj", config.hidden, config.hidden);
    w.e_norm = loader.norm("enorm", config.hidden);
    w.h_norm = loader.norm("hnorm", config.hidden);
    w.norm = loader.norm("norm", config.hidden);
    w.hc_head = loader.hyper_connection("hc_head", config.n_streams, 1);
    w.layer = loader.layer(0, false);
    // swiglu_clamp_exp has no entry for the block; the limit is one global value (model.md 10).
    w.layer.moe.routed.clamp = config.clamp.back();
    w.layer.moe.shared.clamp = config.shared_clamp.back();
    return w;
}

}  // namespace ds4
