#include "ds4/generate.h"

#include <algorithm>

namespace ds4 {

Generated generate(Session& session, const GenerateOptions& options,
                   const std::function<bool(TokenId id, std::span<const float> logits)>& on_token) {
    Generated out;
    if (session.logits().empty()) throw Error("nothing to continue: the session has no tokens yet");
    for (;;) {
        if (options.max_tokens > 0 && out.n_tokens >= options.max_tokens) {
            out.reason = FinishReason::length;
            return out;
        }
        if (session.n_tokens() >= session.context()) {
            out.reason = FinishReason::context;
            return out;
        }
        const TokenId id = sample(session.logits(), options.sampling, session.n_tokens());
        if (std::find(options.stop.begin(), options.stop.end(), id) != options.stop.end()) {
            out.reason = FinishReason::stop;
            return out;
        }
        ++out.n_tokens;
        const bool go_on = on_token(id, session.logits());
        session.append({&id, 1}, {.progress = {}, .on_logits = {}, .is_generated = true});
        if (!go_on) {
            out.reason = FinishReason::cancelled;
            return out;
        }
    }
}

}  // namespace ds4
