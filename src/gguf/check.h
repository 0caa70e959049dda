#pragma once

#include <cstdint>
#include <functional>

#include "gguf/gguf.h"

namespace ds4::gguf {

// Reads every tensor and looks for block scales, or values of float formats, that are NaN or infinite. Too
// slow for every load of a large file; `ds4-debug inspect --check` does it. `progress` is called with the
// bytes read so far; it may be empty. Throws GgufError naming the tensor and the block.
void check_values(const File& file, const std::function<void(std::uint64_t bytes)>& progress);

}  // namespace ds4::gguf
