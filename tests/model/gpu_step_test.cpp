// What the host asks of a GPU for a step of Flash: launches, graphs, copies.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "backend/gpu/gpu_backend.h"
#include "backend/gpu/idle_device.h"
#include "model/flash_shape.h"
#include "model/forward.h"

namespace ds4 {
namespace {

class Flash {
  public:
    explicit Flash(std::int64_t n_layers)
        : shape_(*backend_, n_layers),
          layout_(shape_.config, shape_.config.ratios, quant::KvFormat::packed),
          forward_(*backend_, shape_.config, shape_.weights, {kMaxRows, true, quant::KvFormat::packed}),
          logits_(static_cast<std::size_t>(shape_.config.vocab)) {}

    void add_session(std::int64_t n_tokens) {
        states_.push_back(std::make_unique<KvState>(layout_, *backend_));
        for (std::int64_t left = n_tokens; left > 0; left -= std::min(left, kMaxRows))
            step({states_.back().get()}, std::min(left, kMaxRows), true);
    }
    // A generated token of every session and its logits; what the layers asked for.
    test::IdleDevice::Log decode() {
        std::vector<KvState*> states;
        std::vector<HeadRow> rows;
        for (const auto& state : states_) {
            rows.push_back({static_cast<std::int64_t>(states.size()), logits_.data()});
            states.push_back(state.get());
        }
        log_.clear();
        step(states, 1, false);
        test::IdleDevice::Log of_layers = log_;
        forward_.logits(rows);
        return of_layers;
    }

  private:
    static constexpr std::int64_t kMaxRows = 512;

    void step(const std::vector<KvState*>& states, std::int64_t n, bool is_prompt) {
        std::vector<TokenId> tokens;
        std::vector<std::int32_t> positions;
        std::vector<Segment> segments;
        for (const KvState* state : states) {
            const std::int64_t start = state->n_tokens();
            segments.push_back({static_cast<std::int64_t>(tokens.size()), n, start, is_prompt});
            for (std::int64_t i = 0; i < n; ++i) {
                tokens.push_back(static_cast<TokenId>(start + i));
                positions.push_back(static_cast<std::int32_t>(start + i));
            }
        }
        forward_.run({tokens, positions, segments}, states);
    }

    test::IdleDevice::Log log_;
    std::unique_ptr<Backend> backend_ = make_gpu_backend(std::make_unique<test::IdleDevice>(log_));
    test::FlashShape shape_;
    KvLayout layout_;
    Forward forward_;
    std::vector<std::unique_ptr<KvState>> states_;
    std::vector<float> logits_;
};

std::size_t decode_launches(std::int64_t n_layers) {
    Flash flash(n_layers);
    flash.add_session(2100);
    return flash.decode().n_launches;
}

// One row at 2k: launches are what a token costs beside its bytes. Lower these numbers when there are fewer.
TEST(GpuStep, LaunchesOfALayer) {
    constexpr std::size_t kPlain = 13, kCsa = 14, kHca = 13;
    const std::size_t two = decode_launches(2);
    const std::size_t three = decode_launches(3);
    EXPECT_LE(two, 2 + 2 * kPlain);  // and the embedding, and the last expansion of the streams
    EXPECT_LE(three - two, kCsa);
    EXPECT_LE(decode_launches(4) - three, kHca);
}

// Steps of growing sessions, wherever each of them stands, are the same graphs over and over.
TEST(GpuStep, DecodedTokensAreReplayed) {
    Flash flash(4);
    for (std::int64_t s = 0; s < 5; ++s) flash.add_session(520 + 37 * s);
    int n_lowered = 0;
    for (int i = 0; i < 200; ++i) {
        const test::IdleDevice::Log log = flash.decode();
        EXPECT_EQ(log.n_uploads, 1U) << i;
        if (log.graphs.empty()) ++n_lowered;
        EXPECT_TRUE(log.graphs.empty() ||
                    std::reduce(log.graphs.begin(), log.graphs.end()) == log.n_launches);
    }
    EXPECT_LE(n_lowered, 2);  // the first two
}

}  // namespace
}  // namespace ds4
