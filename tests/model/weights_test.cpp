#include "model/weights.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "backend/gpu/gpu_backend.h"
#include "backend/reference/reference.h"
#include "ds4/error.h"
#include "gguf/writer.h"
#include "model/alpha.h"
#include "temporary_directory.h"

namespace ds4 {
namespace {

using testing::HasSubstr;

// A copy of the converted golden model with one tensor changed, dropped or of another type.
class WeightsFile : public testing::Test {
  protected:
    struct Change {
        std::string tensor;
        bool drop = false;
        std::vector<std::uint64_t> ne;  // empty: unchanged
        std::function<void(std::vector<std::byte>& data)> edit;
        std::string alias_of = {};  // a second name for this tensor's bytes
    };

    std::string error_with(const Change& change) {
        write(change);
        try {
            load();
        } catch (const ModelError& e) {
            EXPECT_THAT(e.what(), HasSubstr("changed.gguf: tensor " + change.tensor));
            return e.what();
        }
        return "no error";
    }

    void load() {
        const gguf::File file = gguf::File::open(dir / "changed.gguf");
        const auto backend = make_reference_backend();
        const Config config = Config::from_gguf(file);
        WeightStore(file, *backend).load_trunk(config);
    }

    void write(const Change& change) {
        const gguf::File file = gguf::File::open(source().trunk);
        gguf::Writer writer(dir / "changed.gguf");
        copy_metadata(file, writer);
        for (const gguf::Tensor& t : file.tensors()) {
            if (t.name == change.tensor && change.drop) continue;
            if (t.name == change.tensor && !change.alias_of.empty()) {
                writer.add_alias(t.name, change.alias_of);
                continue;
            }
            const auto ne = std::span(t.ne).first(static_cast<std::size_t>(t.n_dims));
            writer.add_tensor(t.name, t.format->type,
                              t.name == change.tensor && !change.ne.empty() ? std::span(change.ne) : ne);
        }
        writer.begin();
        for (const gguf::Tensor& t : file.tensors()) {
            if (t.name == change.tensor && (change.drop || !change.alias_of.empty())) continue;
            std::vector<std::byte> data(t.data.begin(), t.data.end());
            if (t.name == change.tensor && !change.ne.empty()) {
                std::size_t size = sizeof(float);
                for (const std::uint64_t n : change.ne) size *= n;
                data.resize(size);
            }
            if (t.name == change.tensor && change.edit) change.edit(data);
            writer.write(data);
        }
        writer.commit();
    }

    static void copy_metadata(const gguf::File& file, gguf::Writer& writer) {
        using gguf::ValueType;
        for (const auto& [key, value] : file.metadata()) {
            if (value.type == ValueType::string) writer.set_string(key, *file.find_string(key));
            if (value.type == ValueType::u32) {
                writer.set_u32(key, static_cast<std::uint32_t>(*file.find_uint(key)));
            }
            if (value.type == ValueType::f32) writer.set_f32(key, static_cast<float>(*file.find_float(key)));
            if (value.type == ValueType::boolean) writer.set_bool(key, *file.find_bool(key));
            if (value.type != ValueType::array) continue;
            if (value.item_type == ValueType::f32) {
                const auto wide = *file.find_float_array(key);
                writer.set_f32_array(key, std::vector<float>(wide.begin(), wide.end()));
            } else {
                const auto wide = *file.find_int_array(key);
                writer.set_i32_array(key, std::vector<std::int32_t>(wide.begin(), wide.end()));
            }
        }
    }

    static const test::AlphaFiles& source() {
        static const test::AlphaFiles files;
        return files;
    }

    test::TemporaryDirectory dir;
};

TEST_F(WeightsFile, AnUnchangedCopyLoads) {
    write({"none", false, {}, {}});
    EXPECT_NO_THROW(load());
}

// On a device with memory of its own every range of the file is there once.
TEST_F(WeightsFile, PlacesSharedBytesOnce) {
    write({"blk.1.attn_q_b.weight", false, {}, {}, "blk.0.attn_q_b.weight"});
    const gguf::File file = gguf::File::open(dir / "changed.gguf");
    const auto backend = make_gpu_backend(gpu::make_emulated_device());
    WeightStore store(file, *backend);
    const Weights weights = store.load_trunk(Config::from_gguf(file));
    const Matrix& first = weights.layers[0].attention.q_b;
    EXPECT_EQ(weights.layers[1].attention.q_b.data, first.data);
    EXPECT_NE(weights.layers[2].attention.q_b.data, first.data);
    EXPECT_NE(first.data, file.find_tensor("blk.0.attn_q_b.weight")->data.data());
}

TEST_F(WeightsFile, NamesAMissingTensor) {
    for (const char* tensor :
         {"token_embd.weight", "output_hc_scale.weight", "blk.2.indexer.proj.weight",
          "blk.0.ffn_gate_tid2eid.weight", "blk.3.exp_probs_b.bias", "blk.6.ffn_up_exps.weight"}) {
        EXPECT_THAT(error_with({tensor, true, {}, {}}), HasSubstr("is missing")) << tensor;
    }
}

TEST_F(WeightsFile, NamesAShapeThatTheMetadataContradict) {
    EXPECT_THAT(error_with({"blk.1.attn_kv.weight", false, {128, 79}, {}}),
                HasSubstr("has shape [128, 79], the metadata ask for [128, 80]"));
    EXPECT_THAT(error_with({"blk.1.ffn_down_exps.weight", false, {32, 128, 7}, {}}),
                HasSubstr("[32, 128, 8]"));
    EXPECT_THAT(error_with({"blk.1.attn_norm.weight", false, {64, 2}, {}}), HasSubstr("[128]"));
}

TEST_F(WeightsFile, RefusesHashEntriesBeyondTheExperts) {
    const auto plant = [](std::int32_t expert) {
        return [expert](std::vector<std::byte>& data) {
            std::memcpy(data.data() + 7 * sizeof expert, &expert, sizeof expert);
        };
    };
    EXPECT_THAT(error_with({"blk.0.ffn_gate_tid2eid.weight", false, {}, plant(8)}),
                HasSubstr("sends token 3 to expert 8 of 8"));
    EXPECT_THAT(error_with({"blk.0.ffn_gate_tid2eid.weight", false, {}, plant(-1)}),
                HasSubstr("to expert -1"));
}

}  // namespace
}  // namespace ds4
