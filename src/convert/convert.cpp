#include "convert/convert.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <unordered_set>

#include "base/thread_pool.h"
#include "convert/source_rows.h"
#include "ds4/error.h"
#include "gguf/printable.h"
#include "gguf/writer.h"

namespace ds4::convert {
namespace {

namespace fs = std::filesystem;

// The outputs replace what stands under their names, which must be neither each other nor the input.
void check_outputs(const ConvertOptions& options) {
    std::error_code ignored;
    for (const fs::path& out : {options.out, options.mtp_out}) {
        for (const auto& entry : fs::directory_iterator(options.checkpoint, ignored)) {
            const bool is_input =
                entry.path().extension() == ".safetensors" || entry.path().extension() == ".json";
            if (is_input && fs::equivalent(entry.path(), out, ignored)) {
                throw IoError(out.string() +
                              ": is part of the checkpoint and would be overwritten; choose another name");
            }
        }
    }
    if (fs::weakly_canonical(options.out, ignored) == fs::weakly_canonical(options.mtp_out, ignored)) {
        throw IoError(options.out.string() + ": trunk and MTP block cannot go to the same file");
    }
}

class Converter {
  public:
    explicit Converter(const ConvertOptions& options)
        : options_(options),
          config_(CheckpointConfig::read(options.checkpoint / "config.json")),
          checkpoint_(safetensors::Checkpoint::open(options.checkpoint)),
          pool_(options.threads) {}

    ConvertResult run() {
        check_outputs(options_);
        Output trunk(options_.out, plan_trunk(config_, checkpoint_, options_.recipe));
        write_metadata(config_, "deepseek4", model_name(), trunk.writer);
        if (!options_.effort_scheme.empty()) {
            trunk.writer.set_string("deepseek4.effort_scheme", options_.effort_scheme);
        }
        const fs::path tokenizer = options_.checkpoint / "tokenizer.json";
        result_.has_tokenizer = fs::exists(tokenizer);
        if (result_.has_tokenizer) write_tokenizer(tokenizer, config_, trunk.writer);
        std::optional<Output> mtp;
        if (!options_.mtp_out.empty()) declare_mtp(mtp);

        total_ = trunk.writer.data_bytes() + (mtp ? mtp->writer.data_bytes() : 0);
        write(trunk);
        if (mtp) write(*mtp);
        trunk.writer.commit();
        if (mtp) mtp->writer.commit();
        list_unused();
        return std::move(result_);
    }

  private:
    struct Output {
        Output(const fs::path& path, std::vector<PlannedTensor> planned)
            : writer(path), plan(std::move(planned)) {
            for (const PlannedTensor& t : plan) writer.add_tensor(t.name, t.type, t.ne);
        }
        gguf::Writer writer;
        std::vector<PlannedTensor> plan;
    };

    std::string model_name() const {
        return fs::absolute(options_.checkpoint / "config.json")
            .lexically_normal()
            .parent_path()
            .filename()
            .string();
    }

    void declare_mtp(std::optional<Output>& mtp) {
        if (config_.num_nextn_predict_layers == 0) {
            throw ModelError(options_.checkpoint.string() +
                             ": the checkpoint has no MTP block; leave out --mtp");
        }
        mtp.emplace(options_.mtp_out, plan_mtp(config_, checkpoint_, options_.recipe));
        write_metadata(config_, "deepseek4_mtp_support", model_name(), mtp->writer);
    }

    void write(Output& output) {
        output.writer.begin();
        for (const PlannedTensor& t : output.plan) {
            if (t.is_fallback) result_.stored_as_f16.push_back(t.name);
            for (const std::string& name : t.sources) {
                const safetensors::Tensor& source = *checkpoint_.find(name);
                if (t.type == quant::Type::i32) {
                    const auto entries = decode_indices(checkpoint_, source, config_.n_routed_experts);
                    write_bytes(output.writer, std::as_bytes(std::span(entries)));
                } else {
                    write_rows(output.writer, source, quant::format(t.type));
                }
                used_.insert(name);
            }
        }
    }

    void write_rows(gguf::Writer& writer, const safetensors::Tensor& source, const quant::Format& format) {
        const SourceRows rows(checkpoint_, source);
        const std::uint64_t width = rows.n_cols();
        const std::uint64_t slab_rows =
            std::min(std::max<std::uint64_t>(1, options_.slab_values / width), rows.n_rows());
        const std::size_t row_bytes = quant::row_bytes(format, width);
        values_.resize(slab_rows * width);
        encoded_.resize(slab_rows * row_bytes);
        for (std::uint64_t first = 0; first < rows.n_rows(); first += slab_rows) {
            const std::uint64_t n = std::min(slab_rows, rows.n_rows() - first);
            pool_.parallel_for(n, [&](std::size_t begin, std::size_t end) {
                const std::span values(values_.data() + begin * width, (end - begin) * width);
                const std::span blocks(encoded_.data() + begin * row_bytes, (end - begin) * row_bytes);
                rows.decode(first + begin, first + end, values.data());
                check_finite(source, values);
                format.encode(values.data(), blocks.data(), values.size());
                check_encoded(source, format, blocks);
            });
            rows.release(first, first + n);
            write_bytes(writer, std::span(encoded_).first(n * row_bytes));
        }
    }

    void check_finite(const safetensors::Tensor& source, std::span<const float> values) const {
        if (std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); })) return;
        fail(source, "has NaN or infinite values; the checkpoint is damaged");
    }

    // Finite values can still leave the range of F16, as values or as block scales.
    void check_encoded(const safetensors::Tensor& source, const quant::Format& format,
                       std::span<const std::byte> blocks) const {
        const std::size_t n_blocks = blocks.size() / format.block_bytes;
        if (format.find_bad_scale == nullptr || format.find_bad_scale(blocks.data(), n_blocks) == n_blocks)
            return;
        fail(source, "has values too large for " + std::string(format.name) + "; use --recipe bf16");
    }

    [[noreturn]] void fail(const safetensors::Tensor& source, const std::string& what) const {
        throw ModelError(options_.checkpoint.string() + ": tensor " + printable(source.name) + " " + what);
    }

    void write_bytes(gguf::Writer& writer, std::span<const std::byte> bytes) {
        writer.write(bytes);
        result_.bytes += bytes.size();
        if (options_.progress) options_.progress(result_.bytes, total_);
    }

    // A scale is used with its weight.
    void list_unused() {
        for (const std::string_view name : checkpoint_.names()) {
            std::string weight(name);
            if (name.ends_with(".scale")) weight.replace(name.size() - 6, 6, ".weight");
            if (!used_.contains(weight)) result_.unused.emplace_back(name);
        }
    }

    const ConvertOptions& options_;
    CheckpointConfig config_;
    safetensors::Checkpoint checkpoint_;
    ThreadPool pool_;
    std::vector<float> values_;
    std::vector<std::byte> encoded_;
    std::unordered_set<std::string> used_;
    std::uint64_t total_ = 0;
    ConvertResult result_;
};

}  // namespace

ConvertResult convert(const ConvertOptions& options) {
    return Converter(options).run();
}

}  // namespace ds4::convert
