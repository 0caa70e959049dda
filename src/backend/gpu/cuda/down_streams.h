#pragma once

#include "backend/gpu/cuda/launch.h"
#include "backend/gpu/cuda/warp_ring.h"
#include "backend/gpu/matrix_args.h"

// What the warps of `down` ask for and in which order: weights and activations, item by item.
namespace ds4::gpu::cuda {

constexpr uint32_t kSlices = 8;  // of the inputs: a block of 256 each
constexpr uint32_t kColumnBytes =
    sizeof(ActBlock) + kActInputs / kSumInputs * sizeof(float);  // block and its sums
constexpr uint32_t kSharedBytes = tiles::shape(tiles::Layout::q8_0).bytes;
constexpr uint32_t kSharedTiles = 2;  // of 128 inputs in a slice

struct DownPlan {
    uint32_t slots, slot_bytes, columns, row_tiles;  // row tiles of a pass
    uint32_t n_passes;
    uint32_t act_offset, list_offset, part_offset, barrier_offset;
    uint32_t bytes;
};

// A step of a warp: the shared expert for 8 rows, or an entry of the list.
struct Item {
    bool is_shared;
    uint32_t index;      // column group, or entry
    uint32_t row_tiles;  // that the warp multiplies
};

// A warp's items in a pass, numbered from 0: first its part of the shared expert, one row tile, then every
// other entry.
class Items {
  public:
    DS4_DEVICE Items(const DownArgs& a, const DownPlan& plan, uint32_t n_entries, uint32_t group,
                     uint32_t slice)
        : group_(group), row_tiles_(plan.row_tiles) {
        n_shared_ = a.shared_tiles != nullptr && group < plan.row_tiles ? tiles::divide_up(a.n, 8) : 0;
        const bool is_idle = slice * kActInputs >= a.n_ff;
        n_ = is_idle ? 0 : n_shared_ + (n_entries + 1 - group) / 2;
    }
    DS4_DEVICE uint32_t n() const { return n_; }
    DS4_DEVICE Item operator[](uint32_t i) const {
        if (i < n_shared_) return {true, i, 1};
        return {false, 2 * (i - n_shared_) + group_, row_tiles_};
    }

  private:
    uint32_t group_, row_tiles_, n_shared_, n_;
};

// Where a stream of a warp stands: at an item of a pass of its block. Done: past the last pass.
class ItemCursor {
  public:
    DS4_DEVICE ItemCursor(const DownPlan& plan, const Items& items)
        : plan_(plan), items_(items), pass_(items.n() == 0 ? plan.n_passes : blockIdx.x) {}

    DS4_DEVICE bool is_done() const { return pass_ >= plan_.n_passes; }
    DS4_DEVICE uint32_t pass() const { return pass_; }
    DS4_DEVICE Item item() const { return items_[item_]; }
    DS4_DEVICE void advance() {
        if (++item_ < items_.n()) return;
        item_ = 0;
        pass_ += gridDim.x;
    }

  private:
    const DownPlan& plan_;
    const Items& items_;
    uint32_t pass_, item_ = 0;
};

// The weights of a warp in the order of use, over all passes of its block.
class WeightStream {
  public:
    DS4_DEVICE WeightStream(const DownArgs& a, const DownPlan& plan, const Items& items,
                            const ExpertEntry* entries, uint32_t tile_bytes, uint32_t group, uint32_t slice)
        : a_(a),
          plan_(plan),
          at_(plan, items),
          entries_(entries),
          tile_bytes_(tile_bytes),
          group_(group),
          slice_(slice) {}

    DS4_DEVICE void request(WarpRing& ring) {
        if (at_.is_done()) {
            ring.request(nullptr, 0);
            return;
        }
        const Item item = at_.item();
        const uint32_t first = at_.pass() * plan_.row_tiles;
        if (item.is_shared) {
            const uint64_t tile =
                static_cast<uint64_t>(first + group_) * (a_.n_ff / 128) + 2 * slice_ + part_;
            ring.request(a_.shared_tiles + tile * kSharedBytes, kSharedBytes);
        } else {
            const uint64_t tile = static_cast<uint64_t>(first + part_) * (a_.n_ff / kActInputs) + slice_;
            const auto expert = static_cast<uint32_t>(entries_[item.index].expert);
            ring.request(a_.tiles + expert * a_.expert_bytes + tile * tile_bytes_, tile_bytes_);
        }
        if (++part_ < (item.is_shared ? kSharedTiles : item.row_tiles)) return;
        part_ = 0;
        at_.advance();
    }

  private:
    const DownArgs& a_;
    const DownPlan& plan_;
    ItemCursor at_;
    const ExpertEntry* entries_;
    uint32_t tile_bytes_, group_, slice_;
    uint32_t part_ = 0;
};

// The activations of a warp's slice, item by item, likewise.
class ActStream {
  public:
    DS4_DEVICE ActStream(const DownArgs& a, const DownPlan& plan, const Items& items,
                         const ExpertEntry* entries, uint32_t slice)
        : a_(a), at_(plan, items), entries_(entries), slice_(slice) {}

    DS4_DEVICE void request(WarpRing& ring) {
        if (at_.is_done()) {
            ring.request(nullptr, 0);
            return;
        }
        const Item item = at_.item();
        const uint32_t n_blocks = a_.n_ff / kActInputs;
        if (item.is_shared) {
            const auto n = static_cast<int>(min(a_.n - 8 * item.index, 8u));
            ring.request_parts(n, static_cast<uint32_t>(n) * sizeof(ActBlock), [&](int i) {
                const uint32_t column = static_cast<uint32_t>(i);
                return WarpRing::Part{a_.shared_act + (8 * item.index + column) * n_blocks + slice_,
                                      column * kColumnBytes, sizeof(ActBlock)};
            });
        } else {
            const ExpertEntry& entry = entries_[item.index];
            const int n = entry.n;
            ring.request_parts(2 * n, static_cast<uint32_t>(n) * kColumnBytes, [&](int i) {
                const uint32_t column = static_cast<uint32_t>(i < n ? i : i - n);
                const uint32_t block = static_cast<uint32_t>(entry.pair[column]) * n_blocks + slice_;
                if (i < n) return WarpRing::Part{a_.act + block, column * kColumnBytes, sizeof(ActBlock)};
                return WarpRing::Part{a_.act_sums + block * (kActInputs / kSumInputs),
                                      column * kColumnBytes + static_cast<uint32_t>(sizeof(ActBlock)),
                                      kColumnBytes - static_cast<uint32_t>(sizeof(ActBlock))};
            });
        }
        at_.advance();
    }

  private:
    const DownArgs& a_;
    ItemCursor at_;
    const ExpertEntry* entries_;
    uint32_t slice_;
};

}  // namespace ds4::gpu::cuda
