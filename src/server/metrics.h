#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "chat/tool_memory.h"
#include "server/generation.h"
#include "server/scheduler.h"

namespace ds4::server {

// How long one request took.
struct RequestTiming {
    double queued_seconds = 0;   // arrival to the first step
    double first_seconds = 0;    // arrival to the first token
    double prefill_seconds = 0;  // first step to first token
    double decode_seconds = 0;   // first token to the last
};

// Counters for Prometheus. Thread-safe.
class Metrics {
  public:
    Metrics();
    ~Metrics();

    void count_request(const std::string& path, int status);
    void count_cancelled();
    void count_answer(const Usage& usage, const RequestTiming& timing);
    void count_replay(const chat::ReplayCounts& counts);
    void count_step(const StepReport& report);

    struct Totals {
        std::int64_t prompt_tokens = 0, cached_tokens = 0;
    };
    Totals totals() const;

    // What is read off at the moment of a scrape.
    struct Gauges {
        std::size_t n_queued = 0, n_busy_slots = 0, n_connections = 0, n_parked = 0, kv_bytes = 0;
        kv::DiskCache::Totals disk;
    };
    // Prometheus text format.
    std::string text(const Gauges& gauges);

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace ds4::server
