#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "apps/app.h"
#include "base/progress.h"
#include "convert/convert.h"
#include "gguf/printable.h"

namespace {

using ds4::convert::ConvertOptions;
using ds4::convert::Recipe;

// What an MTP block needs is known to be unused when no MTP file was asked for.
void warn_of_leftovers(const std::vector<std::string>& unused, bool has_mtp) {
    std::size_t n = 0;
    for (const std::string& name : unused) {
        if (!has_mtp && name.starts_with("mtp.")) continue;
        if (n++ == 0)
            std::fprintf(stderr, "ds4-convert: warning: not used: %s\n", ds4::printable(name).c_str());
    }
    if (n > 1) std::fprintf(stderr, "ds4-convert: warning: and %zu more tensors\n", n - 1);
}

int run(ConvertOptions options) {
    std::unique_ptr<ds4::ProgressBar> bar;
    options.progress = [&](std::uint64_t done, std::uint64_t total) {
        if (!bar) bar = std::make_unique<ds4::ProgressBar>("convert", total, "B");
        bar->update(done);
    };
    const ds4::convert::ConvertResult result = ds4::convert::convert(options);
    if (bar) bar->finish();
    warn_of_leftovers(result.unused, !options.mtp_out.empty());
    if (!result.stored_as_f16.empty()) {
        std::fprintf(stderr,
                     "ds4-convert: note: %zu tensors are F16, their rows are not whole blocks of 32: %s%s\n",
                     result.stored_as_f16.size(), result.stored_as_f16.front().c_str(),
                     result.stored_as_f16.size() > 1 ? ", ..." : "");
    }
    std::printf("%s: %s of tensors%s\n", options.out.c_str(),
                ds4::app::human_bytes(static_cast<double>(result.bytes)).c_str(),
                result.has_tokenizer ? "" : ", no tokenizer (the checkpoint has no tokenizer.json)");
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Convert a released checkpoint to GGUF.", "ds4-convert");
    ConvertOptions options;
    app.add_option("DIR", options.checkpoint, "Directory with config.json, *.safetensors and tokenizer.json")
        ->required();
    app.add_option("-o,--out", options.out, "GGUF file to write")->required();
    app.add_option("--recipe", options.recipe, "f32, bf16 or q8 (q8)")
        ->transform(CLI::CheckedTransformer(
            std::map<std::string, Recipe>{{"f32", Recipe::f32}, {"bf16", Recipe::bf16}, {"q8", Recipe::q8}}));
    app.add_option("--mtp", options.mtp_out, "Write the MTP block to this GGUF file");
    app.add_option("--effort-scheme", options.effort_scheme, "What effort levels mean to these weights")
        ->check(CLI::IsMember({"2026-04", "0731"}));
    app.add_option("--threads", options.threads, "Threads; 0 is one per core (0)")
        ->check(CLI::Range(0, 4096));
    return ds4::app::main_with(app, argc, argv, [&] { return run(options); });
}
