#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

namespace ds4::server {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;
using Buckets = Histogram::BucketBoundaries;

const Buckets kSeconds = {0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600};
const Buckets kTokensPerSecond = {1, 2, 5, 10, 20, 30, 50, 75, 100, 200, 500, 1000, 2000, 5000, 10000, 50000};

}  // namespace

struct Metrics::Impl {
    Family<Counter>& counters(const std::string& name, const std::string& help) {
        return prometheus::BuildCounter().Name(name).Help(help).Register(registry);
    }
    Counter& counter(const std::string& name, const std::string& help) {
        return counters(name, help).Add({});
    }
    Gauge& gauge(const std::string& name, const std::string& help) {
        return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
    }
    Histogram& histogram(const std::string& name, const std::string& help, const Buckets& buckets) {
        return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add({}, buckets);
    }

    prometheus::Registry registry;

    Family<Counter>& requests = counters("ds4_requests_total", "Requests answered, by path and status.");
    Counter& cancelled =
        counter("ds4_requests_cancelled_total", "Requests whose client left before the end.");
    Counter& prompt_tokens = counter("ds4_prompt_tokens_total", "Tokens of prompts.");
    Counter& cached_tokens =
        counter("ds4_cached_tokens_total", "Tokens of prompts that were not computed again.");
    Counter& completion_tokens = counter("ds4_completion_tokens_total", "Tokens of answers.");
    Counter& reasoning_tokens =
        counter("ds4_reasoning_tokens_total", "Tokens of reasoning, part of the answers.");
    Family<Counter>& cache =
        counters("ds4_cache_requests_total", "Requests by whether any of the prompt was cached.");
    Counter& cache_hits = cache.Add({{"result", "hit"}});
    Counter& cache_misses = cache.Add({{"result", "miss"}});
    Family<Counter>& replay =
        counters("ds4_tool_replay_total", "Turns with tool calls in prompts, by how they were written.");
    Counter& replay_exact = replay.Add({{"kind", "exact"}});
    Counter& replay_edited = replay.Add({{"kind", "edited"}});
    Counter& replay_missing = replay.Add({{"kind", "missing"}});
    Counter& prefill_rows = counter("ds4_prefill_tokens_total", "Tokens computed as prompt.");
    Counter& decode_rows = counter("ds4_decode_tokens_total", "Tokens computed one by one.");
    Counter& steps = counter("ds4_steps_total", "Steps of the model.");
    Counter& step_seconds = counter("ds4_step_seconds_total", "Time in steps of the model.");

    Histogram& queued = histogram("ds4_queue_seconds", "Arrival to first step.", kSeconds);
    Histogram& first = histogram("ds4_time_to_first_token_seconds", "Arrival to first token.", kSeconds);
    Histogram& prefill_speed =
        histogram("ds4_prefill_tokens_per_second", "Prefill speed by request.", kTokensPerSecond);
    Histogram& decode_speed =
        histogram("ds4_decode_tokens_per_second", "Decode speed by request.", kTokensPerSecond);

    Gauge& queue = gauge("ds4_queue_depth", "Requests waiting.");
    Gauge& busy_slots = gauge("ds4_busy_slots", "Slots with a request.");
    Gauge& connections = gauge("ds4_connections", "Open connections.");
    Gauge& kv_bytes = gauge("ds4_kv_bytes", "Bytes of KV state in memory.");
    Gauge& parked = gauge("ds4_parked_conversations", "Conversations in memory that no slot holds.");
    Gauge& disk_files = gauge("ds4_kv_disk_files", "Checkpoints on the disk.");
    Gauge& disk_bytes = gauge("ds4_kv_disk_bytes", "Bytes of checkpoints on the disk.");
    Gauge& disk_written = gauge("ds4_kv_disk_written_bytes", "Bytes of checkpoints written since the start.");
    Gauge& disk_waiting = gauge("ds4_kv_disk_waiting", "Checkpoints that wait to be written.");
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

void Metrics::count_request(const std::string& path, int status) {
    impl_->requests.Add({{"path", path}, {"status", std::to_string(status)}}).Increment();
}

void Metrics::count_cancelled() {
    impl_->cancelled.Increment();
}

void Metrics::count_answer(const Usage& usage, const RequestTiming& timing) {
    Impl& m = *impl_;
    m.prompt_tokens.Increment(static_cast<double>(usage.prompt));
    m.cached_tokens.Increment(static_cast<double>(usage.cached));
    m.completion_tokens.Increment(static_cast<double>(usage.completion));
    m.reasoning_tokens.Increment(static_cast<double>(usage.reasoning));
    (usage.cached > 0 ? m.cache_hits : m.cache_misses).Increment();
    m.queued.Observe(timing.queued_seconds);
    m.first.Observe(timing.first_seconds);
    const auto observe_speed = [](Histogram& speed, std::int64_t n, double seconds) {
        if (n > 0 && seconds > 0) speed.Observe(static_cast<double>(n) / seconds);
    };
    observe_speed(m.prefill_speed, usage.prompt - usage.cached, timing.prefill_seconds);
    observe_speed(m.decode_speed, usage.completion - 1, timing.decode_seconds);
}

void Metrics::count_replay(const chat::ReplayCounts& counts) {
    impl_->replay_exact.Increment(static_cast<double>(counts.exact));
    impl_->replay_edited.Increment(static_cast<double>(counts.edited));
    impl_->replay_missing.Increment(static_cast<double>(counts.missing));
}

void Metrics::count_step(const StepReport& report) {
    impl_->steps.Increment();
    impl_->prefill_rows.Increment(static_cast<double>(report.n_prefill_rows));
    impl_->decode_rows.Increment(static_cast<double>(report.n_decode_rows));
    impl_->step_seconds.Increment(report.seconds);
}

Metrics::Totals Metrics::totals() const {
    return {static_cast<std::int64_t>(impl_->prompt_tokens.Value()),
            static_cast<std::int64_t>(impl_->cached_tokens.Value())};
}

std::string Metrics::text(const Gauges& gauges) {
    impl_->queue.Set(static_cast<double>(gauges.n_queued));
    impl_->busy_slots.Set(static_cast<double>(gauges.n_busy_slots));
    impl_->connections.Set(static_cast<double>(gauges.n_connections));
    impl_->kv_bytes.Set(static_cast<double>(gauges.kv_bytes));
    impl_->parked.Set(static_cast<double>(gauges.n_parked));
    impl_->disk_files.Set(static_cast<double>(gauges.disk.n_files));
    impl_->disk_bytes.Set(static_cast<double>(gauges.disk.n_bytes));
    impl_->disk_written.Set(static_cast<double>(gauges.disk.bytes_written));
    impl_->disk_waiting.Set(static_cast<double>(gauges.disk.n_waiting));
    return prometheus::TextSerializer().Serialize(impl_->registry.Collect());
}

}  // namespace ds4::server
