#include "backend/cpu/select_rows.h"

#include <algorithm>
#include <bit>
#include <functional>
#include <numeric>

#include "backend/cpu/grain.h"
#include "backend/cpu/index_kernel.h"
#include "backend/cpu/kv_rows.h"

namespace ds4::cpu {
namespace {

constexpr std::int64_t kRatio = 4;  // only these layers have an indexer
constexpr std::int64_t kGroup = 8;  // queries per group
constexpr std::int64_t kKeyChunk =
    512;  // keys per task, so that one query at long context occupies every thread
constexpr std::int64_t kMaxRanks = std::int64_t{1} << 24;  // bounds the scratch of a long prefill to 128 MiB
constexpr auto kBlock = static_cast<std::int64_t>(kIndexKeys);

// A number that is larger for the higher score and, among equal scores, for the lower row. Floats order like
// their bits once the negative ones are turned around; a score is never -0, for its sum starts at 0.
std::uint64_t rank_of(float score, std::int64_t row) {
    constexpr std::uint32_t kSign = 0x80000000U;
    const auto bits = std::bit_cast<std::uint32_t>(score);
    const std::uint32_t ordered = (bits & kSign) != 0 ? ~bits : bits | kSign;
    return std::uint64_t{ordered} << 32 | (0xffffffffU - static_cast<std::uint32_t>(row));
}

std::int32_t row_of(std::uint64_t rank) {
    return static_cast<std::int32_t>(0xffffffffU - static_cast<std::uint32_t>(rank));
}

// Rows that exist for a query.
std::int64_t n_visible(const Segment& segment, std::int64_t row) {
    return (segment.start + row - segment.first_row + 1) / kRatio;
}

// Keys [first, first + n) as (head_dim, kIndexKeys), n <= kIndexKeys; the places behind them are zero. Behind
// the block there is room for one more key.
void transpose_keys(const PagedRows& rows, std::int64_t first, std::int64_t n, std::int64_t head_dim,
                    float* out) {
    float* key = out + head_dim * kBlock;
    for (std::int64_t k = 0; k < kBlock; ++k) {
        if (k < n) cpu::decode_kv_row(rows.format, rows.row(first + k), key);
        if (k == n) std::fill_n(key, head_dim, 0.0F);
        for (std::int64_t i = 0; i < head_dim; ++i) out[i * kBlock + k] = key[i];
    }
}

}  // namespace

// Lists all rows for the queries that may see them all; returns the others in groups.
std::span<const RowSelector::Group> RowSelector::find_groups(const BatchRows& batch,
                                                             const Selection& selection) {
    const auto most = static_cast<std::size_t>(batch.n_rows() / kGroup) + batch.segments.size();
    Group* groups = groups_.take(most);
    std::size_t n_groups = 0;
    for (std::size_t s = 0; s < batch.segments.size(); ++s) {
        const Segment& segment = batch.segments[s];
        const std::int64_t end = segment.first_row + segment.n_rows;
        std::int64_t row = segment.first_row;
        for (; row < end && n_visible(segment, row) <= selection.capacity; ++row) {
            const std::int64_t n = n_visible(segment, row);
            std::int32_t* list = selection.rows + row * selection.capacity;
            std::iota(list, list + n, 0);
            selection.count[row] = static_cast<std::int32_t>(n);
        }
        for (; row < end; row += kGroup) {
            const std::int64_t n = std::min(kGroup, end - row);
            groups[n_groups++] = {s, row, n, n_visible(segment, row + n - 1)};
        }
    }
    return {groups, n_groups};
}

void RowSelector::run(const BatchRows& batch, std::span<const LayerHistory> history, Rows q, Rows weight,
                      std::int64_t head_dim, const Selection& selection) {
    const std::span<const Group> groups = find_groups(batch, selection);
    std::int64_t stride = 0;
    for (const Group& group : groups) {
        stride = std::max(stride, (group.n_keys + kBlock - 1) / kBlock * kBlock);
    }
    if (stride == 0) return;
    const auto at_once = static_cast<std::size_t>(std::max<std::int64_t>(1, kMaxRanks / (kGroup * stride)));
    for (std::size_t first = 0; first < groups.size(); first += at_once) {
        const auto some = groups.subspan(first, std::min(at_once, groups.size() - first));
        const Ranks ranks{ranks_.take(some.size() * static_cast<std::size_t>(kGroup * stride)), stride};
        score(some, history, {q, weight, head_dim}, ranks);
        choose(some, batch, selection, ranks);
    }
}

// Tasks are (group, chunk of keys).
void RowSelector::score(std::span<const Group> groups, std::span<const LayerHistory> history,
                        const Queries& queries, const Ranks& ranks) {
    const std::int64_t n_chunks = (ranks.stride + kKeyChunk - 1) / kKeyChunk;
    const auto block_floats = static_cast<std::size_t>(queries.head_dim * (kBlock + 1));
    float* blocks = keys_.take(static_cast<std::size_t>(pool_.size()) * block_floats);

    const auto score_chunk = [&](std::int64_t g, std::int64_t first, float* keys) {
        const Group& group = groups[static_cast<std::size_t>(g)];
        const std::int64_t end = std::min(first + kKeyChunk, group.n_keys);
        for (std::int64_t k = first; k < end; k += kBlock) {
            const std::int64_t n = std::min(kBlock, end - k);
            transpose_keys(history[group.segment].indexer, k, n, queries.head_dim, keys);
            for (std::int64_t i = 0; i < group.n_queries; ++i) {
                const std::int64_t row = group.first_row + i;
                float scores[kIndexKeys];
                index_scores(queries.q.row(row), queries.weight.row(row),
                             static_cast<std::size_t>(queries.weight.width),
                             static_cast<std::size_t>(queries.head_dim), keys, scores);
                std::uint64_t* out = ranks.data + (g * kGroup + i) * ranks.stride + k;
                for (std::int64_t j = 0; j < n; ++j) out[j] = rank_of(scores[j], k + j);
            }
        }
    };

    const auto n_tasks = groups.size() * static_cast<std::size_t>(n_chunks);
    pool_.parallel_for(n_tasks, [&](std::size_t begin, std::size_t end, int member) {
        float* keys = blocks + static_cast<std::size_t>(member) * block_floats;
        for (auto task = static_cast<std::int64_t>(begin); task < static_cast<std::int64_t>(end); ++task) {
            score_chunk(task / n_chunks, task % n_chunks * kKeyChunk, keys);
        }
    });
}

// The ranks of one query's keys are all different, so the best `capacity` of them are one set.
void RowSelector::choose(std::span<const Group> groups, const BatchRows& batch, const Selection& selection,
                         const Ranks& ranks) {
    const auto choose_one = [&](const Group& group, std::int64_t row, std::uint64_t* rank) {
        const std::int64_t n = n_visible(batch.segments[group.segment], row);
        std::nth_element(rank, rank + selection.capacity - 1, rank + n, std::greater<>());
        std::int32_t* list = selection.rows + row * selection.capacity;
        std::transform(rank, rank + selection.capacity, list, row_of);
        std::sort(list, list + selection.capacity);
        selection.count[row] = static_cast<std::int32_t>(selection.capacity);
    };

    const std::size_t n_tasks = groups.size() * static_cast<std::size_t>(kGroup);
    constexpr std::int64_t kStepsPerKey = 8;
    pool_.parallel_for(n_tasks, grain_for(kStepsPerKey * ranks.stride),
                       [&](std::size_t begin, std::size_t end) {
                           for (auto task = static_cast<std::int64_t>(begin);
                                task < static_cast<std::int64_t>(end); ++task) {
                               const Group& group = groups[static_cast<std::size_t>(task / kGroup)];
                               const std::int64_t i = task % kGroup;
                               if (i < group.n_queries)
                                   choose_one(group, group.first_row + i, ranks.data + task * ranks.stride);
                           }
                       });
}

}  // namespace ds4::cpu
