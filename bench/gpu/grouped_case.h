#pragma once

#include "experts_case.h"

namespace ds4::gpu::bench {

// The experts' products of prefill with the weights of an ExpertsCase: sort, gate+up, down, the sum over the
// slots.
class GroupedCase {
  public:
    static constexpr std::uint32_t kIn = ExpertsCase::kIn, kFf = ExpertsCase::kFf, kUsed = ExpertsCase::kUsed,
                                   kExperts = ExpertsCase::kExperts, kCheckedRows = 160;

    GroupedCase(const ExpertsCase& weights, std::uint32_t max_rows) : weights_(weights) {
        std::mt19937 random(31);
        std::vector<std::int32_t> all(kExperts);
        std::iota(all.begin(), all.end(), 0);
        for (std::uint32_t r = 0; r < max_rows; ++r) {
            std::shuffle(all.begin(), all.end(), random);
            // The checked rows crowd at one expert: more than one column tile.
            if (r < kCheckedRows && r % 16 != 3)
                std::iter_swap(all.begin() + r % kUsed, std::find(all.begin(), all.end(), 17));
            ids_.insert(ids_.end(), all.begin(), all.begin() + kUsed);
        }
        expert_ = Device<std::int32_t>(ids_);
        first_ = Device<std::int32_t>(kExperts + 1);
        pair_ = Device<std::int32_t>(ids_.size());
        x_f32_ = Device<float>(random_values(std::size_t{max_rows} * kIn, 33));
        x_ = Device<std::uint16_t>(std::size_t{max_rows} * kIn);
        HalvesArgs h{};
        h.x = x_f32_.get(), h.high = x_.get(), h.n = max_rows, h.n_in = kIn;
        check(cuda::launch_halves(h, nullptr), "halves");
        weight_host_.resize(ids_.size());
        for (std::size_t i = 0; i < ids_.size(); ++i)
            weight_host_[i] = 0.1f + 0.01f * static_cast<float>(i % 29);
        weight_ = Device<float>(weight_host_);
        shared_ = Device<float>(random_values(std::size_t{max_rows} * kIn, 34));
        act_ = Device<std::uint16_t>(ids_.size() * kFf);
        slots_ = Device<float>(ids_.size() * kIn);
        y_ = Device<float>(std::size_t{max_rows} * kIn);
        check(cudaDeviceSynchronize(), "grouped case");
    }

    static double gate_up_flops(std::uint32_t n) { return 2.0 * n * kUsed * 2 * kFf * kIn; }
    static double down_flops(std::uint32_t n) { return 2.0 * n * kUsed * kFf * kIn; }

    void launch_sort(std::uint32_t first_row, std::uint32_t n, cudaStream_t stream) const {
        SortArgs a{};
        a.expert = expert_.get() + first_row * kUsed, a.first = first_.get(), a.pair = pair_.get();
        a.n_pairs = n * kUsed, a.n_experts = kExperts;
        check(cuda::launch_sort(a, stream), "sort");
    }
    void launch_gate_up(std::uint32_t first_row, cudaStream_t stream) const {
        GroupedGateUpArgs a{};
        a.tiles = weights_.gate_up_tiles();
        a.expert_bytes = 2 * ExpertsCase::expert_bytes(weights_.gate_up_layout());
        a.first = first_.get(), a.pair = pair_.get();
        a.x = x_.get() + std::size_t{first_row} * kIn;
        a.weight = weight_.get() + first_row * kUsed;
        a.grid = weights_.selectors();
        a.act = act_.get();
        a.n_experts = kExperts, a.n_in = kIn, a.n_ff = kFf, a.n_used = kUsed, a.clamp = 10;
        a.layout = static_cast<std::uint32_t>(weights_.gate_up_layout());
        check(cuda::launch_grouped_gate_up(a, stream), "grouped gate_up");
    }
    void launch_down(cudaStream_t stream) const {
        GroupedDownArgs a{};
        a.tiles = weights_.down_tiles();
        a.expert_bytes = ExpertsCase::expert_bytes(weights_.down_layout());
        a.first = first_.get(), a.pair = pair_.get(), a.act = act_.get(), a.y = slots_.get();
        a.n_experts = kExperts, a.n_ff = kFf, a.n_out = kIn;
        a.layout = static_cast<std::uint32_t>(weights_.down_layout());
        check(cuda::launch_grouped_down(a, stream), "grouped down");
    }
    void launch_combine(std::uint32_t first_row, std::uint32_t n, cudaStream_t stream) const {
        CombineArgs a{};
        a.slots = slots_.get(), a.shared = shared_.get() + std::size_t{first_row} * kIn, a.y = y_.get();
        a.n = n, a.n_used = kUsed, a.width = kIn;
        check(cuda::launch_combine(a, stream), "combine");
    }
    void launch(std::uint32_t first_row, std::uint32_t n, cudaStream_t stream) const {
        launch_sort(first_row, n, stream);
        launch_gate_up(first_row, stream);
        launch_down(stream);
        launch_combine(first_row, n, stream);
    }

