#include "model/forward.h"

#include <algorithm>

#include "ds4/error.h"

namespace ds4 {

Block::Block(Backend& backend, const Config& config, const ForwardOptions& options)
    : backend_(backend),
      config_(config),
      rounding_(options.rounding),
      packs_rows_(options.kv_format == quant::KvFormat::packed),
      plain_frequencies_(rope_frequencies(config, false)),
      compressed_frequencies_(rope_frequencies(config, true)) {}

Rope Block::rope(std::int64_t ratio) const {
    return {ratio == 0 ? plain_frequencies_.data() : compressed_frequencies_.data(), config_.rope_dims};
}

// One layer: collapse the streams, attend, expand; collapse, experts, expand. model.md 4
void Block::run(const LayerWeights& layer, const BatchRows& batch, std::span<const LayerHistory> history,
                Workspace& work, Rows streams) const {
    const std::int64_t n = batch.n_rows();
    const Rows x = Workspace::take(work.x, n);
    const Rows y = Workspace::take(work.y, n);
    const Rows post = Workspace::take(work.post, n);
    const Rows comb = Workspace::take(work.comb, n);

    backend_.hc_collapse(layer.hc_attention, streams, x, post, comb);
    backend_.rms_norm(x, layer.attention.norm, config_.hidden, config_.rms_eps, x);
    attention(layer, batch, history, work, x, y);
    backend_.hc_expand(y, post, comb, streams);

    backend_.hc_collapse(layer.hc_moe, streams, x, post, comb);
    backend_.rms_norm(x, layer.moe.norm, config_.hidden, config_.rms_eps, x);
    moe(layer.moe, batch, work, x, y);
    backend_.hc_expand(y, post, comb, streams);
}

// model.md 6. x (n, E) normed input, y (n, E) output
void Block::attention(const LayerWeights& layer, const BatchRows& batch,
                      std::span<const LayerHistory> history, Workspace& work, Rows x, Rows y) const {
    const AttentionWeights& w = layer.attention;
    const std::int64_t n = batch.n_rows();
    const std::int64_t d = config_.head_dim;
    const Rope rotation = rope(layer.ratio);

    const bool scores = layer.ratio == 4 && needs_scores(batch);
    const Rows q_low = Workspace::take(work.q_low, n);
    const Rows kv = Workspace::take(work.kv, n);
    const Rows q = Workspace::take(work.q, n);
    const Rows index_q = Workspace::take(work.index_q, n);
    const Rows index_weight = Workspace::take(work.index_weight, n);

    // All that is projected from x, then all from q_low: a device makes one launch of each.
    backend_.matmul(w.q_a, x, q_low);
    backend_.matmul(w.kv, x, kv);
    const Pooled pooled{Workspace::take(work.pooled_value, n, w.compressor.value.n_out),
                        Workspace::take(work.pooled_score, n, w.compressor.value.n_out)};
    const Pooled index_pooled{Workspace::take(work.index_value, n), Workspace::take(work.index_score, n)};
    if (layer.ratio != 0) project(w.compressor, x, pooled);
    if (layer.ratio == 4) project(w.indexer.compressor, x, index_pooled);
    // The factor (ID * IH)^-0.5 is the same for all rows and cannot change the selection; it is left out.
    if (scores) backend_.matmul(w.indexer.proj, x, index_weight);
    const Backend::Product of_q_low[] = {{w.q_b, q}, {w.indexer.q_b, index_q}};
    backend_.norm_matmul(q_low, w.q_a_norm, config_.rms_eps, std::span(of_q_low).first(scores ? 2 : 1));

    backend_.rms_norm(q, Vector{}, d, config_.rms_eps, q);
    backend_.rope(rotation, batch.positions, d, false, q);
    backend_.rms_norm(kv, w.kv_norm, d, config_.rms_eps, kv);
    backend_.rope(rotation, batch.positions, d, false, kv);
    if (rounding_) backend_.round_fp8(kv, config_.rope_dims, packs_rows_);

    // Rows closed by this batch are appended first: a token may see the row it closes itself.
    if (layer.ratio != 0) compress(w.compressor, batch, history, false, layer.ratio, pooled);
    if (layer.ratio == 4) {
        compress(w.indexer.compressor, batch, history, true, layer.ratio, index_pooled);
        if (scores) {
            backend_.rope(rotation, batch.positions, config_.index_dim, false, index_q);
            if (rounding_) backend_.round_hadamard_fp4(index_q, config_.index_dim);
        }
        backend_.select_rows(batch, history, index_q, index_weight, config_.index_dim, work.selection);
    }

    const Rows heads = Workspace::take(work.heads, n);
    const Attention spec{config_.n_heads, d, config_.window, layer.ratio, w.sinks};
    backend_.attention(spec, batch, history, layer.ratio == 4 ? work.selection : Selection{}, q, kv, heads);
    backend_.store_window(batch, history, kv);
    // Keys are values and carry the rotation of their own position; turning back by the query's leaves the
    // distance.
    backend_.rope(rotation, batch.positions, d, true, heads);

    const Rows out_low = Workspace::take(work.out_low, n);
    backend_.low_rank_matmul(w.out_a, config_.out_groups, w.out_b, heads, out_low, y);
}

// Whether the indexer has to choose: while no query sees more rows than it may select, all are selected and
// nobody asks for scores. model.md 8
bool Block::needs_scores(const BatchRows& batch) const {
    return std::any_of(batch.segments.begin(), batch.segments.end(),
                       [&](const Segment& s) { return (s.start + s.n_rows) / 4 > config_.index_top_k; });
}

void Block::project(const CompressorWeights& w, Rows x, const Pooled& pooled) const {
    backend_.matmul(w.value, x, pooled.value);
    backend_.matmul(w.gate, x, pooled.score);
}

// model.md 7
void Block::compress(const CompressorWeights& w, const BatchRows& batch,
                     std::span<const LayerHistory> history, bool of_indexer, std::int64_t ratio,
                     const Pooled& pooled) const {
    Compressor compressor;
    compressor.ratio = ratio;
    compressor.dim = w.norm.n;
    compressor.ape = w.ape;
    compressor.norm = w.norm;
    compressor.rope = rope(ratio);
    compressor.rms_eps = config_.rms_eps;
    compressor.finish = of_indexer ? Compressor::Finish::hadamard_fp4 : Compressor::Finish::fp8;
    compressor.rounding = rounding_;
    backend_.compress(compressor, batch, history, of_indexer, pooled.value, pooled.score);
}

// model.md 10. x (n, E) normed input, y (n, E) output
void Block::moe(const MoeWeights& w, const BatchRows& batch, Workspace& work, Rows x, Rows y) const {
    const std::int64_t n = batch.n_rows();
    const Rows logits = Workspace::take(work.router_logits, n);
    const Rows act = Workspace::take(work.gate, n);
    backend_.matmul(w.router, x, logits);
    backend_.gated_matmul(w.shared, x, Workspace::take(work.up, n), act);
    Router router;
    router.n_used = config_.n_used_experts;
    router.weight_scale = config_.route_scale;
    router.normalise = config_.normalise_weights;
    router.bias = w.router_bias;
    router.hash = w.hash;
    backend_.route(router, batch.tokens, logits, work.routing);
    backend_.mixture(w.routed, work.routing, x, w.shared, act, Workspace::take(work.shared, n), y);
}

Forward::Forward(Backend& backend, const Config& config, const Weights& weights,
                 const ForwardOptions& options)
    : backend_(backend),
      config_(config),
      weights_(weights),
      block_(backend, config, options),
      work_(config, backend, options.max_rows) {}

void Forward::run(const BatchRows& batch, std::span<KvState* const> states) {
    for (std::size_t i = 0; i < states.size(); ++i) states[i]->reserve(batch.segments[i].n_rows);
    try {
        run_layers(batch, states);
    } catch (const DeviceMemoryError& error) {
        throw DeviceError(error.what());
    }
    for (std::size_t i = 0; i < states.size(); ++i) {
        const Segment& segment = batch.segments[i];
        states[i]->advance(batch.tokens.subspan(static_cast<std::size_t>(segment.first_row),
                                                static_cast<std::size_t>(segment.n_rows)));
    }
}

void Forward::run_layers(const BatchRows& batch, std::span<KvState* const> states) {
    history_.resize(states.size());
    n_rows_ = batch.n_rows();
    const Rows s = streams();

    backend_.begin_rows(batch.segments);
    backend_.embed(weights_.embedding, batch.tokens, config_.n_streams, s);
    for (std::int64_t l = 0; l < config_.n_layers; ++l) {
        if (probe) probe(l, s);
        for (std::size_t i = 0; i < states.size(); ++i) history_[i] = states[i]->history(l);
        block_.run(weights_.layers[static_cast<std::size_t>(l)], batch, history_, work_, s);
    }
    if (probe) probe(config_.n_layers, s);
    backend_.flush();
}

void Forward::logits(std::int64_t first, std::int64_t n, float* host) {
    head_logits(backend_, config_, weights_.hc_head, weights_.norm, weights_.output, work_,
                streams().slice(first, n), host);
}

void Forward::logits(std::span<const HeadRow> rows) {
    head_logits(backend_, config_, weights_.hc_head, weights_.norm, weights_.output, work_, streams(), rows);
}

}  // namespace ds4
