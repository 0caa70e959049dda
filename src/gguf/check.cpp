#include "gguf/check.h"

#include <algorithm>
#include <string>
#include <unordered_set>

#include "ds4/error.h"
#include "gguf/printable.h"

namespace ds4::gguf {
namespace {

constexpr std::size_t kBlocksPerSlab = std::size_t{1} << 16;

void check_blocks(const File& file, const Tensor& t, std::size_t first, std::size_t n) {
    if (t.format->find_bad_scale == nullptr) return;
    const std::size_t bad = t.format->find_bad_scale(t.data.data() + first * t.format->block_bytes, n);
    if (bad == n) return;
    throw GgufError(file.path().string() + ": tensor " + printable(t.name) + ": " +
                    std::string(t.format->name) + " block " + std::to_string(first + bad) +
                    " has a NaN or infinite scale or value; the file is damaged");
}

}  // namespace

void check_values(const File& file, const std::function<void(std::uint64_t bytes)>& progress) {
    std::unordered_set<const std::byte*> checked;  // aliases would make a small file take forever
    std::uint64_t done = 0;
    for (const Tensor& t : file.tensors()) {
        if (!checked.insert(t.data.data()).second) continue;
        const std::size_t n_blocks = t.data.size() / t.format->block_bytes;
        for (std::size_t first = 0; first < n_blocks; first += kBlocksPerSlab) {
            const std::size_t n = std::min(kBlocksPerSlab, n_blocks - first);
            check_blocks(file, t, first, n);
            done += n * t.format->block_bytes;
            if (progress) progress(done);
        }
    }
}

}  // namespace ds4::gguf
