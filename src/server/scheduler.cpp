#include "server/scheduler.h"

#include <algorithm>
#include <exception>
#include <tuple>
#include <utility>

namespace ds4::server {
namespace {

using Clock = std::chrono::steady_clock;

// Before anything was measured: small enough for a slow machine's first step.
constexpr std::int64_t kFirstChunk = 64;
constexpr std::int64_t kSmallestChunk = 16;
// How old the status of a running job may be.
constexpr std::chrono::milliseconds kStatusInterval{50};
// Weight of the newest step in the measured rate.
constexpr double kRateWeight = 0.3;

ApiError shutting_down() {
    return {ErrorKind::unavailable, "The server is shutting down. Try again later."};
}

}  // namespace

bool Scheduler::Slot::is_prefilling() const {
    return session->n_tokens() < static_cast<std::int64_t>(target.size());
}

Scheduler::Scheduler(Engine& engine, const SchedulerOptions& options,
                     std::function<void(const StepReport&)> on_step)
    : engine_(engine), options_(options), on_step_(std::move(on_step)) {
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
        if (queue_.size() >= options_.max_queue) {
            throw ApiError(
                ErrorKind::queue_full,
                "The request queue is full (" + std::to_string(options_.max_queue) + "). Try again later.");
        }
        queue_.push_back(std::move(job));
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
        drop_cancelled();
        admit();
        publish_status_sometimes();
        const bool is_active =
            std::any_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.job != nullptr; });
        {
            std::unique_lock lock(mutex_);
            if (is_cut_) break;
            if (!is_active) {
                changed_.wait(lock, [&] { return n_wakes_ != seen_wakes || is_cut_; });
                seen_wakes = n_wakes_;
                continue;
            }
            seen_wakes = n_wakes_;
        }
        step();
    }
    const ApiError failure = shutting_down();
    for (Slot& slot : slots_) {
        if (slot.job != nullptr) finish(slot, &failure);
    }
    while (const auto job = take_queued()) job->on_end(&failure);
    publish_status();
}

void Scheduler::drop_cancelled() {
    for (Slot& slot : slots_) {
        if (slot.job == nullptr || !slot.job->is_cancelled()) continue;
        slot.job = nullptr;
        is_changed_ = true;
    }
    const std::lock_guard lock(mutex_);
    std::erase_if(queue_, [](const auto& job) { return job->is_cancelled(); });
}

std::shared_ptr<Job> Scheduler::take_queued() {
    const std::lock_guard lock(mutex_);
    if (queue_.empty()) return nullptr;
    auto job = std::move(queue_.front());
    queue_.pop_front();
    return job;
}

void Scheduler::guarded(Slot& slot, const std::function<void()>& action) {
    try {
        action();
    } catch (const ApiError& error) {
        finish(slot, &error);
    } catch (const std::exception& error) {
        const ApiError failure(ErrorKind::internal, error.what());
        finish(slot, &failure);
    }
}

// ---- admission ----

void Scheduler::admit() {
    while (std::any_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return slot.job == nullptr; })) {
        const auto job = take_queued();
        if (job == nullptr) return;
        if (job->is_cancelled()) continue;
        chat::Continuation continuation;
        Slot* slot = choose_slot(*job, continuation);
        slot->job = job;
        is_changed_ = true;
        slot->last_used = ++n_admitted_;
        guarded(*slot, [&] { start(*slot, std::move(continuation)); });
    }
}

// The free slot that holds most of the prompt; among equals an empty one, then the one unused for longest.
Scheduler::Slot* Scheduler::choose_slot(const Job& job, chat::Continuation& continuation) {
    Slot* best = nullptr;
    const auto value = [](const Slot& slot, std::size_t n_reused) {
        return std::tuple(n_reused, slot.session->n_tokens() == 0, -slot.last_used);
    };
    for (Slot& slot : slots_) {
        if (slot.job != nullptr) continue;
        chat::Continuation candidate = job.prompt(slot.session->tokens());
        if (best != nullptr && value(slot, candidate.n_reused) <= value(*best, continuation.n_reused))
            continue;
        best = &slot;
        continuation = std::move(candidate);
    }
    return best;
}

void Scheduler::start(Slot& slot, chat::Continuation continuation) {
    slot.prompt_observer = slot.job->prompt_observer();
    const std::size_t reusable = slot.prompt_observer ? 0 : continuation.n_reused;
    slot.target = std::move(continuation.tokens);
    slot.n_prompt = static_cast<std::int64_t>(slot.target.size());
    slot.fork_point = slot.job->fork_point(slot.n_prompt);
    slot.session->mark();
    slot.n_cached = slot.session->rewind(static_cast<std::int64_t>(reusable));
    slot.job->on_start(slot.n_prompt, slot.n_cached);
}

void Scheduler::finish(Slot& slot, const ApiError* failure) {
    if (failure == nullptr && slot.job->starts_another()) {
        start(slot, slot.job->prompt(slot.session->tokens()));
        return;
    }
    const auto job = std::exchange(slot.job, nullptr);
    is_changed_ = true;
    slot.target.clear();
    slot.prompt_observer = nullptr;
    job->on_end(failure);
}

// ---- steps ----

