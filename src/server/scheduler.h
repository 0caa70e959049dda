#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "chat/continue_tokens.h"
#include "ds4/engine.h"
#include "server/api_error.h"

namespace ds4::server {

// Something to generate. All calls come from the scheduler's thread, except cancel().
class Job {
  public:
    virtual ~Job() = default;

    const std::string& id() const { return id_; }
    void cancel() { is_cancelled_ = true; }
    bool is_cancelled() const { return is_cancelled_; }

    // The prompt, keeping what a session already holds of it.
    virtual chat::Continuation prompt(std::span<const TokenId> live) const = 0;
    // If not empty every row of the prompt is computed again and reported here.
    virtual Engine::RowLogits prompt_observer() { return {}; }

    // How many tokens of the prompt are surely part of the conversation's next one; there the session can be
    // taken back to.
    virtual std::int64_t fork_point(std::int64_t n_prompt) const = 0;
    // The prompt has so many tokens, and so many of them need not be computed.
    virtual void on_start(std::int64_t n_prompt, std::int64_t n_cached) = 0;
    // So many tokens of the prompt are computed.
    virtual void on_prefill(std::int64_t n_done) = 0;
    // What comes after `position` tokens, given the logits (vocab) there. Empty: the answer is over. Valid
    // until the next call.
    virtual std::span<const TokenId> next(std::span<const float> logits, std::int64_t position) = 0;
    // The session is full.
    virtual void on_context_full() = 0;
    // True: there is to be another answer to the same prompt.
    virtual bool starts_another() = 0;
    // The last call: with nullptr if all answers were given, else why not. Not called when cancelled.
    virtual void on_end(const ApiError* failure) = 0;

  protected:
    explicit Job(std::string id) : id_(std::move(id)) {}

  private:
    const std::string id_;
    std::atomic<bool> is_cancelled_{false};
};

struct SchedulerOptions {
    int n_slots = 2;             // sessions kept, and answered at a time
    std::int64_t context = 0;    // tokens of each session; 0: the model's maximum
    std::size_t max_queue = 64;  // waiting jobs
    std::chrono::milliseconds max_step{
        500};  // aim for a step with prefill in it: a cancelled job goes within it
};

// What the scheduler is doing, for people and for metrics.
struct SchedulerStatus {
    struct Slot {
        std::string job;  // id; empty: free
        enum class Phase : std::uint8_t { free, prefill, decode } phase = Phase::free;
        std::int64_t n_tokens = 0;  // held
        std::int64_t n_prompt = 0;  // of the job
        std::int64_t n_cached = 0;  // of the job's prompt
        std::size_t bytes = 0;      // of model state
    };
    std::vector<Slot> slots;
    std::size_t n_queued = 0;
};

// Numbers of one step.
struct StepReport {
    std::int64_t n_prefill_rows = 0;
    std::int64_t n_decode_rows = 0;
    double seconds = 0;
};

// Runs jobs on an engine, in one thread: a bounded queue, a few slots that keep their session between jobs,
// and steps that carry the decode rows of all active slots and a chunk of one prompt.
class Scheduler {
  public:
    Scheduler(Engine& engine, const SchedulerOptions& options,
              std::function<void(const StepReport&)> on_step);
    ~Scheduler();  // stop(0)
    Scheduler(const Scheduler&) = delete;
    Scheduler& operator=(const Scheduler&) = delete;

    // Throws ApiError: the queue is full, or the scheduler stops.
    void submit(std::shared_ptr<Job> job);
    // A cancelled job leaves within a step; this makes an idle or waiting scheduler look.
    void wake();

    SchedulerStatus status() const;
    std::size_t n_queued() const;
    bool is_busy() const;

    // Accepts nothing more, lets what runs and waits finish for this long, then fails the rest.
    void stop(std::chrono::milliseconds grace);

  private:
    struct Slot {
        std::unique_ptr<Session> session;
        std::shared_ptr<Job> job;  // nullptr: free
        std::vector<TokenId>
            target;                 // what the session is to hold before the job chooses: prompt, forced text
        std::int64_t n_prompt = 0;  // of the job
        std::int64_t n_cached = 0;  // of the prompt
        std::int64_t fork_point = 0;        // of the prompt: Job::fork_point()
        Engine::RowLogits prompt_observer;  // of the job, or empty
        std::int64_t last_used = 0;         // ticks of admission

        bool is_prefilling() const;
    };

    void run();
    void drop_cancelled();
    void admit();
    std::shared_ptr<Job> take_queued();
    Slot* choose_slot(const Job& job, chat::Continuation& continuation);
    void start(Slot& slot, chat::Continuation continuation);
    void finish(Slot& slot, const ApiError* failure);
    // Does something for a job; an exception is the end of this job only.
    void guarded(Slot& slot, const std::function<void()>& action);
    // The token of this slot's next step; empty: there is none now.
    std::span<const TokenId> decode_token(Slot& slot);
    void step();
    void add_decode(std::vector<Engine::Work>& work);
    void add_prefill(std::vector<Engine::Work>& work, std::int64_t room, StepReport& report);
    void run_step(std::span<const Engine::Work> work, StepReport report);
    void fail_step(std::span<const Engine::Work> work, const std::string& why);
    void publish_status();
    // The same, but not for every token.
    void publish_status_sometimes();
    std::int64_t prefill_chunk() const;

    Engine& engine_;
    const SchedulerOptions options_;
    const std::function<void(const StepReport&)> on_step_;

    // Of the scheduler's thread.
    std::vector<Slot> slots_;
    std::int64_t n_admitted_ = 0;
    double prefill_rate_ = 0;  // rows per second, recent
    std::chrono::steady_clock::time_point published_;
    bool is_changed_ = true;  // a job came or went since

    mutable std::mutex mutex_;  // guards the rest
    std::condition_variable changed_;
    std::deque<std::shared_ptr<Job>> queue_;
    SchedulerStatus status_;
    bool is_stopping_ = false;
    bool is_cut_ = false;  // the time of stop() is over
    std::uint64_t n_wakes_ = 0;
    std::thread thread_;
};

}  // namespace ds4::server
