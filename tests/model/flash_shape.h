#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "backend/backend.h"
#include "model/config.h"
#include "model/weights.h"
#include "quant/format.h"

namespace ds4::test {

// DeepSeek V4 Flash as a q2 file has it, without a single weight: most pointers lead nowhere. For backends
// whose device never follows them (backend/gpu/idle_device.h).
class FlashShape {
  public:
    // The first n_layers layers; the backend must outlive it.
    explicit FlashShape(Backend& backend, std::int64_t n_layers = 43);

    Config config;
    Weights weights;

  private:
    template <class T>
    const T* nowhere(std::size_t bytes);
    Matrix host(quant::Type type, std::int64_t n_in, std::int64_t n_out, std::int64_t stack = 1);
    Matrix matrix(quant::Type type, std::int64_t n_in, std::int64_t n_out,
                  Backend::MatrixUse use = Backend::MatrixUse::product);
    Vector vector(std::int64_t n);
    HyperConnection hyper_connection(std::int64_t width, std::int64_t n_scales);
    CompressorWeights compressor(std::int64_t ratio, std::int64_t dim);
    LayerWeights layer(std::int64_t ratio, bool hash);

    Backend& backend_;
    std::vector<std::byte> zeros_;  // what a backend reads on the host
    std::uintptr_t next_ = std::uintptr_t{1} << 43;
};

}  // namespace ds4::test
