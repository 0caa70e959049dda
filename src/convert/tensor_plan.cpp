#include "convert/tensor_plan.h"

#include <utility>

#include "convert/source_rows.h"
#include "convert/tensor_table.h"
#include "ds4/error.h"

namespace ds4::convert {
namespace {

std::string shape_text(const std::vector<std::uint64_t>& shape) {
    std::string text;
    for (const std::uint64_t n : shape) text += (text.empty() ? "[" : ", ") + std::to_string(n);
    return text.empty() ? "[]" : text + "]";
}

// Checks the sources of one file's tensors and chooses their types.
class Planner {
  public:
    Planner(const safetensors::Checkpoint& checkpoint, Recipe recipe, bool mtp)
        : checkpoint_(checkpoint), recipe_(recipe), mtp_(mtp) {}

    std::vector<PlannedTensor> plan(std::vector<TableEntry> table) const {
        std::vector<PlannedTensor> tensors;
        for (TableEntry& entry : table) tensors.push_back(plan(std::move(entry)));
        return tensors;
    }

  private:
    PlannedTensor plan(TableEntry entry) const {
        std::vector<std::uint64_t> shape(entry.ne.rbegin(), entry.ne.rend());  // the checkpoint's order
        if (entry.kind == Kind::experts) shape.erase(shape.begin());           // one tensor per expert there
        for (const std::string& source : entry.sources) check_source(entry.kind, source, shape);
        const quant::Type type = type_for(entry.kind, entry.sources.front());
        PlannedTensor t{std::move(entry.name), std::move(entry.ne), type, std::move(entry.sources), false};
        if (t.type == quant::Type::q8_0 && t.ne[0] % quant::format(t.type).block_elems != 0) {
            t.type = quant::Type::f16;
            t.is_fallback = true;
        }
        return t;
    }

    void check_source(Kind kind, const std::string& source, std::vector<std::uint64_t> wanted) const {
        const safetensors::Tensor* t = checkpoint_.find(source);
        if (t == nullptr)
            throw ModelError(checkpoint_.path().string() + ": tensor " + source + " is missing");
        if (kind == Kind::hash_table) {
            check_indices(checkpoint_, *t);
        } else {
            SourceRows(checkpoint_, *t);  // throws if it cannot be decoded
        }
        if (t->dtype == safetensors::Dtype::i8) wanted.back() /= 2;  // FP4: two values to a byte
        if (t->shape != wanted) {
            throw ModelError(checkpoint_.path().string() + ": tensor " + source + " has shape " +
                             shape_text(t->shape) + ", config.json asks for " + shape_text(wanted));
        }
    }

    quant::Type type_for(Kind kind, const std::string& source) const {
        if (kind == Kind::hash_table) return quant::Type::i32;
        if (kind == Kind::vector || recipe_ == Recipe::f32) return quant::Type::f32;
        if (recipe_ == Recipe::bf16) {
            const bool is_f32 = checkpoint_.find(source)->dtype == safetensors::Dtype::f32;
            return is_f32 ? quant::Type::f32 : quant::Type::bf16;
        }
        if (kind == Kind::embedding_like) return mtp_ ? quant::Type::f32 : quant::Type::f16;
        return quant::Type::q8_0;
    }

    const safetensors::Checkpoint& checkpoint_;
    Recipe recipe_;
    bool mtp_;
};

}  // namespace

std::vector<PlannedTensor> plan_trunk(const CheckpointConfig& config,
                                      const safetensors::Checkpoint& checkpoint, Recipe recipe) {
    return Planner(checkpoint, recipe, false).plan(trunk_table(config));
}

std::vector<PlannedTensor> plan_mtp(const CheckpointConfig& config, const safetensors::Checkpoint& checkpoint,
                                    Recipe recipe) {
    return Planner(checkpoint, recipe, true).plan(mtp_table(config));
}

}  // namespace ds4::convert
