#include "synth/synth.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <future>
#include <map>
#include <span>
#include <string_view>
#include <tuple>
#include <utility>

#include "base/hash.h"
#include "base/thread_pool.h"
#include "convert/tensor_table.h"
#include "ds4/error.h"
#include "gguf/writer.h"
#include "synth/random.h"
#include "synth/random_blocks.h"
#include "synth/vocabulary.h"

namespace ds4::synth {
namespace {

using convert::Kind;

// What one stream of random numbers fills. Part of what the file is: another size gives other bytes.
constexpr std::size_t kBlocksPerSlab = 4096;
constexpr std::size_t kSlabsPerWrite = 8;  // a megabyte or two: still in the cache when it is copied

quant::Type type_of(Recipe recipe, const convert::TableEntry& entry) {
    if (entry.kind == Kind::hash_table) return quant::Type::i32;
    if (entry.kind == Kind::vector) return quant::Type::f32;
    if (recipe == Recipe::bf16) return quant::Type::bf16;
    if (entry.kind == Kind::projection) return quant::Type::q8_0;
    if (entry.kind == Kind::embedding_like) return quant::Type::f16;
    if (recipe == Recipe::q4) return quant::Type::q4_k;
    return entry.name.find("down") == std::string::npos ? quant::Type::iq2_xxs : quant::Type::q2_k;
}

// "blk.12.attn_q_a.weight" -> 12 and "attn_q_a.weight"; false for tensors outside the layers.
bool split_name(std::string_view name, std::uint32_t& layer, std::string_view& rest) {
    if (!name.starts_with("blk.")) return false;
    const char* end = name.data() + name.size();
    const auto [dot, error] = std::from_chars(name.data() + 4, end, layer);
    rest = {dot, static_cast<std::size_t>(end - dot)};
    return error == std::errc();
}

// Finds the tensor whose bytes a tensor can share.
class Aliases {
  public:
    explicit Aliases(const SynthOptions& options) : options_(options) {}

    std::string original_of(const convert::TableEntry& entry) {
        std::uint32_t layer = 0;
        std::string_view rest;
        if (!split_name(entry.name, layer, rest)) return {};
        const std::uint32_t period =
            entry.kind == Kind::experts ? options_.expert_period : options_.dense_period;
        if (period == 0) return {};
        const auto [original, is_new] =
            originals_.try_emplace({std::string(rest), layer % period, entry.ne}, entry.name);
        return is_new ? std::string() : original->second;
    }

  private:
    const SynthOptions& options_;
    std::map<std::tuple<std::string, std::uint32_t, std::vector<std::uint64_t>>, std::string> originals_;
};

// Mean and deviation of a tensor's values. model.md 16.2
std::pair<double, double> distribution(const PlannedTensor& t) {
    const std::string_view name = t.name;
    const auto has = [&](std::string_view part) { return name.find(part) != std::string_view::npos; };
    if (has("_norm.")) return {1, 0.1};
    if (has("hc_") && has("_base.")) return {0, 0};
    if (has("hc_") && has("_scale.")) return {1, 0};
    if (has("hc_")) return {0, 0.02};
    if (has("attn_sinks.") || has("token_embd.")) return {0, 1};
    if (has("exp_probs_b.")) return {0, 0.1};
    if (has("_ape.")) return {0, 0.5};
    return {0, 1 / std::sqrt(static_cast<double>(t.ne[0]))};
}

class Synthesizer {
  public:
    explicit Synthesizer(const SynthOptions& options)
        : options_(options), writer_(options.out), pool_(options.threads) {}

    SynthResult run() {
        const std::vector<PlannedTensor> tensors = plan(options_);
        for (const PlannedTensor& t : tensors) {
            if (t.alias_of.empty()) {
                writer_.add_tensor(t.name, t.type, t.ne);
            } else {
                writer_.add_alias(t.name, t.alias_of);
            }
        }
        check_space();
        convert::write_metadata(options_.config, "deepseek4", options_.name, writer_);
        convert::write_vocabulary(made_up_vocabulary(options_.config.vocab_size), options_.config, writer_);
        writer_.begin();
        for (const PlannedTensor& t : tensors) {
            result_.tensor_bytes += bytes_of(t);
            if (t.alias_of.empty()) write(t);
        }
        wait_for_writing();
        writer_.commit();
        return result_;
    }

