#include "server/scheduler.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "server/log.h"

namespace ds4::server {
namespace {

using Clock = std::chrono::steady_clock;

// How old the status of a running job may be.
constexpr std::chrono::milliseconds kStatusInterval{50};

constexpr std::chrono::milliseconds kLongestRestartWait{60'000};
constexpr std::chrono::milliseconds kLongestMemoryWait{300'000};

ApiError shutting_down() {
    return {ErrorKind::unavailable, "The server is shutting down. Try again later."};
}

ApiError gpu_down() {
    return {ErrorKind::unavailable, "The GPU failed and could not be restarted yet. Try again later."};
}

std::string megabytes(std::size_t bytes) {
    return std::to_string((bytes + (std::size_t{1} << 20) - 1) >> 20);
}

// More gain little: choosing from a model's logits takes some 20 to 300 us.
constexpr int kMostSamplingThreads = 8;

int sampling_threads(const Engine& engine, const SchedulerOptions& options) {
    if (options.sampling_threads > 0) return options.sampling_threads;
    if (!engine.has_device_memory()) return 1;
    const int n_cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    return std::min({kMostSamplingThreads, n_cores, options.n_slots});
}

SchedulerStatus::Slot::Phase phase_of(const Slot& slot) {
    using Phase = SchedulerStatus::Slot::Phase;
    if (slot.job == nullptr) return Phase::free;
    if (slot.reading != nullptr) return Phase::reading;
    if (slot.is_stalled || slot.leader != nullptr) return Phase::waiting;
    return slot.is_prefilling() ? Phase::prefill : Phase::decode;
}

}  // namespace

Scheduler::Scheduler(Engine& engine, const SchedulerOptions& options, Checkpointer& checkpointer,
                     std::function<void(const StepReport&)> on_step)
    : engine_(engine),
      options_(options),
      checkpointer_(checkpointer),
      on_step_(std::move(on_step)),
      sampling_pool_(sampling_threads(engine, options)),
      kv_limit_(options.kv_bytes),
      shortages_(options.memory_wait, kLongestMemoryWait),
      restarts_(options.restart_wait, kLongestRestartWait) {
    const std::size_t least = engine.kv_bytes_for(options.context);
    if (options.kv_bytes < least) {
        throw Error("--kv-ram-mb " + megabytes(options.kv_bytes) + " holds no session of --ctx " +
                    std::to_string(options.context) + ", which needs " + megabytes(least) +
                    "; raise the one or lower the other");
    }
    for (int i = 0; i < options.n_slots; ++i) {
        slots_.emplace_back();
        slots_.back().session = engine.new_session(options.context);
    }
    publish_status();
    thread_ = std::thread([this] { run(); });
}

Scheduler::~Scheduler() {
    stop(std::chrono::milliseconds(0));
}

void Scheduler::submit(std::shared_ptr<Job> job) {
    {
        const std::lock_guard lock(mutex_);
        if (is_stopping_) throw shutting_down();
        if (health_ == Health::down) throw gpu_down();
        if (queue_.size() >= options_.max_queue) {
            throw ApiError(
                ErrorKind::queue_full,
                "The request queue is full (" + std::to_string(options_.max_queue) + "). Try again later.");
        }
        queue_.push_back({std::move(job)});
    }
    wake();
}

void Scheduler::wake() {
    {
        const std::lock_guard lock(mutex_);
        ++n_wakes_;
    }
    changed_.notify_all();
}

SchedulerStatus Scheduler::status() const {
    const std::lock_guard lock(mutex_);
    SchedulerStatus status = status_;
    status.n_queued = queue_.size();
    status.kv_bytes = engine_.kv_bytes();
    if (checkpointer_.has_disk()) status.disk = checkpointer_.disk().totals();
    return status;
}

std::size_t Scheduler::n_queued() const {
    const std::lock_guard lock(mutex_);
    return queue_.size();
}

bool Scheduler::is_busy() const {
    const std::lock_guard lock(mutex_);
    return !queue_.empty() ||
           std::any_of(status_.slots.begin(), status_.slots.end(),
                       [](const SchedulerStatus::Slot& slot) { return !slot.job.empty(); });
}

void Scheduler::stop(std::chrono::milliseconds grace) {
    if (!thread_.joinable()) return;
    {
        std::unique_lock lock(mutex_);
        is_stopping_ = true;
        changed_.notify_all();
        changed_.wait_for(lock, grace, [this] {
            return queue_.empty() && std::none_of(status_.slots.begin(), status_.slots.end(),
                                                  [](const auto& slot) { return !slot.job.empty(); });
        });
        is_cut_ = true;
    }
    wake();
    thread_.join();
}

void Scheduler::run() {
    std::uint64_t seen_wakes = 0;
    while (true) {
        {
            // Before anything is looked at: what changes from here on is seen the next time.
            const std::lock_guard lock(mutex_);
            if (is_cut_) break;
            seen_wakes = n_wakes_;
        }
        try {
            if (turn()) continue;
        } catch (const DeviceError& error) {
            recover(error.what());
            continue;
        }
        if (is_changed_) continue;
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return n_wakes_ != seen_wakes || is_cut_; });
    }
    finish_all();
}

bool Scheduler::turn() {
    drop_cancelled();
    take_readings();
    release_followers();
    raise_limit();
    resume_stalled();
    admit();
    publish_status_sometimes();
    return step();
}

void Scheduler::finish_all() {
    const ApiError failure = shutting_down();
    try {
        for (Slot& slot : slots_) {
            if (slot.job != nullptr) finish(slot, &failure);
        }
        for (Slot& slot : slots_) {
            if (slot.session == nullptr) continue;  // of a GPU that is down
            checkpointer_.save_end(slot.session->mark(), slot.n_saved, slot.visible, kv::Reason::shutdown);
        }
    } catch (const DeviceError& error) {
        log::error("GPU failed", {{"error", error.what()}});
        drop_sessions();
    }
    fail_queued(failure);
    // Clients may have left what is being read for them, and it would wake us when we are gone.
    if (checkpointer_.has_disk()) checkpointer_.disk().finish_reading();
    publish_status();
}

void Scheduler::guarded(Slot& slot, const std::function<void()>& action) {
    try {
        action();
    } catch (const ApiError& error) {
        finish(slot, &error);
    } catch (const DeviceMemoryError& error) {
        const ApiError failure(ErrorKind::unavailable, error.what());
        finish(slot, &failure);
    } catch (const DeviceError&) {
        throw;  // of everybody
    } catch (const std::exception& error) {
        const ApiError failure(ErrorKind::internal, error.what());
        finish(slot, &failure);
    }
}

void Scheduler::publish_status_sometimes() {
    if (is_changed_ || Clock::now() - published_ >= kStatusInterval) publish_status();
}

void Scheduler::publish_status() {
    is_changed_ = false;
    published_ = Clock::now();
    SchedulerStatus status;
    for (const Slot& slot : slots_) {
        SchedulerStatus::Slot& out = status.slots.emplace_back();
        if (slot.session == nullptr) continue;  // of a GPU that is down
        out.phase = phase_of(slot);
        out.n_tokens = slot.session->n_tokens();
        out.bytes = slot.session->bytes();
        if (slot.job == nullptr) continue;
        out.job = slot.job->id();
        out.n_prompt = slot.n_prompt;
        out.n_cached = slot.n_cached;
    }
    status.n_parked = parked_.size();
    {
        const std::lock_guard lock(mutex_);
        status_ = std::move(status);
    }
    changed_.notify_all();
}

}  // namespace ds4::server
