#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ds4/token.h"

namespace ds4 {

// How the next token is chosen. Defaults of prompt.md 3.
struct Sampling {
    float temperature = 1.0F;  // <= 0: greedy, everything else is ignored
    float top_p = 1.0F;        // (0, 1]; 1 keeps all
    int top_k = 0;             // 0 keeps all
    float min_p = 0.05F;       // [0, 1] of the best token's probability; 0 keeps all
    std::uint64_t seed = 0;
};

// The token at `position` given logits (vocab): a pure function of its arguments, so a session replayed
// anywhere gives the same text. Greedy ties go to the lower id (model.md 11). Otherwise probabilities are the
// softmax of logits / temperature; top_k, then top_p, then min_p cut the tail; the draw is made from (seed,
// position). NaN logits are never chosen. logits must not be empty.
TokenId sample(std::span<const float> logits, const Sampling& sampling, std::int64_t position);

struct TokenLogprob {
    TokenId id;
    float logprob;  // natural logarithm, at temperature 1
};

// The k most likely tokens, best first, ties to the lower id.
std::vector<TokenLogprob> top_logprobs(std::span<const float> logits, int k);

// Logarithm of the softmax at one token.
float logprob(std::span<const float> logits, TokenId id);

}  // namespace ds4
