#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/app.h"
#include "apps/debug/commands.h"
#include "ds4/error.h"
#include "ds4/token.h"
#include "gguf/gguf.h"
#include "tokenizer/tokenizer.h"

namespace ds4::debug {
namespace {

struct Options {
    std::filesystem::path model, tokenizer, cases;
};

tokenizer::Tokenizer load(const Options& options) {
    if (!options.tokenizer.empty()) {
        return tokenizer::Tokenizer(tokenizer::Vocabulary::from_json(options.tokenizer));
    }
    return tokenizer::Tokenizer(
        tokenizer::Vocabulary::from_gguf(gguf::File::open(app::find_model(options.model))));
}

int print_ids(const tokenizer::Tokenizer& tokenizer) {
    const std::vector<TokenId> ids = tokenizer.encode_with_added(app::read_text("-"));
    for (std::size_t i = 0; i < ids.size(); ++i) std::cout << (i > 0 ? " " : "") << ids[i];
    std::cout << '\n';
    return 0;
}

int check_cases(const tokenizer::Tokenizer& tokenizer, const std::filesystem::path& path) {
    std::ifstream lines(path);
    if (!lines) throw IoError(path.string() + ": cannot open for reading");
    std::size_t passed = 0, failed = 0, number = 0;
    for (std::string line; std::getline(lines, line);) {
        ++number;
        const auto fixture = nlohmann::json::parse(line, nullptr, false);
        if (!fixture.is_object() || !fixture.contains("text") || !fixture.contains("ids")) {
            throw Error(path.string() + ": line " + std::to_string(number) + " is not {\"text\", \"ids\"}");
        }
        const auto expected = fixture["ids"].get<std::vector<TokenId>>();
        const bool same = tokenizer.encode_with_added(fixture["text"].get<std::string>()) == expected;
        if (!same) std::cout << path.string() << ": line " << number << " differs\n";
        ++(same ? passed : failed);
    }
    std::cout << passed << " passed, " << failed << " failed\n";
    return failed == 0 ? 0 : 1;
}

}  // namespace

void add_tokenize(CLI::App& app, Run& run) {
    CLI::App* command = app.add_subcommand(
        "tokenize", "Token ids of standard input, added tokens recognised, or a check of known cases");
    auto options = std::make_shared<Options>();
    CLI::Option* model = command->add_option("-m,--model", options->model, "GGUF file (default: as ds4)");
    command->add_option("--tokenizer", options->tokenizer, "tokenizer.json instead of a GGUF file")
        ->excludes(model);
    command->add_option("--jsonl", options->cases, "Check every line {\"text\", \"ids\"} of this file");
    command->callback([options, &run] {
        run = [options] {
            const tokenizer::Tokenizer tokenizer = load(*options);
            return options->cases.empty() ? print_ids(tokenizer) : check_cases(tokenizer, options->cases);
        };
    });
}

}  // namespace ds4::debug
