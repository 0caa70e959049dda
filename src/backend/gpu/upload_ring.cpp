#include "backend/gpu/upload_ring.h"

#include <algorithm>
#include <thread>

#include "base/mapped_file.h"
#include "ds4/error.h"

namespace ds4::gpu {
namespace {

constexpr unsigned kMaxThreads = 16;  // each reads 1 to 5 GB/s from the page cache

int threads_or_default(int n) {
    if (n > 0) return n;
    return static_cast<int>(std::clamp(std::thread::hardware_concurrency(), 1U, kMaxThreads));
}

}  // namespace

UploadRing::UploadRing(CopyEngine& engine, const Options& options)
    : engine_(engine), options_(options), pool_(threads_or_default(options.n_threads)) {
    slots_.reserve(options.n_slots);
    try {
        for (std::size_t i = 0; i < options.n_slots; ++i) slots_.push_back(engine.pin(options.slot_bytes));
    } catch (...) {
        for (std::byte* slot : slots_) engine.unpin(slot);
        throw;
    }
}

UploadRing::~UploadRing() {
    for (std::size_t i = 0; i < slots_.size(); ++i) {
        try {
            engine_.await(i);
        } catch (const DeviceError&) {
            // A device that has failed reads no more.
        }
        engine_.unpin(slots_[i]);
    }
}

void UploadRing::upload(void* to, std::span<const std::byte> host) {
    auto* at = static_cast<std::byte*>(to);
    while (!host.empty()) {
        const auto part = host.first(std::min(options_.slot_bytes, host.size()));
        host = host.subspan(part.size());
        const std::size_t slot = next_++ % slots_.size();
        engine_.await(slot);
        fill(slots_[slot], part, host.first(std::min(options_.slot_bytes, host.size())));
        engine_.start(slot, at, slots_[slot], part.size());
        at += part.size();
    }
}

// The first task asks for what comes next, so that the disk is busy while the rest is copied.
void UploadRing::fill(std::byte* slot, std::span<const std::byte> part, std::span<const std::byte> after) {
    const std::size_t n_grains = (part.size() + options_.grain - 1) / options_.grain;
    pool_.parallel_for(n_grains + 1, [&](std::size_t begin, std::size_t end) {
        for (std::size_t task = begin; task < end; ++task) {
            if (task == 0) {
                will_read(after);
                continue;
            }
            const std::size_t first = (task - 1) * options_.grain;
            read_bytes(part.subspan(first, std::min(options_.grain, part.size() - first)), slot + first);
        }
    });
}

}  // namespace ds4::gpu
