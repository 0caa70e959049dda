// How the KV state of everybody stays within its budget.
#include <algorithm>
#include <utility>

#include "server/log.h"
#include "server/scheduler.h"

namespace ds4::server {
namespace {

// Points that an active session keeps when memory is short: its end and one to go back to.
constexpr std::size_t kFewPoints = 2;

}  // namespace

std::size_t Scheduler::growth(std::span<const Engine::Work> work) const {
    std::size_t bytes = 0;
    for (const Engine::Work& w : work) {
        const std::int64_t n = w.session->n_tokens();
        bytes +=
            engine_.kv_bytes_for(n + static_cast<std::int64_t>(w.tokens.size())) - engine_.kv_bytes_for(n);
    }
    return bytes;
}

// From what is missed least: parked conversations, those of free slots, places to go back to.
bool Scheduler::make_room(std::size_t bytes) {
    while (engine_.kv_bytes() + bytes > kv_limit_) {
        if (free_something()) continue;
        // Checkpoints on their way to the disk hold memory, too.
        if (!checkpointer_.has_disk() || checkpointer_.disk().totals().n_waiting == 0) return false;
        checkpointer_.disk().flush();
    }
    return true;
}

bool Scheduler::free_something() {
    return parked_.shrink() || drop_idle_session() || thin_points();
}

bool Scheduler::drop_idle_session() {
    Slot* oldest = nullptr;
    for (Slot& slot : slots_) {
        if (slot.job != nullptr || slot.session->n_tokens() == 0) continue;
        if (oldest == nullptr || slot.last_used < oldest->last_used) oldest = &slot;
    }
    if (oldest == nullptr) return false;
    checkpointer_.save_end(oldest->session->mark(), oldest->n_saved, oldest->visible, kv::Reason::evict);
    oldest->session->rewind(0);
    oldest->visible.reset();
    oldest->n_saved = 0;
    is_changed_ = true;
    return true;
}

bool Scheduler::thin_points() {
    Slot* most = nullptr;
    for (Slot& slot : slots_) {
        if (slot.session->points().size() <= kFewPoints) continue;
        if (most == nullptr || slot.session->points().size() > most->session->points().size()) most = &slot;
    }
    if (most == nullptr) return false;
    most->session->keep_points(kFewPoints);
    return true;
}

// Gives up its state and computes it again when there is room: the same tokens give the same state.
void Scheduler::stall(Slot& slot, std::span<const Engine::Work> work) {
    log::warning("waits for memory", {{"request", slot.job->id()}, {"tokens", slot.session->n_tokens()}});
    const auto tokens = slot.session->tokens();
    if (!slot.is_prefilling()) {
        slot.target.assign(tokens.begin(), tokens.end());
        for (const Engine::Work& w : work) {
            // Chosen already, and about to be appended.
            if (w.session == slot.session.get())
                slot.target.insert(slot.target.end(), w.tokens.begin(), w.tokens.end());
        }
    }
    slot.session->rewind(0);
    slot.n_shared = slot.n_saved = 0;
    slot.is_stalled = true;
    is_changed_ = true;
}

// False: nobody is left but one.
bool Scheduler::stall_youngest(std::vector<Engine::Work>& work) {
    Slot* youngest = nullptr;
    int n_active = 0;
    for (Slot& slot : slots_) {
        if (!slot.is_active()) continue;
        ++n_active;
        if (youngest == nullptr || slot.last_used > youngest->last_used) youngest = &slot;
    }
    if (n_active <= 1) return false;
    Session* const session = youngest->session.get();
    stall(*youngest, work);
    std::erase_if(work, [&](const Engine::Work& w) { return w.session == session; });
    return true;
}

// Takes the youngest out of the step until the rest fits. The oldest always does: the budget holds a session.
void Scheduler::fit_into_memory(std::vector<Engine::Work>& work) {
    while (!make_room(growth(work))) {
        if (!stall_youngest(work)) return;
    }
}

// ---- where a GPU has less memory than the budget says ----

std::unique_ptr<Session> Scheduler::make_session(std::span<const CheckpointPtr> points) {
    while (true) {
        try {
            return engine_.resume(points, options_.context);
        } catch (const DeviceMemoryError&) {
            if (!free_something()) throw;
        }
    }
}

void Scheduler::step_in_memory(std::vector<Engine::Work>& work) {
    while (!work.empty()) {
        try {
            return engine_.step(work);
        } catch (const DeviceMemoryError&) {
            if (free_something()) continue;
            lower_limit();
            if (!stall_youngest(work)) throw;
        }
    }
}

// So that nobody tries in vain. But what filled the GPU may have been the working memory of one large step,
// or another program, so after a while somebody tries: that costs one answer a prefill.
void Scheduler::lower_limit() {
    kv_limit_ = std::min(kv_limit_, engine_.kv_bytes());
    const auto now = options_.now();
    if (now >= lower_until_) lower_until_ = now + shortages_.next(now);
}

void Scheduler::raise_limit() {
    if (kv_limit_ == options_.kv_bytes) return;
    const auto now = options_.now();
    if (now < lower_until_) return;
    kv_limit_ = options_.kv_bytes;
    shortages_.works(now);
}

void Scheduler::resume_stalled() {
    Slot* oldest = nullptr;
    bool is_alone = true;
    for (Slot& slot : slots_) {
        is_alone = is_alone && !slot.is_active();
        if (slot.is_stalled && (oldest == nullptr || slot.last_used < oldest->last_used)) oldest = &slot;
    }
    if (oldest == nullptr) return;
    const auto n =
        std::min(options_.context, static_cast<std::int64_t>(oldest->target.size()) + engine_.max_batch());
    if (is_alone || make_room(engine_.kv_bytes_for(n))) {
        oldest->is_stalled = false;
        is_changed_ = true;
    }
}

}  // namespace ds4::server
