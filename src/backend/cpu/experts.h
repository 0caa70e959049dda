#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/backend.h"
#include "backend/cpu/matmul.h"
#include "backend/cpu/memory.h"
#include "base/thread_pool.h"

namespace ds4::cpu {

// Backend::routed_experts. The (row, slot) pairs of a block of rows are sorted by expert, so that each
// expert's weights are read once per block and meet all of its rows.
class RoutedExperts {
  public:
    explicit RoutedExperts(ThreadPool& pool) : pool_(pool) {}

    void run(const Experts& experts, const Routing& routing, Rows x, Rows y);

  private:
    // A block of rows in progress. Places are positions in the order sorted by expert.
    struct Block {
        const Experts& experts;
        Routing routing;
        Rows x, y;
        std::int64_t n_pairs = 0;
        std::int64_t n_active = 0;             // experts with at least one pair
        const std::int32_t* active = nullptr;  // (n_active), ascending
        const std::int32_t* first = nullptr;   // (n_experts + 1), first place of each expert
        const std::int32_t* place = nullptr;   // (n_pairs), place of pair row * n_used + slot
        const float* weight = nullptr;         // (n_pairs), by place
        Rows hidden = {};                      // (n_pairs, F), by place
        Rows down = {};                        // (n_pairs, E), by place
    };

    // Outputs [begin, end) of one expert for all of its pairs.
    struct Tile {
        std::int64_t expert;
        std::int64_t first_place, n_pairs;
        std::int64_t begin, end;
    };

    void sort_by_expert(Block& block);
    Activations gather_inputs(const Block& block, quant::Type type, Scratch<std::byte>& out);
    void gate_up(const Block& block);
    void down(const Block& block);
    void sum_slots(const Block& block);
    // Calls fn(Tile) for every tile of n_out outputs of every active expert.
    template <class F>
    void for_each_tile(const Block& block, std::int64_t n_out, F&& fn);

    ThreadPool& pool_;
    Scratch<std::int32_t> active_, first_, next_, place_;
    Scratch<float> weight_, hidden_, down_;
    Scratch<std::byte> gate_inputs_, up_inputs_, hidden_inputs_;
};

}  // namespace ds4::cpu
