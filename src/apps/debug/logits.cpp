#include <algorithm>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/app.h"
#include "apps/debug/commands.h"
#include "backend/make_backend.h"
#include "base/output_file.h"
#include "ds4/error.h"
#include "gguf/gguf.h"
#include "model/forward.h"
#include "model/mtp.h"

namespace ds4::debug {
namespace {

struct Options {
    std::filesystem::path model, tokens, out, mtp_model, mtp_out;
    std::int64_t chunk = 512;
    int threads = 0;
    bool rounding = true;
    bool is_answer = false;
    BackendKind backend = BackendKind::cpu;
};

std::vector<TokenId> read_ids(const std::filesystem::path& path, std::int64_t vocab) {
    const std::string text = app::read_text(path);
    std::vector<TokenId> ids;
    const char* at = text.data();
    const char* const end = at + text.size();
    const auto is_space = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
    while (true) {
        at = std::find_if_not(at, end, is_space);
        if (at == end) break;
        TokenId id = 0;
        const auto [next, error] = std::from_chars(at, end, id);
        if (error != std::errc{} || (next != end && !is_space(*next)) || id < 0 || id >= vocab) {
            throw Error(path.string() + ": entry " + std::to_string(ids.size() + 1) +
                        " is not a token id below " + std::to_string(vocab));
        }
        ids.push_back(id);
        at = next;
    }
    return ids;
}

// Logits of every row of the prompt, trunk and optionally MTP, in chunks.
class LogitsRun {
  public:
    explicit LogitsRun(const Options& o)
        : options_(o),
          file_(gguf::File::open(o.model)),
          config_(Config::from_gguf(file_)),
          backend_(make_backend(o.backend, o.threads)),
          store_(file_, *backend_),
          weights_(store_.load_trunk(config_)),
          forward_options_{o.chunk, o.rounding, o.rounding ? quant::KvFormat::packed : quant::KvFormat::f32},
          layout_(config_, config_.ratios, forward_options_.kv_format),
          forward_(*backend_, config_, weights_, forward_options_),
          state_(layout_, *backend_) {
        if (o.mtp_model.empty()) return;
        mtp_file_ = gguf::File::open(o.mtp_model);
        mtp_store_.emplace(*mtp_file_, *backend_);
        mtp_weights_ = mtp_store_->load_mtp(config_);
        mtp_.emplace(*backend_, config_, mtp_weights_, weights_, forward_options_);
        mtp_state_ = mtp_->new_state();
    }

    void run() {
        const std::vector<TokenId> ids = read_ids(options_.tokens, config_.vocab);
        const auto n = static_cast<std::int64_t>(ids.size());
        if (n > config_.max_context) {
            throw ContextError(options_.tokens.string() + ": " + std::to_string(n) +
                               " tokens, the context holds " + std::to_string(config_.max_context));
        }
        OutputFile out(options_.out);
        std::optional<OutputFile> mtp_out;
        if (mtp_) mtp_out.emplace(options_.mtp_out);
        for (std::int64_t start = 0; start < n; start += options_.chunk) {
            const std::int64_t rows = std::min(options_.chunk, n - start);
            trunk_chunk(ids, start, rows, out);
            // Row p needs token p + 1, so the last token of the prompt has no MTP row (model.md 12).
            const std::int64_t mtp_rows = std::min(rows, n - 1 - start);
            if (mtp_ && mtp_rows > 0) mtp_chunk(ids, start, mtp_rows, *mtp_out);
        }
        out.commit();
        if (mtp_out) mtp_out->commit();
    }

  private:
    void trunk_chunk(const std::vector<TokenId>& ids, std::int64_t start, std::int64_t rows,
                     OutputFile& out) {
        const Chunk chunk(ids, start, start, rows, !options_.is_answer);
        KvState* states[] = {&state_};
        forward_.run(chunk.batch(), states);
        logits_.resize(static_cast<std::size_t>(rows * config_.vocab));
        forward_.logits(0, rows, logits_.data());
        out.write(std::as_bytes(std::span(logits_)));
    }

    void mtp_chunk(const std::vector<TokenId>& ids, std::int64_t start, std::int64_t rows, OutputFile& out) {
        const Chunk chunk(ids, start + 1, start, rows, !options_.is_answer);
        KvState* states[] = {mtp_state_.get()};
        mtp_->run(chunk.batch(), states, forward_.streams().slice(0, rows));
        logits_.resize(static_cast<std::size_t>(rows * config_.vocab));
        mtp_->logits(0, rows, logits_.data());
        out.write(std::as_bytes(std::span(logits_)));
    }

    // `rows` rows at positions start.. with the tokens from first_token on.
    struct Chunk {
        Chunk(const std::vector<TokenId>& ids, std::int64_t first_token, std::int64_t start,
              std::int64_t rows, bool is_prompt)
            : tokens(std::span(ids).subspan(static_cast<std::size_t>(first_token),
                                            static_cast<std::size_t>(rows))),
              segment{0, rows, start, is_prompt} {
            for (std::int64_t i = 0; i < rows; ++i) positions.push_back(static_cast<std::int32_t>(start + i));
        }
        BatchRows batch() const { return {tokens, positions, {&segment, 1}}; }

        std::span<const TokenId> tokens;
        std::vector<std::int32_t> positions;
        Segment segment;
    };

    const Options& options_;
    gguf::File file_;
    Config config_;
    std::unique_ptr<Backend> backend_;
    WeightStore store_;
    Weights weights_;
    ForwardOptions forward_options_;
    KvLayout layout_;
    Forward forward_;
    KvState state_;
    std::optional<gguf::File> mtp_file_;
    std::optional<WeightStore> mtp_store_;
    MtpWeights mtp_weights_;
    std::optional<MtpForward> mtp_;
    std::unique_ptr<KvState> mtp_state_;
    std::vector<float> logits_;
};

}  // namespace

void add_logits(CLI::App& app, Run& run) {
    CLI::App* command =
        app.add_subcommand("logits", "Logits of every token of a prompt as raw little-endian f32");
    auto options = std::make_shared<Options>();
    command->add_option("-m,--model", options->model, "GGUF of the trunk")->required();
    command
        ->add_option("--tokens", options->tokens, "Token ids separated by white space; - is standard input")
        ->required();
    command->add_option("-o,--out", options->out, "Output, tokens x vocab float32")->required();
    command->add_option("--chunk", options->chunk, "Tokens per prefill step")->check(CLI::Range(1, 65536));
    command->add_flag("--answer", options->is_answer,
                      "As tokens of an answer, which a GPU multiplies in another way than a prompt's");
    command->add_option("--threads", options->threads, "Threads; 0 is one per core")
        ->check(CLI::Range(0, 4096));
    app::add_backend_options(*command, options->backend);
    command
        ->add_option_function<std::string>(
            "--kv-rounding", [options](const std::string& value) { options->rounding = value == "on"; },
            "Simulated FP8/FP4 rounding of cache rows (on)")
        ->check(CLI::IsMember({"on", "off"}));
    CLI::Option* mtp = command->add_option("--mtp-model", options->mtp_model, "GGUF of the MTP block");
    CLI::Option* mtp_out =
        command->add_option("--mtp-out", options->mtp_out, "MTP logits, (tokens - 1) x vocab");
    mtp->needs(mtp_out);
    mtp_out->needs(mtp);
    command->callback([options, &run] {
        run = [options] {
            LogitsRun(*options).run();
            return 0;
        };
    });
}

}  // namespace ds4::debug
