#pragma once

#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "backend/gpu/device.h"
#include "backend/gpu/ops.h"
#include "backend/gpu/placement.h"
#include "backend/gpu/scratch.h"

namespace ds4::gpu {

// Neighbouring products of the same rows with weights in tiles: they become one launch.
struct PendingProducts {
    struct Product {
        Matrix w;
        Matrix up;  // of a gated product: y is for `mixture`
        Rows y;
    };

    Rows x;
    Vector norm;  // of x on the way in, if there is one
    float norm_eps = 0;
    std::int64_t n_groups = 1;
    float clamp = 0;
    std::vector<Product> products;

    // Whether the operation may become part of them.
    static bool joins(const ops::Op& op) {
        return std::holds_alternative<ops::Matmul>(op) || std::holds_alternative<ops::GatedMatmul>(op);
    }
};

// Turns recorded operations into launches.
class Lowering {
  public:
    explicit Lowering(Device& device) : device_(device), scratch_(device) {}

    // The launches of these operations, in order; valid until the next call. Throws DeviceMemoryError.
    std::span<const Launch> run(std::span<const ops::Op> ops);
    // Whether working memory moved in the last run: the same operations become other launches from now on.
    bool has_moved() const { return scratch_.has_moved(); }

  private:
    // Activation rows as products with weights of one type take them.
    struct Activations {
        const std::uint8_t* data;
        std::uint32_t stride;  // bytes
    };

    // If generated rows are made ready for attention next: the launch that does so, and how many operations
    // that were; otherwise 0.
    std::size_t prepare_attention(std::span<const ops::Op> ops);
    static NormRotateArgs norm_rotate_args(const ops::NormRotate& op);
    static RotateRoundArgs rotate_round_args(const ops::RotateRound& op);
    static CompressArgs compress_args(const ops::Compress& op);

    void lower(const ops::RowRun& op);
    void lower(const ops::Matmul& op);
    void lower(const ops::RmsNorm& op);
    void lower(const ops::Add& op);
    void lower(const ops::ArgMax& op);
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
    void lower(const ops::GatedMatmul& op);
    void lower(const ops::Mixture& op);

    // hc_collapse of n rows of prompts.
    void launch_prompt_site(const HcSiteArgs& site, std::int64_t n);

    // ---- products of rows (lower_products.cpp)

    // f(first, n, is_prompt) for the runs of `n` rows that belong to the rows of the batch.
    template <class F>
    void for_runs(std::int64_t n, const F& f) const {
        const std::int64_t n_batch = runs_.empty() ? 0 : runs_.back().first + runs_.back().n_rows;
        if (n_batch == 0 || n % n_batch != 0) return f(std::int64_t{0}, n, false);
        const std::int64_t each = n / n_batch;
        for (const ops::RowRun& run : runs_) f(each * run.first, each * run.n_rows, run.is_prompt);
    }
    bool all_generated(std::int64_t n) const;
    Activations prepare(quant::Type weights, Rows x);
    Rows normed(Rows x, const Vector& norm, float eps);
    void product(const Matrix& w, std::int64_t n_groups, Rows x, Rows y);
    // One more product with weights in tiles; `with`: x and what comes with it, without products.
    void join(const PendingProducts::Product& product, const PendingProducts& with);
    void multiply_pending();
    void multiply_generated(const PendingProducts& p, std::int64_t first, std::int64_t n);
    void multiply_prompt(const PendingProducts& p, std::int64_t first, std::int64_t n);

    // ---- experts (lower_experts.cpp)

    // Rows of an operation on experts. `shared`: null, or the shared expert whose activations are in `act`.
    struct ExpertRows {
        Routing routing;
        Rows x, act, scratch, y;
        std::optional<ops::Route> route;  // that fills `routing` first

        ExpertRows slice(std::int64_t first, std::int64_t n) const;
    };
    void experts(const Experts& routed, const Experts* shared, const ExpertRows& rows);
    void generated_experts(const Experts& routed, const Experts* shared, const ExpertRows& rows);
    void prompt_experts(const Experts& routed, const Experts* shared, const ExpertRows& rows);
    void experts_in_file_order(const Experts& routed, const ExpertRows& rows);
    void multiply_shared(const Matrix& down, const ExpertRows& rows);
    void add_shared(const Experts& shared, const ExpertRows& rows, bool is_prompt);
    // pairs_per_act: pairs that share a row of x. y (n_pairs, w.n_out)
    void expert_product(const Matrix& w, const Routing& routing, Activations x, std::int64_t pairs_per_act,
                        Rows y);
    const std::uint32_t* codebook();

    // kOneLaunchRows counters, all 0.
    std::uint32_t* arrived();

    template <class Args>
    void launch(Kernel kernel, Grid grid, const Args& args) {
        if (grid.x > 0 && grid.y > 0) launches_.push_back(make_launch(kernel, grid, args));
    }

    Device& device_;
    Scratch scratch_;
    std::vector<Launch> launches_;
    std::vector<ops::RowRun> runs_;  // of the batch; none: generated rows
    PendingProducts products_;
    Buffer codebook_;  // of IQ2_XXS
    Buffer arrived_;
};

// Shapes of grids, and a scale.
inline std::uint32_t u32(std::int64_t n) {
    return static_cast<std::uint32_t>(n);
}
inline std::uint32_t parts(std::int64_t n, std::int64_t of) {
    return u32((n + of - 1) / of);
}
inline const std::uint8_t* bytes_at(const std::byte* p) {
    return reinterpret_cast<const std::uint8_t*>(p);
}
// Rows that the backend keeps as halves, from `first` on: in the first half of the room they have.
inline std::uint16_t* halves_at(Rows rows, std::int64_t first) {
    return reinterpret_cast<std::uint16_t*>(rows.row(first));
}
inline float inverse_root(std::int64_t n) {
    return static_cast<float>(1.0 / std::sqrt(static_cast<double>(n)));
}
inline constexpr std::int64_t kGeneratedRows = 16;  // that products take at a time
inline constexpr std::int64_t kThreads = 256;       // of a group
inline constexpr std::int64_t kSimds = 8;           // of such a group

}  // namespace ds4::gpu
