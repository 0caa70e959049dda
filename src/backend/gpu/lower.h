#pragma once

#include <vector>

#include "backend/gpu/device.h"
#include "backend/gpu/ops.h"

namespace ds4::gpu {

// Turns recorded operations into launches.
class Lowering {
  public:
    explicit Lowering(Device& device) : device_(device) {}

    // The launches of these operations, in order; valid until the next call.
    std::span<const Launch> run(std::span<const ops::Op> ops);

  private:
    void lower(const ops::RmsNorm& op);
    void lower(const ops::Add& op);
    void lower(const ops::Rope& op);

    template <class Args>
    void launch(Kernel kernel, Grid grid, const Args& args) {
        if (grid.x > 0 && grid.y > 0) launches_.push_back(make_launch(kernel, grid, args));
    }

    Device& device_;
    std::vector<Launch> launches_;
};

}  // namespace ds4::gpu
