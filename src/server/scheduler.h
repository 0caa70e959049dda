#pragma once

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

#include "base/thread_pool.h"
#include "ds4/engine.h"
#include "server/api_error.h"
#include "server/backoff.h"
#include "server/checkpointer.h"
#include "server/conversations.h"
#include "server/job.h"
#include "server/slot.h"

namespace ds4::server {

struct SchedulerOptions {
    int n_slots = 2;             // answered at a time
    std::int64_t context = 0;    // tokens of each session; 0: the model's maximum
    std::size_t max_queue = 64;  // waiting jobs
    std::chrono::milliseconds max_step{
        500};  // aim for a step with prefill in it: a cancelled job goes within it
    // That draw the tokens of a step; 0: a few if the engine has a device, else one, for then the cores are
    // the engine's.
    int sampling_threads = 0;
    std::size_t kv_bytes = 0;  // of all KV state in memory; at least one whole session's
    // Before the second try to restart a GPU that has failed, or the first where it was restarted a moment
    // ago; doubles with every other, up to a minute.
    std::chrono::milliseconds restart_wait{1000};
    // How long the size of a GPU that was full is believed; doubles if it was right, up to five minutes.
    std::chrono::milliseconds memory_wait{10'000};
    // Of these waits. Any clock that does not go back.
    std::function<Backoff::Clock::time_point()> now = Backoff::Clock::now;
    // Called once, by the scheduler's thread, when only a new process can have the GPU back: whoever owns
    // this process should stop it and start another. Until then requests are refused.
    std::function<void()> on_device_lost = [] {};
};

// Whether the engine works. A GPU that fails is restarted; `down`: that did not work, and is tried again
// unless it is lost to this process.
enum class Health : std::uint8_t { ok, restarting, down };

// What the scheduler is doing, for people and for metrics.
struct SchedulerStatus {
    struct Slot {
        std::string job;  // id; empty: free
        enum class Phase : std::uint8_t { free, reading, waiting, prefill, decode } phase = Phase::free;
        std::int64_t n_tokens = 0;  // held
        std::int64_t n_prompt = 0;  // of the job
        std::int64_t n_cached = 0;  // of the job's prompt
        std::size_t bytes = 0;      // of model state
    };
    std::vector<Slot> slots;
    std::size_t n_queued = 0;
    std::size_t n_parked = 0;  // conversations in memory beside those of the slots
    std::size_t kv_bytes = 0;  // of everything
    kv::DiskCache::Totals disk;
};

// Numbers of one step.
struct StepReport {
    std::int64_t n_prefill_rows = 0;
    std::int64_t n_decode_rows = 0;
    double seconds = 0;
};

// Runs jobs on an engine, in one thread: a bounded queue, a few slots that generate, and steps that carry the
// decode rows of all active slots and chunks of prompts. Conversations stay when they are done: in their
// slot, then parked in memory, then on the disk; a prompt goes on from whichever holds most of it.
class Scheduler {
  public:
    // Throws Error if the memory budget holds no session.
    Scheduler(Engine& engine, const SchedulerOptions& options, Checkpointer& checkpointer,
              std::function<void(const StepReport&)> on_step);
    ~Scheduler();  // stop(0)
    Scheduler(const Scheduler&) = delete;
    Scheduler& operator=(const Scheduler&) = delete;

    // Throws ApiError: the queue is full, the GPU is down, or the scheduler stops.
    void submit(std::shared_ptr<Job> job);
    // A cancelled job leaves within a step; this makes an idle or waiting scheduler look.
    void wake();

    SchedulerStatus status() const;
    std::size_t n_queued() const;
    bool is_busy() const;
    Health health() const;

    // Accepts nothing more, lets what runs and waits finish for this long, then fails the rest. Conversations
    // are written to the disk.
    void stop(std::chrono::milliseconds grace);

  private:
    struct Queued {
        std::shared_ptr<Job> job;
        int n_overtaken = 0;
    };
    // A token to be drawn for a slot's answer.
    struct Draw {
        Slot* slot;
        Sampling sampling;
        std::span<const float> logits;  // (vocab)
    };
    // A conversation to go on from.
    struct Source {
        Slot* slot = nullptr;
        Conversation* parked = nullptr;  // nullptr, and no slot: start anew
        Reuse reuse;
    };

