#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/gpu/device.h"
#include "backend/gpu/ops.h"
#include "backend/gpu/scratch.h"

namespace ds4::gpu {

// Turns recorded operations into launches.
class Lowering {
  public:
    explicit Lowering(Device& device) : scratch_(device) {}

    // The launches of these operations, in order; valid until the next call. Throws DeviceMemoryError.
    std::span<const Launch> run(std::span<const ops::Op> ops);

  private:
    // Activation rows as products with weights of one type take them.
    struct Activations {
        const std::uint8_t* data;
        std::uint32_t stride;  // bytes
    };

    void lower(const ops::Matmul& op);
    void lower(const ops::RmsNorm& op);
    void lower(const ops::Add& op);
    void lower(const ops::Embed& op);
    void lower(const ops::HcCollapse& op);
    void lower(const ops::HcExpand& op);
    void lower(const ops::Rope& op);
    void lower(const ops::RoundFp8& op);
    void lower(const ops::NormRotate& op);
    void lower(const ops::RotateRound& op);
    void lower(const ops::RoundHadamardFp4& op);
    void lower(const ops::Compress& op);
    void lower(const ops::SelectRows& op);
    void lower(const ops::Attend& op);
    void lower(const ops::StoreWindow& op);
    void lower(const ops::Route& op);
    void lower(const ops::RoutedExperts& op);
    void lower(const ops::Swiglu& op);

    Activations prepare(quant::Type weights, Rows x);
    void product(const Matrix& w, std::int64_t n_groups, Rows x, Rows y);
    // pairs_per_act: pairs that share a row of x. y (n_pairs, w.n_out)
    void expert_product(const Matrix& w, const Routing& routing, Activations x, std::int64_t pairs_per_act,
                        Rows y);
    void experts_of_some_rows(const Experts& experts, const Routing& routing, Rows x, Rows y);

    template <class Args>
    void launch(Kernel kernel, Grid grid, const Args& args) {
        if (grid.x > 0 && grid.y > 0) launches_.push_back(make_launch(kernel, grid, args));
    }

    Scratch scratch_;
    std::vector<Launch> launches_;
};

// Shapes of grids, and a scale.
inline std::uint32_t u32(std::int64_t n) {
    return static_cast<std::uint32_t>(n);
}
inline std::uint32_t parts(std::int64_t n, std::int64_t of) {
    return u32((n + of - 1) / of);
}
inline float inverse_root(std::int64_t n) {
    return static_cast<float>(1.0 / std::sqrt(static_cast<double>(n)));
}
inline constexpr std::int64_t kThreads = 256;  // of a group
inline constexpr std::int64_t kSimds = 8;      // of such a group

}  // namespace ds4::gpu
