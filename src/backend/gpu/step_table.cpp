#include "backend/gpu/step_table.h"

#include <algorithm>
#include <cstring>

namespace ds4::gpu {
namespace {

constexpr std::size_t kAlignment = 16;
constexpr std::size_t kBlockBytes = std::size_t{1} << 20;

}  // namespace

StepTable::Block& StepTable::block_with_room(std::size_t bytes) {
    for (; current_ < blocks_.size(); ++current_) {
        Block& block = blocks_[current_];
        if (block.device.bytes() - block.used >= bytes) return block;
    }
    const std::size_t size = std::max(kBlockBytes, bytes);
    Block block{Buffer(device_, size), std::make_unique<std::byte[]>(size)};
    return blocks_.emplace_back(std::move(block));
}

void* StepTable::add(const void* values, std::size_t bytes, std::size_t room) {
    if (bytes == 0) return nullptr;
    const auto known = std::ranges::find(known_, values, &Known::source);
    if (known != known_.end() && known->bytes >= bytes && std::memcmp(known->host, values, bytes) == 0)
        return known->device;
    const std::size_t rounded = (room + kAlignment - 1) / kAlignment * kAlignment;
    Block& block = block_with_room(rounded);
    std::byte* host = block.host.get() + block.used;
    void* device = block.device.get() + block.used;
    std::memcpy(host, values, bytes);
    block.used += rounded;
    const Known stored{values, bytes, host, device};
    if (known == known_.end()) {
        known_.push_back(stored);
    } else {
        *known = stored;
    }
    return device;
}

void StepTable::upload() {
    for (Block& block : blocks_) {
        if (block.uploaded == block.used) continue;
        device_.upload(block.device.get() + block.uploaded, block.host.get() + block.uploaded,
                       block.used - block.uploaded);
        block.uploaded = block.used;
    }
}

void StepTable::clear() {
    for (Block& block : blocks_) block.used = block.uploaded = 0;
    current_ = 0;
    known_.clear();
}

}  // namespace ds4::gpu
