#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "model/config.h"
#include "model/weights.h"
#include "quant/format.h"

namespace ds4::test {

// A model with random weights at scales that keep it stable (model.md 16.2), built in memory: every kind of
// layer, a small window and a small top-k, so that a few hundred tokens reach all of the long-context logic.
class RandomModel {
  public:
    // Matrices are stored in `type` where their rows are whole blocks, in F32 elsewhere. In host memory,
    // which every backend of the CPU can use, or where `backend` wants them; it must outlive the model.
    explicit RandomModel(std::uint64_t seed, quant::Type type = quant::Type::f32, Backend* backend = nullptr);

    Config config;
    Weights weights;
    MtpWeights mtp;

    std::vector<TokenId> tokens(std::int64_t n, std::uint64_t seed) const;

  private:
    Matrix matrix(std::int64_t n_in, std::int64_t n_out, double deviation, std::int64_t stack = 1,
                  Backend::MatrixUse use = Backend::MatrixUse::product);
    Matrix host_matrix(std::int64_t n_in, std::int64_t n_out, double deviation, std::int64_t stack);
    Experts experts(std::int64_t stack, float clamp);
    Vector vector(std::int64_t n, double mean, double deviation);
    HyperConnection hyper_connection(std::int64_t width, std::int64_t n_scales);
    CompressorWeights compressor(std::int64_t ratio, std::int64_t dim);
    LayerWeights layer(std::int64_t ratio, bool hash);
    template <class T>
    const T* placed(const std::vector<T>& values);
    double uniform();
    double normal();

    std::uint64_t state_;
    quant::Type type_;
    Backend* backend_;
    std::deque<BackendMemory> memory_;
    std::deque<std::vector<float>> vectors_;
    std::deque<std::vector<std::byte>> matrices_;
    std::deque<std::vector<std::int32_t>> tables_;
};

}  // namespace ds4::test
