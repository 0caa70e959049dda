#include "convert/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bit>
#include <csignal>
#include <limits>
#include <random>
#include <set>

#include "convert/checkpoint_copy.h"
#include "convert/origins.h"
#include "ds4/error.h"
#include "gguf/gguf.h"
#include "quant/checkpoint_formats.h"

namespace ds4::convert {
namespace {

using test::mtp_origins;
using test::Origin;
using test::Origins;
using test::trunk_origins;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<float> decode(const gguf::Tensor& t) {
    std::vector<float> values(t.elements());
    t.format->decode(t.data.data(), values.data(), values.size());
    return values;
}

class ConvertTest : public testing::Test {
  protected:
    ConvertOptions options(Recipe recipe) {
        checkpoint_.write(directory_ / "in");
        ConvertOptions o;
        o.checkpoint = directory_ / "in";
        o.out = directory_ / "out.gguf";
        o.recipe = recipe;
        o.threads = 2;
        return o;
    }
    gguf::File converted(Recipe recipe) {
        const ConvertOptions o = options(recipe);
        convert(o);
        return gguf::File::open(o.out);
    }
    std::string error_of(const ConvertOptions& o) const {
        try {
            convert(o);
        } catch (const Error& e) {
            return e.what();
        }
        return "no error";
    }
    // The complaint about the checkpoint, after the directory's name. No output may be left.
    std::string error(Recipe recipe) {
        const ConvertOptions o = options(recipe);
        std::string message = error_of(o);
        EXPECT_THAT(outputs(), IsEmpty());
        const std::string prefix = o.checkpoint.string();
        return message.starts_with(prefix) ? message.substr(prefix.size()) : message;
    }
    std::set<std::string> outputs() const {
        std::set<std::string> names;
        for (const auto& entry : std::filesystem::directory_iterator(directory_.path())) {
            if (entry.path().filename() != "in") names.insert(entry.path().filename().string());
        }
        return names;
    }

    // Values of the checkpoint's tensors (F32, BF16, I32) one after the other.
    std::vector<float> source_values(const Origin& origin) const {
        std::vector<float> values;
        if (origin.after_expert.empty()) append(origin.source, values);
        for (int e = 0; e < 8 && !origin.after_expert.empty(); ++e) {
            append(origin.source + std::to_string(e) + origin.after_expert, values);
        }
        return values;
    }
    void append(const std::string& name, std::vector<float>& values) const {
        const test::StoredTensor& t = checkpoint_.tensors.at(name);
        const std::size_t size = t.dtype == "BF16" ? 2 : 4;
        for (std::size_t i = 0; i < t.data.size(); i += size) {
            std::uint32_t bits = 0;
            std::memcpy(&bits, t.data.data() + i, size);
            values.push_back(std::bit_cast<float>(t.dtype == "BF16" ? bits << 16 : bits));
        }
    }
    std::vector<std::uint64_t> source_shape(const Origin& origin) const {
        const bool stacked = !origin.after_expert.empty();
        auto shape =
            checkpoint_.tensors.at(stacked ? origin.source + "0" + origin.after_expert : origin.source).shape;
        if (stacked) shape.insert(shape.begin(), 8);
        std::reverse(shape.begin(), shape.end());
        return shape;
    }
    // The file holds exactly these tensors, F32 with the very bits of the checkpoint, I32 tables as they are.
    void expect_exact(const gguf::File& file, const Origins& origins) const {
        EXPECT_EQ(file.tensors().size(), origins.size());
        for (const auto& [name, origin] : origins) {
            const gguf::Tensor* t = file.find_tensor(name);
            ASSERT_NE(t, nullptr) << name;
            const bool is_table = name.find("tid2eid") != std::string::npos;
            EXPECT_EQ(t->format->type, is_table ? quant::Type::i32 : quant::Type::f32) << name;
            EXPECT_THAT(std::span(t->ne).first(static_cast<std::size_t>(t->n_dims)),
                        testing::ElementsAreArray(source_shape(origin)))
                << name;
            const std::vector<float> values = source_values(origin);
            ASSERT_EQ(t->data.size(), values.size() * sizeof(float)) << name;
            EXPECT_EQ(std::memcmp(t->data.data(), values.data(), t->data.size()), 0) << name;
        }
    }