    void run();
    bool turn();  // false: there was nothing to do
    void finish_all();
    // Does something for a job; an exception is the end of this job only, unless it is that of the GPU.
    void guarded(Slot& slot, const std::function<void()>& action);
    void publish_status();
    // The same, but not for every token.
    void publish_status_sometimes();

    // ---- scheduler_admission.cpp
    void drop_cancelled();
    void admit();
    std::shared_ptr<Job> take_queued();
    std::size_t choose_queued() const;
    bool can_go_on_at_once(const Job& job) const;
    bool has_memory_for(const Job& job, const Source& source);
    Source find_source(const Job& job);
    Slot* free_slot();
    // Has the job wait in a slot if another one computes more of its prompt than `source` holds.
    bool await_leader(const std::shared_ptr<Job>& job, const Source& source);
    bool is_ahead(const Job& leader, std::int64_t n_awaited) const;
    void release_followers();
    void place(std::shared_ptr<Job> job, const Source& source);
    void replace_session(Slot& slot, std::span<const CheckpointPtr> points);
    void read_from_disk(Slot& slot);
    void take_readings();
    bool use_loaded(Slot& slot, const kv::Store::Found& found, const kv::Store::Loaded& loaded);
    void start(Slot& slot);
    void finish(Slot& slot, const ApiError* failure);
    void leave(Slot& slot);
    void forget_job(Slot& slot);

    // ---- scheduler_memory.cpp
    bool make_room(std::size_t bytes);
    bool free_something();
    bool drop_idle_session();
    bool thin_points();
    void stall(Slot& slot, std::span<const Engine::Work> work);
    void resume_stalled();
    std::size_t growth(std::span<const Engine::Work> work) const;
    bool stall_youngest(std::vector<Engine::Work>& work);
    void fit_into_memory(std::vector<Engine::Work>& work);
    std::unique_ptr<Session> make_session(std::span<const CheckpointPtr> points);
    void step_in_memory(std::vector<Engine::Work>& work);
    void lower_limit();
    void raise_limit();

    // ---- scheduler_steps.cpp
    // The token of this slot's next step; empty: there is none now.
    std::span<const TokenId> decode_token(Slot& slot);
    bool step();  // false: there was nothing to do
    // The next tokens of all answers, as far as they are drawn and nothing else.
    void draw_tokens();
    void add_decode(std::vector<Engine::Work>& work);
    void add_prefill(std::vector<Engine::Work>& work, std::int64_t room);
    std::int64_t next_stop(const Slot& slot) const;
    void run_step(std::vector<Engine::Work>& work);
    void after_step(Slot& slot);
    void fail_step(std::span<const Engine::Work> work, const ApiError& failure);
    std::int64_t prefill_chunk() const;

    // ---- scheduler_recovery.cpp
    void recover(const std::string& why);
    void drop_sessions();
    void restart_until_it_works();  // throws DeviceLostError
    bool try_restart();             // throws DeviceLostError
    void give_up(const std::string& why);
    bool sleep(std::chrono::milliseconds time);
    void set_health(Health health);
    void fail_queued(const ApiError& failure);

    Engine& engine_;
    const SchedulerOptions options_;
    Checkpointer& checkpointer_;
    const std::function<void(const StepReport&)> on_step_;

    // Of the scheduler's thread.
    std::vector<Slot> slots_;
    std::vector<Draw> draws_;  // of a step
    ThreadPool sampling_pool_;
    ParkedConversations parked_;
    std::int64_t n_admitted_ = 0;
    std::size_t kv_limit_;  // options_.kv_bytes, or what a GPU held when it was full
    std::chrono::steady_clock::time_point lower_until_;  // kv_limit_
    Backoff shortages_, restarts_;
    double prefill_rate_ = 0;  // rows per second, recent
    std::chrono::steady_clock::time_point published_;
    bool is_changed_ = true;  // a job came or went since

    mutable std::mutex mutex_;  // guards the rest
    std::condition_variable changed_;
    std::deque<Queued> queue_;
    SchedulerStatus status_;
    Health health_ = Health::ok;
    bool is_stopping_ = false;
    bool is_cut_ = false;  // the time of stop() is over
    std::uint64_t n_wakes_ = 0;
    std::thread thread_;
};

}  // namespace ds4::server
