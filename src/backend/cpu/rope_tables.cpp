#include "backend/cpu/rope_tables.h"

#include <algorithm>
#include <cmath>

#include "backend/cpu/grain.h"

namespace ds4::cpu {

void fill_rope_table(const Rope& rope, std::int32_t position, float* table) {
    for (std::int64_t i = 0; i < rope.n_dims / 2; ++i) {
        const auto theta = static_cast<double>(static_cast<float>(position) * rope.frequency[i]);
        const auto sine = static_cast<float>(std::sin(theta));
        table[2 * i] = table[2 * i + 1] = static_cast<float>(std::cos(theta));
        table[rope.n_dims + 2 * i] = -sine;
        table[rope.n_dims + 2 * i + 1] = sine;
    }
}

bool RopeTables::Tables::fit(const Rope& rope, std::span<const std::int32_t> at) const {
    // By value: a caller's table may have gone and another taken its place.
    return std::equal(frequency.begin(), frequency.end(), rope.frequency, rope.frequency + rope.n_dims / 2) &&
           std::equal(positions.begin(), positions.end(), at.begin(), at.end());
}

const float* RopeTables::get(const Rope& rope, std::span<const std::int32_t> positions) {
    if (!tables_[last_].fit(rope, positions)) last_ = 1 - last_;
    Tables& tables = tables_[last_];
    if (tables.fit(rope, positions)) return tables.values.data();

    tables.frequency.assign(rope.frequency, rope.frequency + rope.n_dims / 2);
    tables.positions.assign(positions.begin(), positions.end());
    const auto floats = static_cast<std::size_t>(2 * rope.n_dims);
    tables.values.resize(positions.size() * floats);
    constexpr std::int64_t kStepsPerPair = 64;
    pool_.parallel_for(positions.size(), grain_for(kStepsPerPair * rope.n_dims / 2),
                       [&](std::size_t begin, std::size_t end) {
                           for (std::size_t r = begin; r < end; ++r) {
                               fill_rope_table(rope, positions[r], tables.values.data() + r * floats);
                           }
                       });
    return tables.values.data();
}

}  // namespace ds4::cpu
