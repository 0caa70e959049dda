// What the host does for a step on a GPU: Flash-shaped steps of some sessions with one row each on a device
// that does nothing. `step_host_bench [sessions [tokens of context [steps]]]` prints medians in microseconds
// of the layers (recording; from there to the first upload; to the first start; to the end) and of the head.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "backend/gpu/gpu_backend.h"
#include "backend/gpu/idle_device.h"
#include "model/flash_shape.h"
#include "model/forward.h"

namespace {

using namespace ds4;
using Clock = std::chrono::steady_clock;

double microseconds(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double, std::micro>(to - from).count();
}

double median(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

class Bench {
  public:
    Bench(std::size_t n_sessions, std::int64_t context)
        : layout_(flash_.config, flash_.config.ratios, quant::KvFormat::packed),
          forward_(*backend_, flash_.config, flash_.weights, {kChunk, true, quant::KvFormat::packed}),
          logits_(static_cast<std::size_t>(flash_.config.vocab)) {
        for (std::size_t s = 0; s < n_sessions; ++s) {
            states_.push_back(std::make_unique<KvState>(layout_, *backend_));
            // Sessions stand at different places.
            for (std::int64_t left = context + 37 * static_cast<std::int64_t>(s); left > 0;) {
                const std::int64_t n = std::min(left, kChunk);
                step({states_.back().get()}, n, true);
                left -= n;
            }
        }
        forward_.probe = [this](std::int64_t, Rows) { recorded_ = Clock::now(); };
    }

    void run(int n_steps) {
        std::vector<KvState*> states;
        std::vector<HeadRow> last_rows;
        for (const auto& state : states_) {
            last_rows.push_back({static_cast<std::int64_t>(states.size()), logits_.data()});
            states.push_back(state.get());
        }
        for (int i = 0; i < n_steps; ++i) {
            log_.clear();
            const auto begin = Clock::now();
            step(states, 1, false);
            const auto end = Clock::now();
            record_.push_back(microseconds(begin, recorded_));
            prepare_.push_back(microseconds(recorded_, *log_.first_upload));
            find_.push_back(microseconds(*log_.first_upload, *log_.first_run));
            rest_.push_back(microseconds(*log_.first_run, end));
            first_.push_back(microseconds(begin, *log_.first_run));
            n_launches_ = log_.n_launches;
            n_replayed_ += log_.graphs.empty() ? 0 : 1;
            uploaded_ = log_.uploaded;
            const auto head = Clock::now();
            forward_.logits(last_rows);
            head_.push_back(microseconds(head, Clock::now()));
        }
        std::printf("%zu launches, %zu bytes uploaded, %d of %d steps replayed\n", n_launches_, uploaded_,
                    n_replayed_, n_steps);
        std::printf("recording %.0f, to the upload %.0f, to the first start %.0f, to the end %.0f us\n",
                    median(record_), median(prepare_), median(find_), median(rest_));
        std::printf("begin to first start %.0f us, head of all sessions %.0f us\n", median(first_),
                    median(head_));
    }

  private:
    static constexpr std::int64_t kChunk = 512;

    void step(const std::vector<KvState*>& states, std::int64_t n, bool is_prompt) {
        tokens_.clear();
        positions_.clear();
        segments_.clear();
        for (const KvState* state : states) {
            const std::int64_t start = state->n_tokens();
            segments_.push_back({static_cast<std::int64_t>(tokens_.size()), n, start, is_prompt});
            for (std::int64_t i = 0; i < n; ++i) {
                tokens_.push_back(static_cast<TokenId>((start + i) * 31 % 1000));
                positions_.push_back(static_cast<std::int32_t>(start + i));
            }
        }
        forward_.run({tokens_, positions_, segments_}, states);
    }

    test::IdleDevice::Log log_;
    std::unique_ptr<Backend> backend_ = make_gpu_backend(std::make_unique<test::IdleDevice>(log_));
    test::FlashShape flash_{*backend_};
    KvLayout layout_;
    Forward forward_;
    std::vector<std::unique_ptr<KvState>> states_;
    std::vector<float> logits_;
    std::vector<TokenId> tokens_;
    std::vector<std::int32_t> positions_;
    std::vector<Segment> segments_;
    Clock::time_point recorded_;
    std::vector<double> record_, prepare_, find_, rest_, first_, head_;
    std::size_t n_launches_ = 0, uploaded_ = 0;
    int n_replayed_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    const std::size_t n_sessions = argc > 1 ? static_cast<std::size_t>(std::atoi(argv[1])) : 1;
    const std::int64_t context = argc > 2 ? std::atoll(argv[2]) : 2100;
    const int n_steps = argc > 3 ? std::atoi(argv[3]) : 400;
    Bench(n_sessions, context).run(n_steps);
}
