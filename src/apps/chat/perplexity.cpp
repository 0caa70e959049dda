#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "apps/app.h"
#include "apps/chat/commands.h"
#include "base/progress.h"
#include "tokenizer/tokenizer.h"

namespace ds4::chat_app {

// exp of the mean negative logarithm of each token's probability given those before it, over windows of the
// context, each opened by BOS. The first token of a window is predicted from BOS alone.
int run_perplexity(Engine& engine, const Options& options) {
    const tokenizer::Tokenizer& tokenizer = engine.tokenizer();
    const std::vector<TokenId> ids = tokenizer.encode(app::read_text(options.perplexity));
    if (ids.empty()) throw Error(options.perplexity.string() + ": no text to measure");
    const TokenId bos = tokenizer.vocabulary().bos;
    if (bos < 0) throw TokenizerError("the model names no BOS token (tokenizer.ggml.bos_token_id)");

    const std::int64_t context =
        options.context > 0 ? options.context : std::min(Options::kDefaultContext, engine.info().max_context);
    if (context < 2) throw ContextError("perplexity needs a context of at least 2 tokens");
    ProgressBar bar("perplexity", ids.size(), "tokens");
    double sum = 0;
    for (std::size_t start = 0; start < ids.size();) {
        const std::size_t n = std::min(ids.size() - start, static_cast<std::size_t>(context - 1));
        std::vector<TokenId> window = {bos};
        window.insert(window.end(), ids.begin() + static_cast<std::ptrdiff_t>(start),
                      ids.begin() + static_cast<std::ptrdiff_t>(start + n - 1));
        const auto session = engine.new_session(context);
        Session::AppendOptions append;
        append.on_logits = [&](std::int64_t position, std::span<const float> logits) {
            const std::size_t at = start + static_cast<std::size_t>(position);
            sum -= static_cast<double>(logprob(logits, ids[at]));
            bar.update(at + 1);
        };
        session->append(window, append);
        start += n;
    }
    bar.finish();
    const double mean = sum / static_cast<double>(ids.size());
    std::printf("perplexity %.4f over %zu tokens (%.5f nats per token), context %lld\n", std::exp(mean),
                ids.size(), mean, static_cast<long long>(context));
    return 0;
}

}  // namespace ds4::chat_app