  private:
    // These files are large enough to fill a disk that others use, too.
    void check_space() const {
        std::error_code error;
        const auto space =
            std::filesystem::space(std::filesystem::absolute(options_.out).parent_path(), error);
        if (error || space.available >= writer_.data_bytes()) return;  // without an answer, writing will tell
        const auto gigabytes = [](std::uint64_t bytes) {
            std::array<char, 32> text{};
            std::snprintf(text.data(), text.size(), "%.1f GB", static_cast<double>(bytes) / 1e9);
            return std::string(text.data());
        };
        throw IoError(options_.out.string() + ": the file takes " + gigabytes(writer_.data_bytes()) +
                      ", the disk has " + gigabytes(space.available) +
                      " left; use fewer --layers or --alias");
    }

    static std::uint64_t blocks_of(const PlannedTensor& t) {
        std::uint64_t elements = 1;
        for (const std::uint64_t n : t.ne) elements *= n;
        return elements / quant::format(t.type).block_elems;
    }
    static std::uint64_t bytes_of(const PlannedTensor& t) {
        return blocks_of(t) * quant::format(t.type).block_bytes;
    }

    // One stream of random numbers per slab of a tensor.
    std::uint64_t seed_of(const PlannedTensor& t) const {
        return Random::mix(options_.seed ^ xxh3(std::as_bytes(std::span(t.name))));
    }

    void write(const PlannedTensor& t) {
        if (t.type == quant::Type::i32) return write_hash_table(t);
        const auto [mean, deviation] = distribution(t);
        const RandomBlocks random_blocks(t.type, mean, deviation);
        const std::uint64_t seed = seed_of(t);
        const std::size_t slab_bytes = kBlocksPerSlab * quant::format(t.type).block_bytes;
        const std::uint64_t bytes = bytes_of(t);
        for (std::uint64_t done = 0; done < bytes;) {
            buffer_.resize(std::min<std::uint64_t>(kSlabsPerWrite * slab_bytes, bytes - done));
            const std::uint64_t first_slab = done / slab_bytes;
            pool_.parallel_for((buffer_.size() + slab_bytes - 1) / slab_bytes, [&](std::size_t begin,
                                                                                   std::size_t end) {
                for (std::size_t slab = begin; slab < end; ++slab) {
                    const std::size_t at = slab * slab_bytes;
                    const std::span blocks(buffer_.data() + at, std::min(slab_bytes, buffer_.size() - at));
                    random_blocks.fill(blocks, Random(Random::mix(seed + first_slab + slab)));
                }
            });
            done += buffer_.size();
            write_buffer();
        }
    }

    // Distinct experts for every token.
    void write_hash_table(const PlannedTensor& t) {
        Random random(seed_of(t));
        std::vector<std::int32_t> table;
        const std::size_t n_used = t.ne[0];
        table.reserve(n_used * t.ne[1]);
        while (table.size() < n_used * t.ne[1]) {
            const auto row = table.end() - static_cast<std::ptrdiff_t>(table.size() % n_used);
            const auto expert = static_cast<std::int32_t>(random.below(options_.config.n_routed_experts));
            if (std::find(row, table.end(), expert) == table.end()) table.push_back(expert);
        }
        const auto bytes = std::as_bytes(std::span(table));
        buffer_.assign(bytes.begin(), bytes.end());
        write_buffer();
    }

    // Copying into the page cache takes longer than drawing the numbers, so the next buffer is filled
    // meanwhile.
    void write_buffer() {
        wait_for_writing();
        std::swap(buffer_, written_);
        writing_ = std::async(std::launch::async, [this] { writer_.write(written_); });
        result_.file_bytes += written_.size();
        if (options_.progress) options_.progress(result_.file_bytes, writer_.data_bytes());
    }

    // Throws what the writing threw.
    void wait_for_writing() {
        if (writing_.valid()) writing_.get();
    }

    const SynthOptions& options_;
    gguf::Writer writer_;
    ThreadPool pool_;
    std::vector<std::byte> buffer_;
    std::vector<std::byte> written_;
    SynthResult result_;
    std::future<void> writing_;  // last: its destructor waits for the thread that uses the others
};

}  // namespace

std::vector<PlannedTensor> plan(const SynthOptions& options) {
    Aliases aliases(options);
    std::vector<PlannedTensor> tensors;
    for (const convert::TableEntry& entry : convert::trunk_table(options.config))
        tensors.push_back({entry.name, entry.ne, type_of(options.recipe, entry), aliases.original_of(entry)});
    return tensors;
}

SynthResult write_model(const SynthOptions& options) {
    return Synthesizer(options).run();
}

}  // namespace ds4::synth