std::int64_t Scheduler::prefill_chunk() const {
    if (prefill_rate_ <= 0) return std::min(kFirstChunk, engine_.max_batch());
    const double rows = prefill_rate_ * std::chrono::duration<double>(options_.max_step).count();
    if (rows >= static_cast<double>(engine_.max_batch())) return engine_.max_batch();
    return std::max(std::min(kSmallestChunk, engine_.max_batch()), static_cast<std::int64_t>(rows));
}

std::span<const TokenId> Scheduler::decode_token(Slot& slot) {
    while (slot.job != nullptr && !slot.is_prefilling()) {
        Session& session = *slot.session;
        const std::int64_t room = session.context() - session.n_tokens();
        const auto tokens =
            room > 0 ? slot.job->next(session.logits(), session.n_tokens()) : std::span<const TokenId>{};
        if (room <= 0 || static_cast<std::int64_t>(tokens.size()) > room) {
            slot.job->on_context_full();
        } else if (tokens.size() == 1) {
            return tokens;
        } else if (!tokens.empty()) {
            // Forced text goes in as a prompt does.
            slot.prompt_observer = nullptr;
            slot.target.assign(session.tokens().begin(), session.tokens().end());
            slot.target.insert(slot.target.end(), tokens.begin(), tokens.end());
            return {};
        }
        finish(slot, nullptr);
    }
    return {};
}

void Scheduler::add_decode(std::vector<Engine::Work>& work) {
    for (Slot& slot : slots_) {
        if (slot.job == nullptr || slot.is_prefilling()) continue;
        guarded(slot, [&] {
            const auto token = decode_token(slot);
            if (!token.empty()) work.push_back({slot.session.get(), token});
        });
    }
}

void Scheduler::add_prefill(std::vector<Engine::Work>& work, std::int64_t room, StepReport& report) {
    std::int64_t chunk = std::min(prefill_chunk(), room);
    for (Slot& slot : slots_) {
        if (slot.job == nullptr || !slot.is_prefilling() || chunk <= 0) continue;
        const auto done = static_cast<std::size_t>(slot.session->n_tokens());
        // A chunk ends at the fork point, where the state is remembered.
        const auto fork = static_cast<std::size_t>(slot.fork_point);
        const std::size_t end = done < fork ? fork : slot.target.size();
        const auto n = std::min(end - done, static_cast<std::size_t>(chunk));
        work.push_back({slot.session.get(), std::span(slot.target).subspan(done, n),
                        slot.prompt_observer ? &slot.prompt_observer : nullptr});
        chunk -= static_cast<std::int64_t>(n);
        report.n_prefill_rows += static_cast<std::int64_t>(n);
    }
}

void Scheduler::step() {
    std::vector<Engine::Work> work;
    StepReport report;
    add_decode(work);
    report.n_decode_rows = static_cast<std::int64_t>(work.size());
    add_prefill(work, engine_.max_batch() - report.n_decode_rows, report);
    if (!work.empty()) run_step(work, report);
}

void Scheduler::run_step(std::span<const Engine::Work> work, StepReport report) {
    const auto begin = Clock::now();
    try {
        engine_.step(work);
    } catch (const std::exception& error) {
        fail_step(work, error.what());
        return;
    }
    report.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    if (report.n_prefill_rows > 0 && report.seconds > 0) {
        const double rate = static_cast<double>(report.n_prefill_rows) / report.seconds;
        prefill_rate_ = prefill_rate_ <= 0 ? rate : (1 - kRateWeight) * prefill_rate_ + kRateWeight * rate;
    }
    for (Slot& slot : slots_) {
        const std::int64_t n_tokens = slot.session->n_tokens();
        if (slot.job == nullptr || n_tokens > static_cast<std::int64_t>(slot.target.size())) continue;
        // The end of a prompt is where a second answer, or another question about it, will start.
        if (!slot.is_prefilling() || n_tokens == slot.fork_point) slot.session->mark();
        if (n_tokens <= slot.n_prompt) guarded(slot, [&] { slot.job->on_prefill(n_tokens); });
    }
    on_step_(report);
}

// What the sessions of a failed step hold is not known, so they start anew.
void Scheduler::fail_step(std::span<const Engine::Work> work, const std::string& why) {
    const ApiError failure(ErrorKind::internal, why);
    for (Slot& slot : slots_) {
        const bool took_part = std::any_of(
            work.begin(), work.end(), [&](const Engine::Work& w) { return w.session == slot.session.get(); });
        if (!took_part) continue;
        slot.session = engine_.new_session(options_.context);
        finish(slot, &failure);
    }
}

void Scheduler::publish_status_sometimes() {
    if (is_changed_ || Clock::now() - published_ >= kStatusInterval) publish_status();
}

void Scheduler::publish_status() {
    is_changed_ = false;
    published_ = Clock::now();
    std::vector<SchedulerStatus::Slot> slots;
    for (const Slot& slot : slots_) {
        SchedulerStatus::Slot& out = slots.emplace_back();
        out.n_tokens = slot.session->n_tokens();
        out.bytes = slot.session->bytes();
        if (slot.job == nullptr) continue;
        out.job = slot.job->id();
        out.phase = slot.is_prefilling() ? SchedulerStatus::Slot::Phase::prefill
                                         : SchedulerStatus::Slot::Phase::decode;
        out.n_prompt = slot.n_prompt;
        out.n_cached = slot.n_cached;
    }
    {
        const std::lock_guard lock(mutex_);
        status_.slots = std::move(slots);
    }
    changed_.notify_all();
}

}  // namespace ds4::server