    test::TemporaryDirectory directory_;
    test::CheckpointCopy checkpoint_;
};

TEST_F(ConvertTest, F32KeepsEveryBit) {
    ConvertOptions o = options(Recipe::f32);
    o.mtp_out = directory_ / "mtp.gguf";
    std::uint64_t last = 0, total = 0;
    o.progress = [&](std::uint64_t done, std::uint64_t all) {
        EXPECT_GT(done, last);
        last = done;
        total = all;
    };
    const ConvertResult result = convert(o);
    expect_exact(gguf::File::open(o.out), trunk_origins());
    expect_exact(gguf::File::open(o.mtp_out), mtp_origins());
    EXPECT_THAT(result.unused, IsEmpty());
    EXPECT_THAT(result.stored_as_f16, IsEmpty());
    EXPECT_FALSE(result.has_tokenizer);
    EXPECT_EQ(result.bytes, last);
    EXPECT_LE(last, total) << "the total has the padding, too";
    EXPECT_GT(last, total - total / 10);
}

TEST_F(ConvertTest, MtpFileCarriesTheHyperParameters) {
    ConvertOptions o = options(Recipe::q8);
    o.mtp_out = directory_ / "mtp.gguf";
    convert(o);
    const auto trunk = gguf::File::open(o.out);
    const auto mtp = gguf::File::open(o.mtp_out);
    EXPECT_EQ(trunk.find_string("general.architecture"), "deepseek4");
    EXPECT_EQ(mtp.find_string("general.architecture"), "deepseek4_mtp_support");
    EXPECT_EQ(mtp.find_string("general.name"), "in");
    for (const auto& [key, value] : trunk.metadata()) {
        if (!key.starts_with("deepseek4.")) continue;
        const gguf::Value* same = mtp.find(key);
        ASSERT_NE(same, nullptr) << key;
        EXPECT_TRUE(std::ranges::equal(same->bytes, value.bytes)) << key;
    }
    EXPECT_EQ(mtp.find_tensor("mtp.0.ffn_gate_inp.weight")->format->type, quant::Type::f32)
        << "F16 in the trunk";
    EXPECT_EQ(mtp.find_tensor("mtp.0.hc_attn_fn.weight")->format->type, quant::Type::f32);
    EXPECT_EQ(mtp.find_tensor("mtp.0.e_proj.weight")->format->type, quant::Type::q8_0);
    EXPECT_EQ(mtp.find_tensor("mtp.0.ffn_gate_exps.weight")->format->type, quant::Type::q8_0);
}

TEST_F(ConvertTest, Bf16KeepsEveryBitToo) {
    const gguf::File file = converted(Recipe::bf16);
    for (const auto& [name, origin] : trunk_origins()) {
        const gguf::Tensor& t = *file.find_tensor(name);
        if (t.format->type == quant::Type::i32) continue;
        const std::string first =
            origin.after_expert.empty() ? origin.source : origin.source + "0" + origin.after_expert;
        const bool was_bf16 = checkpoint_.tensors.at(first).dtype == "BF16";
        EXPECT_EQ(t.format->type, was_bf16 ? quant::Type::bf16 : quant::Type::f32) << name;
        EXPECT_EQ(decode(t), source_values(origin)) << name;
    }
}

// The published types: model.md 3.1, the routed experts in Q8_0.
TEST_F(ConvertTest, Q8HasThePublishedTypes) {
    const std::vector<std::string> f16 = {"token_embd",     "hc_attn_fn",    "hc_ffn_fn",
                                          "output_hc_fn",   "compressor_kv", "compressor_gate",
                                          "compressor_ape", "indexer.",      "ffn_gate_inp"};
    const std::vector<std::string> f32 = {"norm.weight", "_base.weight", "_scale.weight", "sinks",
                                          "exp_probs_b"};
    const auto is_one_of = [](const std::vector<std::string>& parts, const std::string& name) {
        return std::any_of(parts.begin(), parts.end(),
                           [&](const std::string& part) { return name.find(part) != std::string::npos; });
    };
    const gguf::File file = converted(Recipe::q8);
    for (const auto& [name, origin] : trunk_origins()) {
        const gguf::Tensor& t = *file.find_tensor(name);
        if (name.find("tid2eid") != std::string::npos) continue;
        const quant::Type wanted = is_one_of(f32, name)   ? quant::Type::f32
                                   : is_one_of(f16, name) ? quant::Type::f16
                                                          : quant::Type::q8_0;
        EXPECT_EQ(t.format->type, wanted) << name;
        const std::vector<float> values = source_values(origin);
        std::vector<std::byte> encoded(t.data.size());
        t.format->encode(values.data(), encoded.data(), values.size());
        EXPECT_TRUE(std::ranges::equal(t.data, encoded)) << name;
    }
}

TEST_F(ConvertTest, RowsOfNoWholeBlocksBecomeF16) {
    checkpoint_.config["moe_intermediate_size"] = 24;  // rows of the down projections
    for (auto& [name, t] : checkpoint_.tensors) {
        const bool is_expert =
            name.find(".w") != std::string::npos && name.find("experts") != std::string::npos;
        if (!is_expert) continue;
        for (std::uint64_t& n : t.shape) n = n == 32 ? 24 : n;
        t.data.resize(t.shape[0] * t.shape[1] * 2);
    }
    const ConvertOptions o = options(Recipe::q8);
    const ConvertResult result = convert(o);
    const auto file = gguf::File::open(o.out);
    EXPECT_EQ(file.find_tensor("blk.0.ffn_down_exps.weight")->format->type, quant::Type::f16);
    EXPECT_EQ(file.find_tensor("blk.0.ffn_up_exps.weight")->format->type, quant::Type::q8_0);
    EXPECT_EQ(result.stored_as_f16.size(), 14u) << "down_exps and down_shexp of 7 layers";
    EXPECT_THAT(result.stored_as_f16, testing::Contains("blk.6.ffn_down_shexp.weight"));
}

TEST_F(ConvertTest, SlabsShardsAndThreadsChangeNothing) {
    ConvertOptions o = options(Recipe::q8);
    o.threads = 1;
    convert(o);
    const std::string whole = test::read_file(o.out);
    o.threads = 3;
    convert(o);
    EXPECT_EQ(test::read_file(o.out), whole);
    for (const std::uint64_t slab_values : {1, 1000}) {
        o.slab_values = slab_values;
        convert(o);
        EXPECT_EQ(test::read_file(o.out), whole);
    }
    std::filesystem::remove_all(directory_ / "in");
    checkpoint_.write(directory_ / "in", 5);
    convert(o);
    EXPECT_EQ(test::read_file(o.out), whole);
}

TEST_F(ConvertTest, DecodesFp8AndFp4) {
    std::mt19937 random(7);
    const auto bytes = [&](std::size_t n, int least, int most) {
        std::vector<std::uint8_t> out(n);
        for (auto& b : out) b = static_cast<std::uint8_t>(std::uniform_int_distribution(least, most)(random));
        return out;
    };
    const auto wq_b = bytes(320 * 64, 0, 255);
    const auto wq_b_scale = bytes(3, 117, 137);
    checkpoint_.set("layers.3.attn.wq_b.weight", "F8_E4M3", {320, 64}, wq_b);
    checkpoint_.set("layers.3.attn.wq_b.scale", "F8_E8M0", {3, 1}, wq_b_scale);
    const auto w2 = bytes(128 * 16, 0, 255);
    const auto w2_scale = bytes(128, 117, 137);
    checkpoint_.set("layers.3.ffn.experts.5.w2.weight", "I8", {128, 16}, w2);
    checkpoint_.set("layers.3.ffn.experts.5.w2.scale", "F8_E8M0", {128, 1}, w2_scale);

    const auto pointer = [](const auto& v) { return std::as_bytes(std::span(v)).data(); };
    std::vector<float> q(320 * 64), down(128 * 32);
    quant::decode_fp8_rows({pointer(wq_b), pointer(wq_b_scale), 320, 64}, 0, 320, q.data());
    quant::decode_fp4_rows({pointer(w2), pointer(w2_scale), 128, 32}, 0, 128, down.data());
    for (const Recipe recipe : {Recipe::f32, Recipe::bf16}) {
        const ConvertOptions o = options(recipe);
        const ConvertResult result = convert(o);
        const auto file = gguf::File::open(o.out);
        EXPECT_EQ(decode(*file.find_tensor("blk.3.attn_q_b.weight")), q);
        const std::vector<float> experts = decode(*file.find_tensor("blk.3.ffn_down_exps.weight"));
        const auto fifth = std::span(experts).subspan(5 * down.size(), down.size());
        EXPECT_TRUE(std::ranges::equal(fifth, down));
        EXPECT_EQ(std::ranges::count_if(result.unused, [](const auto& n) { return n.ends_with(".scale"); }),
                  0);
    }
}

TEST_F(ConvertTest, HashTablesOf64BitsAreNarrowed) {
    std::vector<std::int64_t> wide(320 * 2);
    for (std::size_t i = 0; i < wide.size(); ++i) wide[i] = static_cast<std::int64_t>(i * 5 % 8);
    checkpoint_.set("layers.1.ffn.gate.tid2eid", "I64", {320, 2}, wide);
    const gguf::File file = converted(Recipe::q8);
    const gguf::Tensor& t = *file.find_tensor("blk.1.ffn_gate_tid2eid.weight");
    std::vector<std::int32_t> narrow(t.elements());
    std::memcpy(narrow.data(), t.data.data(), t.data.size());
    EXPECT_TRUE(std::ranges::equal(narrow, wide));
}

TEST_F(ConvertTest, HashTablesAreChecked) {
    const std::string name = "layers.1.ffn.gate.tid2eid";
    for (const std::int64_t wrong : {std::int64_t{8}, std::int64_t{-1}, std::int64_t{1} << 32}) {
        std::vector<std::int64_t> table(320 * 2);
        table[77] = wrong;
        checkpoint_.set(name, "I64", {320, 2}, table);
        EXPECT_EQ(error(Recipe::f32), ": tensor " + name + " has the entry " + std::to_string(wrong) +
                                          " at 77, it must be 0 to 7");
    }
    checkpoint_.set(name, "F32", {320, 2}, std::vector<float>(640));
    EXPECT_EQ(error(Recipe::f32), ": tensor " + name + " has dtype F32, must be I32 or I64");
}

TEST_F(ConvertTest, EveryTensorOfTheModelIsNeeded) {
    const test::CheckpointCopy whole;
    for (const std::string name : {"embed.weight", "hc_head_scale", "layers.6.attn.indexer.compressor.ape",
                                   "layers.4.ffn.experts.7.w3.weight", "layers.2.ffn.gate.bias"}) {
        checkpoint_.tensors = whole.tensors;
        checkpoint_.tensors.erase(name);
        EXPECT_EQ(error(Recipe::q8), ": tensor " + name + " is missing");
    }
}

TEST_F(ConvertTest, ShapesAreThoseOfTheConfig) {
    checkpoint_.set("norm.weight", "F32", {64}, std::vector<float>(64));
    EXPECT_EQ(error(Recipe::f32), ": tensor norm.weight has shape [64], config.json asks for [128]");
    checkpoint_.tensors = test::CheckpointCopy().tensors;
    checkpoint_.config["vocab_size"] = 321;
    EXPECT_EQ(error(Recipe::f32),
              ": tensor embed.weight has shape [320, 128], config.json asks for [321, 128]");
}

TEST_F(ConvertTest, ValuesThatCannotBeStoredAreNamed) {
    const std::string name = "layers.2.attn.compressor.wkv.weight";
    std::vector<float> values(160 * 128);
    values.back() = 70000;
    checkpoint_.set(name, "F32", {160, 128}, values);
    EXPECT_EQ(error(Recipe::q8), ": tensor " + name + " has values too large for F16; use --recipe bf16");
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        values.back() = bad;
        checkpoint_.set(name, "F32", {160, 128}, values);
        for (const Recipe recipe : {Recipe::f32, Recipe::bf16, Recipe::q8}) {
            EXPECT_EQ(error(recipe),
                      ": tensor " + name + " has NaN or infinite values; the checkpoint is damaged");
        }
    }
}

TEST_F(ConvertTest, LeftoversAreListed) {
    checkpoint_.set("layers.7.attn_norm.weight", "F32", {128}, std::vector<float>(128));
    checkpoint_.set("orphan.scale", "F8_E8M0", {1}, std::vector<std::uint8_t>(1));
    const ConvertOptions o = options(Recipe::f32);
    std::vector<std::string> unused = convert(o).unused;
    std::erase_if(unused, [](const std::string& name) { return name.starts_with("mtp."); });
    EXPECT_THAT(unused, ElementsAre("layers.7.attn_norm.weight", "orphan.scale"));
}

TEST_F(ConvertTest, MtpNeedsAnMtpBlock) {
    checkpoint_.config["num_nextn_predict_layers"] = 0;
    ConvertOptions o = options(Recipe::f32);
    o.mtp_out = directory_ / "mtp.gguf";
    EXPECT_THAT(error_of(o), HasSubstr("the checkpoint has no MTP block; leave out --mtp"));
}

TEST_F(ConvertTest, OutputsReplaceNeitherInputNorEachOther) {
    ConvertOptions o = options(Recipe::f32);
    o.out = directory_ / "in/model.safetensors";
    EXPECT_THAT(error_of(o), HasSubstr("model.safetensors: is part of the checkpoint"));
    o.out = directory_ / "in/../in/config.json";
    EXPECT_THAT(error_of(o), HasSubstr("config.json: is part of the checkpoint"));
    o.out = directory_ / "same.gguf";
    o.mtp_out = directory_ / "in/../same.gguf";
    EXPECT_THAT(error_of(o), HasSubstr("trunk and MTP block cannot go to the same file"));
    EXPECT_THAT(outputs(), IsEmpty());
}

TEST_F(ConvertTest, BrokenTokenizerStopsBeforeWriting) {
    const ConvertOptions o = options(Recipe::f32);
    test::write_file(o.checkpoint / "tokenizer.json", "{}");
    EXPECT_THAT(error_of(o), HasSubstr("tokenizer.json"));
    EXPECT_THAT(outputs(), IsEmpty());
}

// A file size limit stands for a full disk. In a child process: the limit cannot be raised again.
TEST_F(ConvertTest, FullDiskLeavesNothingBehind) {
    ConvertOptions o = options(Recipe::f32);
    o.threads = 1;
    const pid_t child = ::fork();
    if (child == 0) {
        std::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{3 << 20, 3 << 20};
        ::setrlimit(RLIMIT_FSIZE, &limit);
        const std::string message = error_of(o);
        ::_exit(message.starts_with(o.out.string() + ": cannot write: ") ? 3 : 4);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(WEXITSTATUS(status), 3);
    EXPECT_THAT(outputs(), IsEmpty());
}

}  // namespace
}  // namespace ds4::convert
