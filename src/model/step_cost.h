#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gguf/gguf.h"
#include "model/config.h"
#include "quant/kv_rows.h"

// What a step must read and compute, whoever computes it: the ground for ceilings of its speed.
namespace ds4 {

// The class of model.md 3.2 that a tensor belongs to, by its name.
std::string_view tensor_class(std::string_view name);

struct Cost {
    double bytes = 0;     // read from memory
    double int8_ops = 0;  // products with quantised weights; a multiplication and an addition are two
    double f32_ops = 0;   // all other products

    Cost& operator+=(const Cost& other);
};

struct ClassCost {
    std::string_view title;
    Cost cost;
};

// A step appends n_rows tokens of one session after n_context tokens.
struct StepShape {
    std::int64_t n_context = 0;
    std::int64_t n_rows = 1;
    quant::KvFormat kv_format = quant::KvFormat::packed;
};

// By class, in a fixed order. Weights are read once a step: of tables the rows of the tokens, of the routed
// experts those that n_rows tokens hit on average, the indexer's query only where it has to choose. The
// history is read once as well, by whichever row sees it. Logits of the last row. model.md 3.2, 13.2, 19
std::vector<ClassCost> step_costs(std::span<const gguf::Tensor> tensors, const Config& config,
                                  const StepShape& shape);

Cost total_cost(std::span<const ClassCost> costs);

}  // namespace ds4
