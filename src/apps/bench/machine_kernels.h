#pragma once

#include <cstddef>
#include <cstdint>

// Loops that do one thing as fast as a core can. One implementation per instruction set.
namespace ds4::bench {

struct PeakKernels {
    const char* name;
    // Reads n bytes, a multiple of 512, from an address that is a multiple of 64; returns a mix of them.
    std::uint64_t (*read)(const std::byte* from, std::size_t n);
    // Run `rounds` rounds with every register busy and return how many operations that were.
    double (*int8_products)(std::int64_t rounds);
    double (*f32_products)(std::int64_t rounds);
};

// The best that this machine runs.
const PeakKernels& peak_kernels();

}  // namespace ds4::bench
