#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "model/forward.h"
#include "model/random_model.h"

namespace ds4::test {

// Runs sessions of a random model step by step and keeps every row's logits.
class Runner {
  public:
    Runner(Backend& backend, const RandomModel& model, quant::KvFormat format = quant::KvFormat::packed)
        : model_(model),
          backend_(backend),
          layout_(model.config, model.config.ratios, format),
          forward_(backend, model.config, model.weights, {512, true, format}) {}

    std::unique_ptr<KvState> new_state() const { return std::make_unique<KvState>(layout_, backend_); }

    struct Item {
        KvState* state;
        std::span<const TokenId> tokens;
        bool is_prompt = false;
    };
    // One step with rows of several sessions; the logits (rows, V) of all, in order.
    std::vector<float> step(const std::vector<Item>& items) {
        std::vector<TokenId> tokens;
        std::vector<std::int32_t> positions;
        std::vector<Segment> segments;
        std::vector<KvState*> states;
        for (const Item& item : items) {
            const auto n = static_cast<std::int64_t>(item.tokens.size());
            segments.push_back(
                {static_cast<std::int64_t>(tokens.size()), n, item.state->n_tokens(), item.is_prompt});
            states.push_back(item.state);
            for (std::int64_t i = 0; i < n; ++i) {
                positions.push_back(static_cast<std::int32_t>(item.state->n_tokens() + i));
            }
            tokens.insert(tokens.end(), item.tokens.begin(), item.tokens.end());
        }
        forward_.run({tokens, positions, segments}, states);
        std::vector<float> logits(tokens.size() * static_cast<std::size_t>(model_.config.vocab));
        forward_.logits(0, static_cast<std::int64_t>(tokens.size()), logits.data());
        return logits;
    }

    // A whole prompt in chunks of one session; the logits of every token.
    std::vector<float> prefill(KvState& state, std::span<const TokenId> tokens, std::size_t chunk,
                               bool is_prompt = false) {
        std::vector<float> all;
        while (!tokens.empty()) {
            const std::size_t n = std::min(chunk, tokens.size());
            const std::vector<float> logits = step({{&state, tokens.first(n), is_prompt}});
            all.insert(all.end(), logits.begin(), logits.end());
            tokens = tokens.subspan(n);
        }
        return all;
    }

    Forward& forward() { return forward_; }
    const KvLayout& layout() const { return layout_; }

  private:
    const RandomModel& model_;
    Backend& backend_;
    KvLayout layout_;
    Forward forward_;
};

}  // namespace ds4::test
