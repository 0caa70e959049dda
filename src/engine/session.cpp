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
    for (const KvState::Snapshot& s : impl_->snapshots) total += s.mutable_part.size() * sizeof(float);
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

void Session::Impl::take_snapshot() {
    if (kv->n_tokens() == 0) return;  // an empty state needs no snapshot
    if (!snapshots.empty() && snapshots.back().n_tokens == kv->n_tokens()) return;
    if (snapshots.size() == kMaxSnapshots) snapshots.pop_front();
    snapshots.push_back(kv->snapshot());
}

std::int64_t Session::append(std::span<const TokenId> tokens, const AppendOptions& options) {
    const auto total = static_cast<std::int64_t>(tokens.size());
    impl_->check_room(total);
    std::int64_t done = 0;
    // A single token is a decode step: its way back is the snapshot of the append before.
    if (total > 1) impl_->take_snapshot();
    while (done < total) {
        const std::int64_t n = std::min(total - done, impl_->engine.max_batch());
        const Engine::Work work{this,
                                tokens.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(n))};
        impl_->engine.step_with({&work, 1}, options.on_logits ? &options.on_logits : nullptr);
        done += n;
        const std::int64_t last = impl_->snapshots.empty() ? 0 : impl_->snapshots.back().n_tokens;
        if (n_tokens() - last >= Impl::kSnapshotTokens) impl_->take_snapshot();
        if (options.progress && !options.progress(done, total)) break;
    }
    return done;
}

void Session::truncate(std::int64_t n) {
    if (n < 0 || n > n_tokens()) {
        throw Error("cannot truncate a session of " + std::to_string(n_tokens()) + " tokens to " +
                    std::to_string(n));
    }
    if (n == n_tokens()) return;
    auto& snapshots = impl_->snapshots;
    // A snapshot at n itself would restore the state but not the logits, so the last token is always
    // recomputed.
    while (!snapshots.empty() && snapshots.back().n_tokens >= n) snapshots.pop_back();
    if (snapshots.empty()) {
        impl_->kv->clear();
    } else {
        impl_->kv->restore(snapshots.back());
    }
    const std::vector<TokenId> again(impl_->tokens.begin() + impl_->kv->n_tokens(),
                                     impl_->tokens.begin() + n);
    impl_->tokens.resize(static_cast<std::size_t>(impl_->kv->n_tokens()));
    impl_->logits.clear();
    append(again);
}

}  // namespace ds4
