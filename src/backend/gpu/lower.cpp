#include "backend/gpu/lower.h"

namespace ds4::gpu {
namespace {

constexpr std::uint32_t kThreads = 256;  // of the groups of elementwise kernels

std::uint32_t u32(std::int64_t n) {
    return static_cast<std::uint32_t>(n);
}

std::uint32_t parts(std::int64_t n, std::int64_t of) {
    return u32((n + of - 1) / of);
}

}  // namespace

std::span<const Launch> Lowering::run(std::span<const ops::Op> ops) {
    launches_.clear();
    for (const ops::Op& op : ops) {
        std::visit([this](const auto& one) { lower(one); }, op);
    }
    return launches_;
}

void Lowering::lower(const ops::RmsNorm& op) {
    const RmsNormArgs args{op.x.data, op.w.data, op.y.data, u32(op.width), op.eps};
    launch(Kernel::rms_norm, {u32(op.x.n * op.x.width / op.width)}, args);
}

void Lowering::lower(const ops::Add& op) {
    const AddArgs args{op.x.data, op.y.data, u32(op.x.width), u32(op.y.width)};
    launch(Kernel::add, {u32(op.y.n), parts(op.y.width, kThreads)}, args);
}

void Lowering::lower(const ops::Rope& op) {
    const RopeArgs args{op.x.data,
                        op.positions,
                        op.frequency,
                        u32(op.x.width),
                        u32(op.head_dim),
                        u32(op.n_dims),
                        op.inverse ? -1.0F : 1.0F};
    launch(Kernel::rope, {u32(op.x.n)}, args);
}

}  // namespace ds4::gpu