    struct Check {
        double gate_up_error, error;  // of the activations; of the result from the activations as they are
        bool sorted, rows_keep_their_bits;
    };
    Check check_all() {
        run(0, kCheckedRows);
        const auto y = y_.host();
        const auto act = from_halves(act_.host());
        Check c{0, 0, true, true};
        compare(y, act, c);
        for (const auto& [first, n] : {std::pair{0u, 1u}, {5u, 40u}, {100u, 60u}, {3u, 129u}}) {
            run(first, n);
            c.rows_keep_their_bits &= std::memcmp(y_.host().data(), y.data() + first * kIn,
                                                  std::size_t{n} * kIn * sizeof(float)) == 0;
        }
        return c;
    }

  private:
    void run(std::uint32_t first, std::uint32_t n) {
        first_.poison(), pair_.poison(), act_.poison(), slots_.poison(), y_.poison();
        launch(first, n, nullptr);
        check(cudaDeviceSynchronize(), "grouped");
    }
    // Against f64, expert by expert.
    void compare(const std::vector<float>& y, const std::vector<float>& act, Check& c) const {
        const auto pairs = pair_.host(), firsts = first_.host();
        std::vector<double> expected_act, sum(std::size_t{kCheckedRows} * kIn);
        std::vector<float> got_act;
        const auto x = x_f32_.host(), shared = shared_.host();
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = static_cast<double>(shared[i]);
        std::size_t next = 0;
        for (std::uint32_t e = 0; e < kExperts; ++e) {
            c.sorted &= firsts[e] == static_cast<std::int32_t>(next);
            std::vector<float> rows, acts;
            std::vector<std::size_t> members;
            for (std::size_t p = 0; p < std::size_t{kCheckedRows} * kUsed; ++p) {
                if (ids_[p] != static_cast<std::int32_t>(e)) continue;
                c.sorted &= pairs[next] == static_cast<std::int32_t>(p);
                const auto row = x.begin() + static_cast<std::ptrdiff_t>(p / kUsed * kIn);
                rows.insert(rows.end(), row, row + kIn);
                const auto own = act.begin() + static_cast<std::ptrdiff_t>(next * kFf);
                acts.insert(acts.end(), own, own + kFf);
                members.push_back(p);
                ++next;
            }
            if (members.empty()) continue;
            const auto n = static_cast<std::uint32_t>(members.size());
            std::vector<double> reference;
            weights_.expert_act(e, Device<float>(rows).get(), n, reference);
            const auto down = weights_.expert_down(e, Device<float>(acts).get(), n);
            for (std::size_t m = 0; m < members.size(); ++m) {
                for (std::size_t i = 0; i < kFf; ++i) {
                    expected_act.push_back(reference[m * kFf + i] *
                                           static_cast<double>(weight_host_[members[m]]));
                    got_act.push_back(acts[m * kFf + i]);
                }
                for (std::size_t i = 0; i < kIn; ++i) sum[members[m] / kUsed * kIn + i] += down[m * kIn + i];
            }
        }
        c.gate_up_error = relative_error(got_act, expected_act);
        c.error = relative_error(y, sum);
    }

    const ExpertsCase& weights_;
    std::vector<std::int32_t> ids_;
    std::vector<float> weight_host_;
    Device<std::int32_t> expert_, first_, pair_;
    Device<float> x_f32_, weight_, shared_, slots_, y_;
    Device<std::uint16_t> x_, act_;
};

}  // namespace ds4::gpu::bench
