#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "ds4/engine.h"
#include "ds4/sampling.h"

namespace ds4 {

struct GenerateOptions {
    Sampling sampling;
    std::int64_t max_tokens = 0;  // 0: until the context is full
    std::vector<TokenId> stop;    // ends the answer; neither reported nor appended
};

enum class FinishReason {
    stop,       // a stop token was chosen
    length,     // max_tokens
    context,    // the session is full
    cancelled,  // on_token said no
};

struct Generated {
    FinishReason reason = FinishReason::stop;
    std::int64_t n_tokens = 0;
};

// Continues a session that has logits: samples, reports, appends, until something ends it. on_token gets each
// token before it is appended, while the session's logits() are those it was chosen from; false ends there
// with the token appended. The position that sampling depends on is the token's place in the session, so a
// replay gives the same text.
Generated generate(Session& session, const GenerateOptions& options,
                   const std::function<bool(TokenId id)>& on_token);

}  // namespace ds4
