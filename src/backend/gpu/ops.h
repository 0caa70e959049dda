#pragma once

#include <cstdint>
#include <variant>

#include "backend/backend.h"

// The operations of backend.h as the GPU backend records them: what was host memory in the call has become a
// pointer into the step table. fuse.cpp may replace neighbours by one operation; lower.cpp turns each into
// launches.
namespace ds4::gpu::ops {

struct RmsNorm {
    Rows x;
    Vector w;
    std::int64_t width;
    float eps;
    Rows y;
};

struct Add {
    Rows x, y;
};

struct Rope {
    Rows x;
    const std::int32_t* positions;  // (x.n)
    const float* frequency;         // (n_dims / 2)
    std::int64_t n_dims, head_dim;
    bool inverse;
};

using Op = std::variant<RmsNorm, Add, Rope>;

}  // namespace ds4::gpu::ops
