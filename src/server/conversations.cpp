#include "server/conversations.h"

#include <algorithm>
#include <utility>

namespace ds4::server {
namespace {

bool begins_with(const chat::PromptText& prompt, const chat::PromptText& start) {
    const std::size_t n = start.text.size();
    // A string of a control token in plain text must be in both or in neither.
    const bool has_forged = start.forged_end <= n, prompt_has_forged = prompt.forged_end <= n;
    return prompt.text.starts_with(start.text) && has_forged == prompt_has_forged &&
           (!has_forged || start.forged_end == prompt.forged_end);
}

}  // namespace

Reuse find_reuse(const Job& job, std::span<const TokenId> tokens, std::span<const CheckpointPtr> points,
                 const std::optional<VisibleText>& visible, bool live_end) {
    const auto all = static_cast<std::int64_t>(tokens.size());
    const bool has_end_point = !points.empty() && points.back()->n_tokens() == all;
    const auto whole = [&](std::size_t visible_bytes) {
        return Reuse{all, live_end ? 0 : points.size(), visible_bytes};
    };
    const auto n = static_cast<std::int64_t>(job.n_kept(tokens));
    const bool can_use_end = live_end || has_end_point;
    if (n == all && can_use_end) return whole(0);
    if (visible && can_use_end && begins_with(job.text(), visible->prompt) &&
        job.tokens_after(visible->prompt.text.size())) {
        return whole(visible->prompt.text.size());
    }
    const auto after =
        std::upper_bound(points.begin(), points.end(), n,
                         [](std::int64_t m, const CheckpointPtr& p) { return m < p->n_tokens(); });
    if (after == points.begin()) return {};
    return {after[-1]->n_tokens(), static_cast<std::size_t>(after - points.begin()), 0};
}

std::vector<TokenId> prompt_tokens(const Job& job, std::span<const TokenId> tokens, const Reuse& reuse) {
    if (reuse.visible_bytes == 0) return job.prompt(tokens).tokens;
    std::vector<TokenId> all(tokens.begin(), tokens.end());
    const auto more = job.tokens_after(reuse.visible_bytes);
    if (more) all.insert(all.end(), more->begin(), more->end());
    return all;
}

void ParkedConversations::add(Conversation conversation) {
    std::erase_if(parked_, [&](const Conversation& c) { return c.tokens == conversation.tokens; });
    parked_.push_front(std::move(conversation));
}

Conversation* ParkedConversations::find(const Job& job, std::int64_t least, Reuse& reuse) {
    Conversation* best = nullptr;
    for (Conversation& c : parked_) {
        const Reuse candidate = find_reuse(job, c.tokens, c.points, c.visible, false);
        if (candidate.n_tokens <= least) continue;
        least = candidate.n_tokens;
        reuse = candidate;
        best = &c;
    }
    return best;
}

void ParkedConversations::remove(const Conversation* conversation) {
    parked_.remove_if([&](const Conversation& c) { return &c == conversation; });
}

bool ParkedConversations::shrink() {
    if (parked_.empty()) return false;
    Conversation& oldest = parked_.back();
    if (oldest.points.size() > 1) {
        oldest.points.erase(oldest.points.begin(), oldest.points.end() - 1);
    } else {
        parked_.pop_back();
    }
    return true;
}

}  // namespace ds4::server
