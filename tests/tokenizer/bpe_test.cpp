#include "tokenizer/bpe.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tokenizer/random_text.h"

namespace ds4::tokenizer {
namespace {

// The definition: look through the whole sequence for the lowest rank, merge its first place, start again.
std::vector<std::int32_t> plain_merge(const MergeTable& merges, std::vector<std::int32_t> ids) {
    while (true) {
        std::size_t best = 0;
        const MergeTable::Merge* best_merge = nullptr;
        for (std::size_t i = 0; i + 1 < ids.size(); ++i) {
            const MergeTable::Merge* merge = merges.find(ids[i], ids[i + 1]);
            if (merge != nullptr && (best_merge == nullptr || merge->rank < best_merge->rank)) {
                best = i;
                best_merge = merge;
            }
        }
        if (best_merge == nullptr) return ids;
        ids[best] = best_merge->result;
        ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
}

// Random pairs of earlier tokens; token n_bytes + r is what merge r makes. Ranks are shuffled against ids
// when asked, because a table may let a long token merge before its own parts exist.
MergeTable random_merges(std::mt19937& rng, std::int32_t n_bytes, std::int32_t n_merges, bool shuffle) {
    std::vector<std::int32_t> ranks;
    for (std::int32_t r = 0; r < n_merges; ++r) ranks.push_back(r);
    if (shuffle) std::shuffle(ranks.begin(), ranks.end(), rng);
    MergeTable merges;
    for (std::int32_t r = 0; r < n_merges;) {
        const auto known = static_cast<std::size_t>(n_bytes + r);
        const auto left = static_cast<std::int32_t>(test::random_below(rng, known));
        const auto right = static_cast<std::int32_t>(test::random_below(rng, known));
        if (merges.add(left, right, {ranks[static_cast<std::size_t>(r)], n_bytes + r})) ++r;
    }
    return merges;
}

TEST(PieceMerger, EqualsTheDefinitionOnRandomTables) {
    std::mt19937 rng(3);
    for (int table = 0; table < 200; ++table) {
        const auto n_bytes = static_cast<std::int32_t>(1 + test::random_below(rng, 4));
        const MergeTable merges = random_merges(
            rng, n_bytes, static_cast<std::int32_t>(test::random_below(rng, 40)), table % 2 == 1);
        PieceMerger merger(merges);
        for (int i = 0; i < 50; ++i) {
            std::vector<std::int32_t> ids(test::random_below(rng, 60));
            for (std::int32_t& id : ids)
                id = static_cast<std::int32_t>(test::random_below(rng, std::size_t(n_bytes)));
            const auto expected = plain_merge(merges, ids);
            merger.merge(ids);
            ASSERT_EQ(ids, expected);
        }
    }
}

TEST(PieceMerger, LeftmostFirstAmongEquals) {
    MergeTable merges;
    merges.add(0, 0, {0, 1});
    PieceMerger merger(merges);
    std::vector<std::int32_t> ids = {0, 0, 0};
    merger.merge(ids);
    EXPECT_EQ(ids, (std::vector<std::int32_t>{1, 0}));
}

TEST(MergeTable, RefusesAPairTwice) {
    MergeTable merges;
    EXPECT_TRUE(merges.add(1, 2, {0, 3}));
    EXPECT_FALSE(merges.add(1, 2, {1, 4}));
    EXPECT_EQ(merges.find(1, 2)->result, 3);
    EXPECT_EQ(merges.find(2, 1), nullptr);
}

}  // namespace
}  // namespace ds4::tokenizer
