#include <algorithm>
#include <string>

#include "engine/session_impl.h"

namespace ds4 {

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::~Session() = default;

std::span<const TokenId> Session::tokens() const {
    return impl_->tokens;
}
std::int64_t Session::context() const {
    return impl_->context;
}
std::span<const float> Session::logits() const {
    return impl_->logits;
}

std::size_t Session::bytes() const {
    std::size_t total = impl_->kv->bytes();
    for (const Impl::Point& point : impl_->points) {
        total += (point.state.mutable_part.size() + point.logits.size()) * sizeof(float);
    }
    return total;
}

void Session::Impl::check_room(std::int64_t n) const {
    const auto used = static_cast<std::int64_t>(tokens.size());
    if (used + n <= context) return;
    std::string message =
        std::to_string(n) + " tokens do not fit: the context holds " + std::to_string(context);
    if (used > 0) message += " and " + std::to_string(used) + " are used";
    throw ContextError(message + "; use a larger --ctx or a shorter prompt");
}

void Session::Impl::mark_sometimes() {
    const std::int64_t last = points.empty() ? 0 : points.back().state.n_tokens;
    if (kv->n_tokens() - last >= kPointTokens) mark();
}

void Session::Impl::mark() {
    if (kv->n_tokens() == 0) return;  // the empty session needs no memory
    if (!points.empty() && points.back().state.n_tokens == kv->n_tokens()) return;
    if (points.size() == kMaxPoints) points.pop_front();
    points.push_back({kv->snapshot(), logits});
}

void Session::mark() {
    impl_->mark();
}

std::int64_t Session::append(std::span<const TokenId> tokens, const AppendOptions& options) {
    const auto total = static_cast<std::int64_t>(tokens.size());
    impl_->check_room(total);
    std::int64_t done = 0;
    // A single token is a decode step: its way back is the point of the append before.
    if (total > 1) mark();
    while (done < total) {
        const std::int64_t n = std::min(total - done, impl_->engine.max_batch());
        const Engine::Work work{this,
                                tokens.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(n)),
                                options.on_logits ? &options.on_logits : nullptr};
        impl_->engine.step({&work, 1});
        done += n;
        if (options.progress && !options.progress(done, total)) break;
    }
    return done;
}

std::int64_t Session::rewind(std::int64_t n) {
    if (n < 0 || n > n_tokens()) {
        throw Error("cannot rewind a session of " + std::to_string(n_tokens()) + " tokens to " +
                    std::to_string(n));
    }
    if (n == n_tokens()) return n;
    auto& points = impl_->points;
    while (!points.empty() && points.back().state.n_tokens > n) points.pop_back();
    if (points.empty()) {
        impl_->kv->clear();
        impl_->logits.clear();
    } else {
        impl_->kv->restore(points.back().state);
        impl_->logits = points.back().logits;
    }
    impl_->tokens.resize(static_cast<std::size_t>(impl_->kv->n_tokens()));
    return n_tokens();
}

void Session::truncate(std::int64_t n) {
    const std::vector<TokenId> all = impl_->tokens;
    const std::int64_t kept = rewind(n);
    append(std::span(all).subspan(static_cast<std::size_t>(kept), static_cast<std::size_t>(n - kept)));
}

}  // namespace ds4
