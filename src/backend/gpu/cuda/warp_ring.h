#pragma once

#include "backend/gpu/cuda/ptx.h"

namespace ds4::gpu::cuda {

// A warp's own stream of pieces of memory through a ring of slots in shared memory: requested in order, used
// in order, as many ahead as there are slots. Every method is called by the whole warp. On sm_90 the copy
// engine moves a piece at one lane's command; before that the lanes copy 16 bytes each.
class WarpRing {
  public:
    static constexpr int kMaxSlots = 4;

    // memory: n_slots * slot_bytes, 16-byte aligned, slot_bytes a multiple of 16. barriers: n_slots. 2 to
    // kMaxSlots slots.
    DS4_DEVICE WarpRing(uint8_t* memory, uint64_t* barriers, int n_slots, uint32_t slot_bytes)
        : memory_(memory), barriers_(barriers), slot_bytes_(slot_bytes), n_slots_(n_slots) {
#if __CUDA_ARCH__ >= 900
        if (lane() == 0) {
            for (int i = 0; i < n_slots; ++i) barrier_init(barriers + i);
            copy_engine_fence();
        }
        __syncwarp();
        policy_ = streaming_policy();
#endif
    }

    // Fills the next slot from `from`; nullptr: the stream has ended, nothing is copied. The slot must be
    // free.
    DS4_DEVICE void request(const uint8_t* from, uint32_t bytes) {
        uint8_t* to = memory_ + static_cast<uint32_t>(filling_) * slot_bytes_;
#if __CUDA_ARCH__ >= 900
        if (from != nullptr && lane() == 0) {
            barrier_expect(barriers_ + filling_, bytes);
            bulk_copy(to, from, bytes, barriers_ + filling_, policy_);
        }
#else
        if (from != nullptr) {
            for (uint32_t i = 16 * lane(); i < bytes; i += 512) async_copy16(to + i, from + i);
        }
        async_commit();
#endif
        filling_ = filling_ + 1 == n_slots_ ? 0 : filling_ + 1;
    }

    // Fills the next slot from several places: part(i) is a Part for i < n_parts <= 32; `bytes` is their sum.
    struct Part {
        const void* from;
        uint32_t offset, bytes;  // in the slot; multiples of 16
    };
    template <class F>
    DS4_DEVICE void request_parts(int n_parts, uint32_t bytes, F part) {
        uint8_t* to = memory_ + static_cast<uint32_t>(filling_) * slot_bytes_;
#if __CUDA_ARCH__ >= 900
        if (n_parts > 0 && lane() == 0) barrier_expect(barriers_ + filling_, bytes);
        __syncwarp();
        if (static_cast<int>(lane()) < n_parts) {
            const Part p = part(static_cast<int>(lane()));
            bulk_copy(to + p.offset, p.from, p.bytes, barriers_ + filling_, policy_);
        }
#else
        for (int i = 0; i < n_parts; ++i) {
            const Part p = part(i);
            for (uint32_t b = 16 * lane(); b < p.bytes; b += 512) {
                async_copy16(to + p.offset + b, static_cast<const uint8_t*>(p.from) + b);
            }
        }
        async_commit();
#endif
        filling_ = filling_ + 1 == n_slots_ ? 0 : filling_ + 1;
    }

    // The oldest piece requested, when it is there.
    DS4_DEVICE const uint8_t* wait() {
#if __CUDA_ARCH__ >= 900
        barrier_wait(barriers_ + using_, phase_);
#else
        if (n_slots_ == 2) {
            async_wait<1>();
        } else if (n_slots_ == 3) {
            async_wait<2>();
        } else {
            async_wait<3>();
        }
        __syncwarp();
#endif
        return memory_ + static_cast<uint32_t>(using_) * slot_bytes_;
    }

    // The oldest piece is done with: its slot is filled by the next request, which must follow.
    DS4_DEVICE void release() {
#if __CUDA_ARCH__ >= 900
        copy_engine_fence();
#endif
        __syncwarp();
        using_ = using_ + 1 == n_slots_ ? 0 : using_ + 1;
        if (using_ == 0) phase_ ^= 1;
    }

  private:
    static DS4_DEVICE uint32_t lane() {
        return threadIdx.x % 32;
    }

    uint8_t* memory_;
    uint64_t* barriers_;
    uint64_t policy_ = 0;
    uint32_t slot_bytes_;
    uint32_t phase_ = 0;
    int n_slots_;
    int filling_ = 0, using_ = 0;
};

}  // namespace ds4::gpu::cuda
