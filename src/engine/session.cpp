#include <algorithm>
#include <limits>
#include <string>

#include "engine/engine_impl.h"
#include "engine/session_impl.h"

namespace ds4 {

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::~Session() = default;

std::span<const TokenId> Session::tokens() const {
    return impl_->kv->tokens();
}
std::int64_t Session::context() const {
    return impl_->context;
}
std::span<const float> Session::logits() const {
    impl_->fetch_logits();
    return impl_->logits;
}

TokenId Session::best() const {
    return impl_->best ? *impl_->best : sample(logits(), Sampling{.temperature = 0}, 0);
}

void Session::Impl::fetch_logits() {
    if (!has_left_logits) return;
    const std::lock_guard lock(engine.impl_->step_mutex);
    engine.impl_->fetch_logits(*this);
}

void Session::Impl::forget_logits() {
    best.reset();
    if (!has_left_logits) return;
    const std::lock_guard lock(engine.impl_->step_mutex);
    far_logits = nullptr;
    std::erase(engine.impl_->far_sessions, this);
}

std::span<const CheckpointPtr> Session::points() const {
    return impl_->points;
}

std::size_t Session::bytes() const {
    std::size_t total = impl_->kv->bytes();
    for (const CheckpointPtr& point : impl_->points) total += point->bytes();
    return total;
}

void Session::Impl::check_room(std::int64_t n) const {
    const auto used = kv->n_tokens();
    if (used + n <= context) return;
    std::string message =
        std::to_string(n) + " tokens do not fit: the context holds " + std::to_string(context);
    if (used > 0) message += " and " + std::to_string(used) + " are used";
    throw ContextError(message + "; use a larger --ctx or a shorter prompt");
}

void Session::Impl::mark_sometimes() {
    const std::int64_t last = points.empty() ? 0 : points.back()->n_tokens();
    const std::int64_t n = kv->n_tokens();
    const bool is_cheap = n % kCheapPoint == 0;
    if (n - last < (is_cheap ? kPointTokens : kMostPointTokens)) return;
    engine.impl_->fetch_logits(*this);
    mark();
}

void Session::Impl::mark() {
    if (kv->n_tokens() == 0) return;  // the empty session needs no memory
    if (!points.empty() && points.back()->n_tokens() == kv->n_tokens()) return;
    Engine::Impl& e = *engine.impl_;
    auto impl = std::make_unique<Checkpoint::Impl>(
        Checkpoint::Impl{e, kv->checkpoint(), logits, KvBytes(e.meter, logits.size() * sizeof(float))});
    points.push_back(CheckpointPtr(new Checkpoint(std::move(impl))));
    thin_points(kMaxPoints);
}

// The gap that a lost point leaves hurts a session the less the farther back it is. The last point stays.
void Session::Impl::thin_points(std::size_t n) {
    while (points.size() > std::max<std::size_t>(n, 1)) {
        std::size_t least = 0;
        double least_harm = std::numeric_limits<double>::infinity();
        for (std::size_t i = 0; i + 1 < points.size(); ++i) {
            const std::int64_t before = i == 0 ? 0 : points[i - 1]->n_tokens();
            const auto gap = static_cast<double>(points[i + 1]->n_tokens() - before);
            const auto distance = static_cast<double>(points.back()->n_tokens() - before);
            if (gap / distance >= least_harm) continue;
            least_harm = gap / distance;
            least = i;
        }
        points.erase(points.begin() + static_cast<std::ptrdiff_t>(least));
    }
}

CheckpointPtr Session::mark() {
    impl_->fetch_logits();
    impl_->mark();
    return n_tokens() == 0 ? nullptr : impl_->points.back();
}

void Session::keep_points(std::size_t n) {
    impl_->thin_points(n);
}

std::int64_t Session::append(std::span<const TokenId> tokens, const AppendOptions& options) {
    const auto total = static_cast<std::int64_t>(tokens.size());
    impl_->check_room(total);
    std::int64_t done = 0;
    // A single token is a decode step: its way back is the point of the append before.
    if (total > 1) mark();
    while (done < total) {
        const std::int64_t n = std::min(total - done, impl_->engine.max_batch());
        const Engine::Work work{
            this, tokens.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(n)),
            options.on_logits ? &options.on_logits : nullptr, options.is_generated, options.wants_best};
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
    if (n == n_tokens() && n > 0) return n;  // an empty one may hold what a failed step has left
    auto& points = impl_->points;
    while (!points.empty() && points.back()->n_tokens() > n) points.pop_back();
    impl_->forget_logits();
    if (points.empty()) {
        impl_->kv->clear();
        impl_->logits.clear();
    } else {
        impl_->kv->restore(points.back()->impl_->kv);
        impl_->logits = points.back()->impl_->logits;
    }
    return n_tokens();
}

void Session::truncate(std::int64_t n) {
    const std::vector<TokenId> all(tokens().begin(), tokens().end());
    const std::int64_t kept = rewind(n);
    append(std::span(all).subspan(static_cast<std::size_t>(kept), static_cast<std::size_t>(n - kept)));
}

}  // namespace ds4
