// How jobs get into slots and out of them again.
#include <algorithm>
#include <tuple>
#include <utility>

#include "server/log.h"
#include "server/scheduler.h"

namespace ds4::server {
namespace {

// A job lets so many later ones of its priority pass that can go on with what is in memory.
constexpr int kMaxOvertaken = 4;
// Of the queue's head, where one is looked for.
constexpr std::size_t kLookAhead = 8;
// A shorter beginning is computed again as quickly as it is fetched.
constexpr std::int64_t kWorthAPoint = 64;
// Tokens of an answer that are asked room for in advance.
constexpr std::int64_t kAnswerTokens = 512;

}  // namespace

void Scheduler::drop_cancelled() {
    for (Slot& slot : slots_) {
        if (slot.job != nullptr && slot.job->is_cancelled()) leave(slot);
    }
    const std::lock_guard lock(mutex_);
    std::erase_if(queue_, [](const Queued& queued) { return queued.job->is_cancelled(); });
}

// ---- the queue ----

bool Scheduler::can_go_on_at_once(const Job& job) const {
    const auto goes_on = [&](std::span<const TokenId> tokens) {
        return !tokens.empty() && job.n_kept(tokens) == tokens.size();
    };
    const auto in_slot = [&](const Slot& s) { return s.job == nullptr && goes_on(s.session->tokens()); };
    return std::any_of(slots_.begin(), slots_.end(), in_slot) ||
           std::any_of(parked_.all().begin(), parked_.all().end(),
                       [&](const Conversation& c) { return goes_on(c.tokens); });
}

// By priority; within one the first, or one close behind it whose conversation is in memory: it is quick, and
// what it needs may be gone later. The caller holds the lock.
std::size_t Scheduler::choose_queued() const {
    const auto first = std::min_element(queue_.begin(), queue_.end(), [](const Queued& a, const Queued& b) {
        return a.job->priority() < b.job->priority();
    });
    const auto index = static_cast<std::size_t>(first - queue_.begin());
    if (queue_.size() == 1 || first->n_overtaken >= kMaxOvertaken) return index;
    for (std::size_t i = index; i < std::min(queue_.size(), index + kLookAhead); ++i) {
        if (queue_[i].job->priority() == first->job->priority() && can_go_on_at_once(*queue_[i].job))
            return i;
    }
    return index;
}

std::shared_ptr<Job> Scheduler::take_queued() {
    const std::lock_guard lock(mutex_);
    if (queue_.empty()) return nullptr;
    const std::size_t chosen = choose_queued();
    auto job = std::move(queue_[chosen].job);
    queue_.erase(queue_.begin() + static_cast<std::ptrdiff_t>(chosen));
    for (std::size_t i = 0; i < chosen; ++i) {
        if (queue_[i].job->priority() <= job->priority()) ++queue_[i].n_overtaken;
    }
    return job;
}

void Scheduler::admit() {
    while (free_slot() != nullptr) {
        auto job = take_queued();
        if (job == nullptr) return;
        if (job->is_cancelled()) continue;
        const Source source = find_source(*job);
        if (!has_memory_for(*job, source)) {
            const std::lock_guard lock(mutex_);
            queue_.push_front({std::move(job)});
            return;
        }
        if (!await_leader(job, source)) place(std::move(job), source);
    }
}

// Whether it can be answered without driving out those who are being answered. Alone it always can.
bool Scheduler::has_memory_for(const Job& job, const Source& source) {
    std::size_t needed = engine_.kv_bytes_for(job.n_prompt() + kAnswerTokens);
    const bool shares = source.reuse.n_points > 0 || source.slot != nullptr;
    const auto shared_bytes = [&](std::int64_t n) {
        return engine_.kv_bytes_for(n) - engine_.kv_bytes_for(0);
    };
    if (shares) needed -= std::min(needed, shared_bytes(source.reuse.n_tokens));
    bool is_alone = true;
    for (const Slot& slot : slots_) {
        if (slot.job == nullptr) continue;
        is_alone = false;
        const auto n =
            std::max<std::int64_t>(slot.session->n_tokens(), static_cast<std::int64_t>(slot.target.size()));
        needed += engine_.kv_bytes_for(n + kAnswerTokens) - shared_bytes(slot.n_shared);
    }
    return is_alone || needed <= kv_limit_;
}

// ---- where to go on from ----

Scheduler::Source Scheduler::find_source(const Job& job) {
    Source best;
    for (Slot& slot : slots_) {
        const bool is_free = slot.job == nullptr;
        const Reuse reuse =
            find_reuse(job, slot.session->tokens(), slot.session->points(), slot.visible, is_free);
        // Of equal ones the free slot's own end costs nothing.
        const auto worth = [](const Reuse& r) { return std::pair(r.n_tokens, r.n_points == 0); };
        if (reuse.n_tokens > 0 && worth(reuse) > worth(best.reuse)) best = {&slot, nullptr, reuse};
    }
    Reuse reuse;
    if (Conversation* parked = parked_.find(job, best.reuse.n_tokens, reuse)) best = {nullptr, parked, reuse};
    return best;
}

// ---- who start together with the same text ----

// Together they would compute it several times, each with a share of the machine. The leader remembers the
// place where they part.
bool Scheduler::await_leader(const std::shared_ptr<Job>& job, const Source& source) {
    if (job->prompt_observer()) return false;
    Slot* leader = nullptr;
    std::int64_t n_shared = source.reuse.n_tokens + kWorthAPoint - 1;
    for (Slot& slot : slots_) {
        if (!slot.is_active() || !slot.is_prefilling()) continue;
        const auto n = static_cast<std::int64_t>(job->n_kept(slot.target));
        if (n <= n_shared || n <= slot.session->n_tokens()) continue;
        leader = &slot;
        n_shared = n;
    }
    if (leader == nullptr) return false;
    const auto stop = std::lower_bound(leader->stops.begin(), leader->stops.end(), n_shared);
    if (stop == leader->stops.end() || *stop != n_shared) leader->stops.insert(stop, n_shared);
    Slot& slot = *free_slot();
    slot.job = job;
    slot.leader = leader->job;
    slot.n_awaited = n_shared;
    is_changed_ = true;
    return true;
}

bool Scheduler::is_ahead(const Job& leader, std::int64_t n_awaited) const {
    return std::any_of(slots_.begin(), slots_.end(), [&](const Slot& slot) {
        return slot.job.get() == &leader && slot.is_active() && slot.is_prefilling() &&
               slot.session->n_tokens() < n_awaited;
    });
}

// Those whose leader is there, or has left.
void Scheduler::release_followers() {
    for (Slot& slot : slots_) {
        if (slot.leader == nullptr || is_ahead(*slot.leader, slot.n_awaited)) continue;
        slot.leader = nullptr;
        auto job = std::exchange(slot.job, nullptr);
        const Source source = find_source(*job);
        if (!await_leader(job, source)) place(std::move(job), source);
    }
}

// An empty one, or the one unused for longest.
Slot* Scheduler::free_slot() {
    Slot* best = nullptr;
    const auto worth = [](const Slot& slot) {
        return std::pair(slot.session->n_tokens() == 0, -slot.last_used);
    };
    for (Slot& slot : slots_) {
        if (slot.job != nullptr) continue;
        if (best == nullptr || worth(slot) > worth(*best)) best = &slot;
    }
    return best;
}

// The conversation that was here is parked.
void Scheduler::replace_session(Slot& slot, std::span<const CheckpointPtr> points) {
    if (slot.session->n_tokens() > 0) {
        const CheckpointPtr end = slot.session->mark();
        checkpointer_.save_end(end, slot.n_saved, slot.visible, kv::Reason::evict);
        const auto tokens = slot.session->tokens();
        const auto kept = slot.session->points();
        parked_.add(
            {{tokens.begin(), tokens.end()}, {kept.begin(), kept.end()}, slot.visible, slot.last_used});
    }
    slot.session = make_session(points);
    slot.visible.reset();
    slot.n_saved = 0;
}

void Scheduler::place(std::shared_ptr<Job> job, const Source& source) {
    const bool observes = static_cast<bool>(job->prompt_observer());
    const bool stays = source.slot != nullptr && source.reuse.n_points == 0;
    Slot& slot = stays ? *source.slot : *free_slot();
    slot.job = std::move(job);
    slot.last_used = ++n_admitted_;
    is_changed_ = true;
    guarded(slot, [&] {
        if (observes || source.reuse.n_tokens == 0) {
            slot.target = slot.job->prompt({}).tokens;
            replace_session(slot, {});
        } else if (stays) {
            slot.target = prompt_tokens(*slot.job, slot.session->tokens(), source.reuse);
            slot.visible.reset();
        } else {
            const auto tokens = source.slot != nullptr ? source.slot->session->tokens()
                                                       : std::span(std::as_const(source.parked->tokens));
            const auto points = source.slot != nullptr ? source.slot->session->points()
                                                       : std::span(std::as_const(source.parked->points));
            slot.target = prompt_tokens(*slot.job, tokens, source.reuse);
            const std::vector<CheckpointPtr> kept(
                points.begin(), points.begin() + static_cast<std::ptrdiff_t>(source.reuse.n_points));
            // Gone on with, it is the slot's.
            const bool moves = source.parked != nullptr && source.reuse.n_points == points.size();
            if (moves) parked_.remove(source.parked);
            replace_session(slot, kept);
            slot.n_shared = moves ? 0 : source.reuse.n_tokens;
        }
        if (!observes) slot.found = checkpointer_.find(*slot.job, slot.session->n_tokens());
        if (slot.found.empty()) {
            start(slot);
        } else {
            read_from_disk(slot);
        }
    });
}

// ---- from the disk ----

void Scheduler::read_from_disk(Slot& slot) {
    slot.reading = checkpointer_.disk().read(slot.found.front(), [this] { wake(); });
}

void Scheduler::take_readings() {
    for (Slot& slot : slots_) {
        if (slot.reading == nullptr || !slot.reading->is_done) continue;
        is_changed_ = true;
        const auto reading = std::exchange(slot.reading, nullptr);
        const kv::Store::Found found = std::move(slot.found.front());
        slot.found.pop_front();
        guarded(slot, [&] {
            const bool is_used = reading->loaded && use_loaded(slot, found, *reading->loaded);
            if (is_used || slot.found.empty()) {
                slot.found.clear();
                start(slot);
            } else {
                read_from_disk(slot);
            }
        });
    }
}

bool Scheduler::use_loaded(Slot& slot, const kv::Store::Found& found, const kv::Store::Loaded& loaded) {
    const std::vector<TokenId> tokens = loaded.points.back()->tokens();
    Reuse reuse{found.n_tokens, loaded.points.size(), 0};
    if (found.kind != kv::KeyKind::tokens) {
        reuse.visible_bytes = found.key_bytes;
        if (!slot.job->tokens_after(found.key_bytes)) return false;
    } else if (slot.job->n_kept(tokens) != tokens.size()) {
        // The same bytes, but other tokens: control tokens where the prompt has text, or the reverse.
        return false;
    }
    slot.target = prompt_tokens(*slot.job, tokens, reuse);
    replace_session(slot, loaded.points);
    slot.n_saved = found.n_tokens;
    slot.restored = found;
    return true;
}

// ---- a job's time in its slot ----

void Scheduler::start(Slot& slot) {
    const Job& job = *slot.job;
    slot.prompt_observer = slot.job->prompt_observer();
    slot.n_prompt = static_cast<std::int64_t>(slot.target.size());
    slot.n_cached = slot.session->n_tokens();
    const std::int64_t anchor = job.anchor(slot.target);
    slot.cold_length = slot.n_cached == 0 ? checkpointer_.policy().cold_length(slot.n_prompt, anchor) : 0;
    slot.stops = {slot.cold_length, job.fork_point(slot.n_prompt)};
    if (anchor >= kWorthAPoint) slot.stops.push_back(anchor);
    std::erase_if(slot.stops, [&](std::int64_t n) { return n <= slot.n_cached; });
    std::sort(slot.stops.begin(), slot.stops.end());
    slot.job->on_start(slot.n_prompt, slot.n_cached);
}

void Scheduler::finish(Slot& slot, const ApiError* failure) {
    if (failure == nullptr && slot.job->starts_another()) {
        slot.target = slot.job->prompt(slot.session->tokens()).tokens;
        slot.session->rewind(slot.n_prompt);
        slot.n_saved = std::min(slot.n_saved, slot.n_prompt);
        start(slot);
        return;
    }
    const auto job = slot.job;
    if (failure == nullptr) {
        const auto tokens = slot.session->tokens();
        const auto n_prompt = std::min(tokens.size(), static_cast<std::size_t>(slot.n_prompt));
        slot.visible = job->visible_text(tokens.subspan(n_prompt));
    }
    leave(slot);
    job->on_end(failure);
}

// The session stays as it is, to be gone on with.
void Scheduler::leave(Slot& slot) {
    slot.session->mark();
    forget_job(slot);
}

void Scheduler::forget_job(Slot& slot) {
    slot.job = nullptr;
    slot.target.clear();
    slot.stops.clear();
    slot.leader = nullptr;
    slot.found.clear();
    slot.reading = nullptr;
    slot.restored.reset();
    slot.prompt_observer = nullptr;
    slot.is_stalled = false;
    slot.n_shared = 0;
    is_changed_ = true;
}

}  // namespace ds4::server
