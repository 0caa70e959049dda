#include "model/mtp.h"

#include <array>

#include "model/head.h"

namespace ds4 {

MtpForward::MtpForward(Backend& backend, const Config& config, const MtpWeights& mtp, const Weights& trunk,
                       const ForwardOptions& options)
    : backend_(backend),
      config_(config),
      mtp_(mtp),
      trunk_(trunk),
      layout_(config, std::array<std::int64_t, 1>{0}, options.kv_format),
      block_(backend, config, options),
      work_(config, backend, options.max_rows),
      normed_memory_(backend, static_cast<std::size_t>(options.max_rows * config.n_streams * config.hidden) *
                                  sizeof(float)),
      normed_{static_cast<float*>(normed_memory_.get()), options.max_rows, config.n_streams * config.hidden} {
}

std::unique_ptr<KvState> MtpForward::new_state() const {
    return std::make_unique<KvState>(layout_, backend_);
}

void MtpForward::run(const BatchRows& batch, std::span<KvState* const> states, Rows trunk_streams) {
    const std::int64_t n = n_rows_ = batch.n_rows();
    const std::int64_t e = config_.hidden;
    const Rows s = streams();

    backend_.begin_rows(batch.segments);
    // Z[m] = e_proj . rmsnorm(embedding) + h_proj . rmsnorm(S[m])
    const Rows x = Workspace::take(work_.x, n);
    const Rows y = Workspace::take(work_.y, n);
    const Rows normed = Workspace::take(normed_, n);
    backend_.rms_norm(trunk_streams, mtp_.h_norm, e, config_.rms_eps, normed);
    backend_.matmul(mtp_.h_proj, {normed.data, n * config_.n_streams, e}, {s.data, n * config_.n_streams, e});
    backend_.embed(trunk_.embedding, batch.tokens, 1, x);
    backend_.rms_norm(x, mtp_.e_norm, e, config_.rms_eps, x);
    backend_.matmul(mtp_.e_proj, x, y);
    backend_.add(y, s);

    for (std::size_t i = 0; i < states.size(); ++i) states[i]->reserve(batch.segments[i].n_rows);
    history_.clear();
    for (KvState* state : states) history_.push_back(state->history(0));
    block_.run(mtp_.layer, batch, history_, work_, s);
    backend_.flush();
    for (std::size_t i = 0; i < states.size(); ++i) {
        const Segment& segment = batch.segments[i];
        states[i]->advance(batch.tokens.subspan(static_cast<std::size_t>(segment.first_row),
                                                static_cast<std::size_t>(segment.n_rows)));
    }
}

void MtpForward::logits(std::int64_t first, std::int64_t n, float* host) {
    head_logits(backend_, config_, mtp_.hc_head, mtp_.norm, trunk_.output, work_, streams().slice(first, n),
                host);
}

}  // namespace ds4
