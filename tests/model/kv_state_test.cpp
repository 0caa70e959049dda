#include "model/kv_state.h"

#include <gtest/gtest.h>

#include "backend/cpu/cpu_backend.h"
#include "model/random_model.h"

namespace ds4 {
namespace {

// A backend reads as many page addresses as the rows of a list need; of a list that is not there, none.
TEST(KvState, ListsThatALayerLacksHaveNoPages) {
    const auto cpu = make_cpu_backend(1);
    const test::RandomModel model(7);
    const KvLayout layout(model.config, model.config.ratios, quant::KvFormat::packed);
    KvState state(layout, *cpu);
    state.reserve(3 * KvLayout::kPageTokens);
    for (std::size_t l = 0; l < model.config.ratios.size(); ++l) {
        const std::int64_t ratio = model.config.ratios[l];
        const LayerHistory history = state.history(static_cast<std::int64_t>(l));
        EXPECT_EQ(history.compressed.pages != nullptr, ratio != 0) << "layer " << l;
        EXPECT_EQ(history.indexer.pages != nullptr, ratio == 4) << "layer " << l;
    }
}

}  // namespace
}  // namespace ds4
