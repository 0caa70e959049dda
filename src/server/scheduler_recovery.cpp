// What happens when the GPU has failed: everything that lived there is gone.
#include <algorithm>
#include <utility>

#include "server/log.h"
#include "server/scheduler.h"

namespace ds4::server {
namespace {

ApiError gpu_failed() {
    return {ErrorKind::unavailable, "The GPU failed and is being restarted. Try again."};
}

}  // namespace

Health Scheduler::health() const {
    const std::lock_guard lock(mutex_);
    return health_;
}

void Scheduler::set_health(Health health) {
    const std::lock_guard lock(mutex_);
    health_ = health;
}

// Who runs is told to come again.
void Scheduler::recover(const std::string& why) {
    log::error("GPU failed", {{"error", why}});
    set_health(Health::restarting);
    drop_sessions();
    publish_status();
    try {
        restart_until_it_works();
    } catch (const DeviceLostError& error) {
        give_up(error.what());
    }
}

// Who waits in the queue waits on, but only for a try that is made at once:
// nobody knows how long more take. A GPU that opens and fails at its next step waits longer each time, too.
void Scheduler::restart_until_it_works() {
    const auto begin = options_.now();
    bool is_up = restarts_.is_fresh(begin) && try_restart();
    while (!is_up) {
        set_health(Health::down);
        fail_queued(gpu_failed());
        if (!sleep(restarts_.next(options_.now()))) return;
        is_up = try_restart();
    }
    const auto end = options_.now();
    restarts_.works(end);
    set_health(Health::ok);
    log::info("GPU restarted", {{"seconds", std::chrono::duration<double>(end - begin).count()}});
    publish_status();
}

// Also what the disk's threads hold: what they could not read or write is lost.
void Scheduler::drop_sessions() {
    const ApiError failure = gpu_failed();
    for (Slot& slot : slots_) {
        const auto job = slot.job;
        forget_job(slot);
        slot.session.reset();
        slot.visible.reset();
        slot.n_saved = 0;
        if (job != nullptr && !job->is_cancelled()) job->on_end(&failure);
    }
    parked_.clear();
    if (!checkpointer_.has_disk()) return;
    checkpointer_.disk().finish_reading();
    checkpointer_.disk().flush();
}

bool Scheduler::try_restart() {
    try {
        engine_.restart();
        kv_limit_ = options_.kv_bytes;
        lower_until_ = {};
        for (Slot& slot : slots_) slot.session = engine_.new_session(options_.context);
        return true;
    } catch (const DeviceLostError&) {
        throw;  // trying again is no use
    } catch (const std::exception& error) {
        for (Slot& slot : slots_) slot.session.reset();
        log::error("GPU does not restart", {{"error", error.what()}});
        return false;
    }
}

// Nothing is left to do but to refuse what comes until the owner stops us.
void Scheduler::give_up(const std::string& why) {
    log::error("GPU lost", {{"error", why}});
    set_health(Health::down);
    fail_queued(gpu_failed());
    options_.on_device_lost();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return is_cut_; });
}

// False: the server shuts down.
bool Scheduler::sleep(std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    return !changed_.wait_for(lock, time, [this] { return is_cut_; });
}

void Scheduler::fail_queued(const ApiError& failure) {
    std::deque<Queued> waiting;
    {
        const std::lock_guard lock(mutex_);
        waiting.swap(queue_);
    }
    for (const Queued& queued : waiting) {
        if (!queued.job->is_cancelled()) queued.job->on_end(&failure);
    }
}

}  // namespace ds4::server
