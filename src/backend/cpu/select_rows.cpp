#include "backend/cpu/select_rows.h"

#include <algorithm>
#include <numeric>

#include "backend/cpu/grain.h"
#include "backend/cpu/index_kernel.h"
#include "backend/cpu/kv_rows.h"
#include "backend/cpu/top_rows.h"

namespace ds4::cpu {
namespace {

constexpr std::int64_t kRatio = 4;  // only these layers have an indexer
constexpr std::int64_t kGroup = 8;  // queries per group
constexpr std::int64_t kKeyChunk =
    512;  // keys per task, so that one query at long context occupies every thread
constexpr std::int64_t kMaxScores = std::int64_t{1} << 24;  // bounds the scratch of a long prefill to 64 MiB
constexpr auto kBlock = static_cast<std::int64_t>(kIndexKeys);

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

// The same keys as they are stored, in the form of index_packed.h, in `room`.
PackedIndexKeys pack_keys(const PagedRows& rows, std::int64_t first, std::int64_t n, std::int64_t head_dim,
                          float* room) {
    const std::byte* stored[kIndexKeys];
    for (std::int64_t k = 0; k < kBlock; ++k) stored[k] = rows.row(first + std::min(k, n - 1));
    const PackedIndexKeys keys{reinterpret_cast<std::uint8_t*>(room + head_dim), room};
    pack_index_keys(stored, static_cast<std::size_t>(head_dim), keys);
    return keys;
}

bool is_packed(const PagedRows& rows) {
    return rows.format.code == quant::KvRowFormat::Code::fp4;
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
    const Queries queries{q, weight, head_dim};
    pack_queries(groups, history, queries);
    const auto at_once = static_cast<std::size_t>(std::max<std::int64_t>(1, kMaxScores / (kGroup * stride)));
    for (std::size_t first = 0; first < groups.size(); first += at_once) {
        const auto some = groups.subspan(first, std::min(at_once, groups.size() - first));
        const Scores scores{scores_.take(some.size() * static_cast<std::size_t>(kGroup * stride)), stride};
        score(some, history, queries, scores);
        choose(some, batch, selection, scores);
    }
}

PackedIndexQuery RowSelector::packed_query(const Queries& queries, std::int64_t row) const {
    const std::int64_t n_blocks = queries.n_blocks();
    return {codes_.get() + row * queries.q.width, scales_.get() + row * n_blocks,
            offsets_.get() + row * n_blocks};
}

void RowSelector::pack_queries(std::span<const Group> groups, std::span<const LayerHistory> history,
                               const Queries& queries) {
    const auto packed = [&](const Group& g) { return is_packed(history[g.segment].indexer); };
    if (std::none_of(groups.begin(), groups.end(), packed)) return;
    const auto n_rows = static_cast<std::size_t>(queries.q.n);
    codes_.take(n_rows * static_cast<std::size_t>(queries.q.width));
    scales_.take(n_rows * static_cast<std::size_t>(queries.n_blocks()));
    offsets_.take(n_rows * static_cast<std::size_t>(queries.n_blocks()));
    pool_.parallel_for(
        groups.size(), grain_for(kGroup * queries.q.width / 4), [&](std::size_t begin, std::size_t end) {
            for (std::size_t g = begin; g < end; ++g) {
                for (std::int64_t i = 0; packed(groups[g]) && i < groups[g].n_queries; ++i) {
                    const std::int64_t row = groups[g].first_row + i;
                    pack_index_query(queries.q.row(row), static_cast<std::size_t>(queries.q.width),
                                     packed_query(queries, row));
                }
            }
        });
}

// Tasks are (group, chunk of keys).
void RowSelector::score(std::span<const Group> groups, std::span<const LayerHistory> history,
                        const Queries& queries, const Scores& scores) {
    const std::int64_t n_chunks = (scores.stride + kKeyChunk - 1) / kKeyChunk;
    const auto room_floats = static_cast<std::size_t>(queries.head_dim * (kBlock + 1));
    float* rooms = keys_.take(static_cast<std::size_t>(pool_.size()) * room_floats);
    const auto n_heads = static_cast<std::size_t>(queries.n_heads());
    const auto head_dim = static_cast<std::size_t>(queries.head_dim);

    const auto score_block = [&](std::int64_t g, std::int64_t first, std::int64_t n, float* room) {
        const Group& group = groups[static_cast<std::size_t>(g)];
        const PagedRows& rows = history[group.segment].indexer;
        const bool packed = is_packed(rows);
        PackedIndexKeys keys{};
        if (packed) {
            keys = pack_keys(rows, first, n, queries.head_dim, room);
        } else {
            transpose_keys(rows, first, n, queries.head_dim, room);
        }
        for (std::int64_t i = 0; i < group.n_queries; ++i) {
            const std::int64_t row = group.first_row + i;
            float* out = scores.data + (g * kGroup + i) * scores.stride + first;
            const float* weight = queries.weight.row(row);
            if (packed) {
                packed_index_scores(packed_query(queries, row), weight, n_heads, head_dim, keys, out);
            } else {
                index_scores(queries.q.row(row), weight, n_heads, head_dim, room, out);
            }
        }
    };

    const auto n_tasks = groups.size() * static_cast<std::size_t>(n_chunks);
    pool_.parallel_for(n_tasks, [&](std::size_t begin, std::size_t end, int member) {
        float* room = rooms + static_cast<std::size_t>(member) * room_floats;
        for (auto task = static_cast<std::int64_t>(begin); task < static_cast<std::int64_t>(end); ++task) {
            const std::int64_t g = task / n_chunks;
            const std::int64_t first = task % n_chunks * kKeyChunk;
            const std::int64_t last = std::min(first + kKeyChunk, groups[static_cast<std::size_t>(g)].n_keys);
            for (std::int64_t k = first; k < last; k += kBlock) {
                score_block(g, k, std::min(kBlock, last - k), room);
            }
        }
    });
}

void RowSelector::choose(std::span<const Group> groups, const BatchRows& batch, const Selection& selection,
                         const Scores& scores) {
    const auto room = static_cast<std::size_t>(scores.stride + 16);
    std::int32_t* ranks = ranks_.take(static_cast<std::size_t>(pool_.size()) * room);
    const std::size_t n_tasks = groups.size() * static_cast<std::size_t>(kGroup);
    const auto choose_some = [&](std::size_t begin, std::size_t end, int member) {
        for (auto task = static_cast<std::int64_t>(begin); task < static_cast<std::int64_t>(end); ++task) {
            const Group& group = groups[static_cast<std::size_t>(task / kGroup)];
            if (task % kGroup >= group.n_queries) continue;
            const std::int64_t row = group.first_row + task % kGroup;
            const std::int64_t n = n_visible(batch.segments[group.segment], row);
            top_rows(scores.data + task * scores.stride, static_cast<std::size_t>(n),
                     static_cast<std::size_t>(selection.capacity),
                     ranks + static_cast<std::size_t>(member) * room,
                     selection.rows + row * selection.capacity);
            selection.count[row] = static_cast<std::int32_t>(selection.capacity);
        }
    };
    constexpr std::int64_t kStepsPerKey = 4;
    pool_.parallel_for(n_tasks, grain_for(kStepsPerKey * scores.stride), choose_some);
}

}  // namespace ds4::cpu
