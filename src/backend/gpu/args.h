#pragma once

#include <stdint.h>

// What the kernels are told: one POD per kernel family, written by the host (lower.cpp) and read by every
// device. Pointers are device memory; whatever changes from step to step (tokens, positions, segments,
// histories) is reached through pointers into the step table, so that a captured launch stays valid. Shapes
// stand beside the fields; n is the number of rows of the batch. "Group" is a thread group; kernel_list.h
// says how many threads it has, the comment here what the grid is.
#if !defined(DS4_GLOBAL)
#define DS4_GLOBAL
#endif

namespace ds4::gpu {

inline constexpr uint32_t kArgsBytes = 256;  // the most that one kernel's arguments take

// ---- rows

// y = w * x / rms(x), each row on its own. Grid: (rows). model.md 4.1
struct RmsNormArgs {
    const DS4_GLOBAL float* x;  // (rows, width)
    const DS4_GLOBAL float* w;  // (width), or null: unweighted
    DS4_GLOBAL float* y;        // (rows, width); may be x
    uint32_t width;
    float eps;
};

// y[r] += x[r] on every x_width-wide slice. Grid: (n, parts of y_width)
struct AddArgs {
    const DS4_GLOBAL float* x;  // (n, x_width)
    DS4_GLOBAL float* y;        // (n, y_width)
    uint32_t x_width, y_width;  // y_width is a multiple of x_width
};

// Rotates the last n_dims of each head by the row's position. Grid: (n). model.md 5
struct RopeArgs {
    DS4_GLOBAL float* x;                  // (n, width)
    const DS4_GLOBAL int32_t* positions;  // (n)
    const DS4_GLOBAL float* frequency;    // (n_dims / 2)
    uint32_t width, head_dim, n_dims;
    float direction;  // 1, or -1 to turn back
};

}  // namespace ds4::gpu
