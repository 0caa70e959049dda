#include "ds4/generate.h"

#include <algorithm>

namespace ds4 {

Generated generate(Session& session, const GenerateOptions& options,
                   const std::function<bool(TokenId id)>& on_token) {
    Generated out;
    const bool is_greedy = options.sampling.temperature <= 0;
    if (session.n_tokens() == 0) throw Error("nothing to continue: the session has no tokens yet");
    for (;;) {
        if (options.max_tokens > 0 && out.n_tokens >= options.max_tokens) {
            out.reason = FinishReason::length;
            return out;
        }
        if (session.n_tokens() >= session.context()) {
            out.reason = FinishReason::context;
            return out;
        }
        const TokenId id =
            is_greedy ? session.best() : sample(session.logits(), options.sampling, session.n_tokens());
        if (std::find(options.stop.begin(), options.stop.end(), id) != options.stop.end()) {
            out.reason = FinishReason::stop;
            return out;
        }
        ++out.n_tokens;
        const bool go_on = on_token(id);
        session.append({&id, 1},
                       {.progress = {}, .on_logits = {}, .is_generated = true, .wants_best = is_greedy});
        if (!go_on) {
            out.reason = FinishReason::cancelled;
            return out;
        }
    }
}

}  // namespace ds4
