#pragma once

#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "backend/gpu/device.h"

namespace ds4::gpu {

// Bytes that a placed matrix takes at most: rows and inputs of tiles are rounded up (tiles.h), what is added
// is F32.
double placed_bytes(quant::Type type, std::int64_t n_in, std::int64_t n_out, std::int64_t stack,
                    Backend::MatrixUse use);
// Rows of a prompt that products take at a time, and rows of experts in the order of the file: they bound the
// working memory.
inline constexpr std::int64_t kPromptRows = 2048;
inline constexpr std::int64_t kFileOrderRows = 512;
inline constexpr std::size_t kStagingBytes = std::size_t{32} << 20;  // of device memory, beside the weights

// Brings weights to a device and keeps them: as they lie in the file, or in tiles where the device has
// kernels for those and type and shape suit them. Tiles are made on the device, piece by piece behind the
// copies. All functions throw DeviceMemoryError.
class Placement {
  public:
    explicit Placement(Device& device) : device_(device) {}

    Matrix place(const Matrix& host, Backend::MatrixUse use);
    Matrix place_grouped(const Matrix& host, std::int64_t n_groups);
    Experts place_experts(const Experts& host);

  private:
    Matrix as_in_the_file(const Matrix& host);
    Matrix as_f32(const Matrix& host);
    Matrix in_tiles(const Matrix& host);
    // Gate and up with their row tiles in turn.
    void interleave(Matrix& gate, Matrix& up);
    std::byte* allocate(std::size_t bytes) { return weights_.emplace_back(device_, bytes).get(); }
    void repack(const Matrix& host, std::byte* to, std::uint32_t tile_step, std::uint32_t tile_first);

    Device& device_;
    std::vector<Buffer> weights_;
    Buffer staging_;
};

}  // namespace ds4::gpu
