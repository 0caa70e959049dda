#include "backend/gpu/fuse.h"

#include <cstddef>
#include <optional>
#include <span>
#include <utility>

namespace ds4::gpu {
namespace {

bool same(Rows a, Rows b) {
    return a.data == b.data && a.n == b.n && a.width == b.width;
}

// The operation that `ops` begins with, if it can take in the next one.
template <class First, class Second>
std::pair<const First*, const Second*> pair_at(std::span<const ops::Op> ops) {
    if (ops.size() < 2) return {nullptr, nullptr};
    return {std::get_if<First>(ops.data()), std::get_if<Second>(&ops[1])};
}

struct Fused {
    ops::Op op;
    std::size_t n_ops;  // that it stands for
};

std::optional<Fused> norm_rotate(std::span<const ops::Op> ops) {
    const auto [norm, rope] = pair_at<ops::RmsNorm, ops::Rope>(ops);
    if (norm == nullptr || rope == nullptr) return std::nullopt;
    if (!same(norm->y, rope->x) || rope->head_dim != norm->width || norm->width > kMaxHeadDim)
        return std::nullopt;
    ops::NormRotate fused{*norm, *rope, std::nullopt};
    if (ops.size() > 2) {
        // A row is rounded as a whole, a group has one head: they must be the same.
        const auto* round = std::get_if<ops::RoundFp8>(&ops[2]);
        if (round != nullptr && same(round->x, rope->x) && rope->x.width == rope->head_dim)
            fused.round = *round;
    }
    return Fused{fused, fused.round ? 3U : 2U};
}

std::optional<Fused> collapse_norm(std::span<const ops::Op> ops) {
    const auto [collapse, norm] = pair_at<ops::HcCollapse, ops::RmsNorm>(ops);
    if (collapse == nullptr || norm == nullptr || collapse->norm || !norm->w) return std::nullopt;
    const Rows x = collapse->x;
    if (!same(norm->x, x) || !same(norm->y, x) || norm->width != x.width) return std::nullopt;
    ops::HcCollapse fused = *collapse;
    fused.norm = *norm;
    return Fused{fused, 2};
}

std::optional<Fused> expand_collapse(std::span<const ops::Op> ops) {
    const auto [expand, collapse] = pair_at<ops::HcExpand, ops::HcCollapse>(ops);
    if (expand == nullptr || collapse == nullptr) return std::nullopt;
    if (!same(expand->streams, collapse->streams)) return std::nullopt;
    Fused fused = collapse_norm(ops.subspan(1)).value_or(Fused{*collapse, 1});
    std::get<ops::HcCollapse>(fused.op).expand = *expand;
    ++fused.n_ops;
    return fused;
}

std::optional<Fused> rotate_round(std::span<const ops::Op> ops) {
    const auto [rope, round] = pair_at<ops::Rope, ops::RoundHadamardFp4>(ops);
    if (rope == nullptr || round == nullptr) return std::nullopt;
    if (!same(rope->x, round->x) || rope->head_dim != round->head_dim) return std::nullopt;
    return Fused{ops::RotateRound{*rope, *round}, 2};
}

std::optional<Fused> attend_rotate(std::span<const ops::Op> ops) {
    const auto [attend, store] = pair_at<ops::Attend, ops::StoreWindow>(ops);
    if (attend == nullptr || store == nullptr || ops.size() < 3 || !same(attend->kv, store->kv))
        return std::nullopt;
    const auto* rope = std::get_if<ops::Rope>(&ops[2]);
    if (rope == nullptr || !same(rope->x, attend->out) || rope->head_dim != attend->attention.head_dim)
        return std::nullopt;
    if ((rope->head_dim - rope->n_dims) % 2 != 0) return std::nullopt;  // pairs across lanes
    ops::Attend fused = *attend;
    fused.store = *store;
    fused.rope = *rope;
    return Fused{fused, 3};
}

std::optional<Fused> routed_mixture(std::span<const ops::Op> ops) {
    const auto [route, mixture] = pair_at<ops::Route, ops::Mixture>(ops);
    if (route == nullptr || mixture == nullptr || route->out.expert != mixture->routing.expert)
        return std::nullopt;
    ops::Mixture fused = *mixture;
    fused.route = *route;
    return Fused{fused, 2};
}

std::optional<Fused> fused_at(std::span<const ops::Op> ops) {
    for (const auto rule :
         {norm_rotate, collapse_norm, expand_collapse, rotate_round, attend_rotate, routed_mixture}) {
        if (const std::optional<Fused> fused = rule(ops)) return fused;
    }
    return std::nullopt;
}

}  // namespace

std::vector<ops::Op> fuse(std::vector<ops::Op> ops) {
    std::size_t n = 0;  // of the result, at the beginning of the list
    for (std::size_t i = 0; i < ops.size(); ++n) {
        const std::optional<Fused> fused = fused_at(std::span<const ops::Op>(ops).subspan(i));
        ops[n] = fused ? fused->op : ops[i];
        i += fused ? fused->n_ops : 1;
    }
    ops.erase(ops.begin() + static_cast<std::ptrdiff_t>(n), ops.end());
    return ops;
}

}  // namespace ds4::gpu
