#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ds4/engine.h"
#include "gguf/gguf.h"
#include "model/config.h"
#include "model/kv_layout.h"

namespace ds4 {

// What goes where on a device with memory of its own, made before anything is allocated there.
struct DevicePlan {
    struct Tensor {
        const gguf::Tensor* tensor;
        enum class Where : std::uint8_t { device, host } where;
    };
    std::vector<Tensor> tensors;  // every distinct range of bytes once

    // Bytes on the device.
    double weights = 0;
    double kv_state = 0;     // of all planned sessions
    double activations = 0;  // of a step
    double scratch = 0;      // working memory of single operations
    double free = 0;         // before anything is allocated
    double total = 0;

    double needed() const { return weights + kv_state + activations + scratch; }
    bool fits() const { return needed() <= free; }
    // One line for people: what it consists of and what there is.
    std::string text(const EngineOptions& options) const;
};

// The plan for a device that has `free` of `total` bytes; options.max_batch > 0. Throws DeviceMemoryError
// with the plan and the ways out if it does not fit.
DevicePlan plan_device(const gguf::File& file, const Config& config, const KvLayout& layout,
                       const EngineOptions& options, double free, double total);

}  // namespace ds4
