#include <algorithm>
#include <array>

#include "ds4/error.h"
#include "gguf/gguf.h"
#include "tokenizer/tokenizer.h"

namespace ds4::tokenizer {
namespace {

constexpr const char* model_key = "tokenizer.ggml.model";
constexpr const char* pre_key = "tokenizer.ggml.pre";
constexpr const char* tokens_key = "tokenizer.ggml.tokens";
constexpr const char* types_key = "tokenizer.ggml.token_type";
constexpr const char* merges_key = "tokenizer.ggml.merges";

// Both names stand for the same three patterns: the first is what files of V4 say, the second what files of
// V3 say.
constexpr std::array<std::string_view, 2> known_pretokenizers = {"joyai-llm", "deepseek-v3"};

[[noreturn]] void fail(const gguf::File& file, const std::string& key, const std::string& what) {
    throw TokenizerError(file.path().string() + ": " + key + " " + what);
}

void check_algorithm(const gguf::File& file) {
    const auto model = file.find_string(model_key);
    if (!model) fail(file, model_key, "is missing: the file has no tokenizer");
    if (*model != "gpt2")
        fail(file, model_key, "is '" + std::string(*model) + "', expected 'gpt2' (byte-level BPE)");
    const auto pre = file.find_string(pre_key);
    if (!pre) fail(file, pre_key, "is missing, expected 'joyai-llm'; convert the model again");
    if (std::find(known_pretokenizers.begin(), known_pretokenizers.end(), *pre) ==
        known_pretokenizers.end()) {
        fail(file, pre_key,
             "is '" + std::string(*pre) + "', expected 'joyai-llm': this is not a DeepSeek V4 vocabulary");
    }
}

std::vector<std::string> read_strings(const gguf::File& file, const char* key) {
    const auto strings = file.find_string_array(key);
    if (!strings) fail(file, key, "is missing");
    return {strings->begin(), strings->end()};
}

std::vector<Vocabulary::Kind> read_kinds(const gguf::File& file, std::size_t n_tokens) {
    const auto types = file.find_int_array(types_key);
    if (!types) fail(file, types_key, "is missing");
    if (types->size() != n_tokens) {
        fail(file, types_key,
             "has " + std::to_string(types->size()) + " entries for " + std::to_string(n_tokens) + " tokens");
    }
    std::vector<Vocabulary::Kind> kinds;
    for (std::size_t i = 0; i < types->size(); ++i) {
        const std::int64_t type = (*types)[i];
        if (type != 1 && type != 3 && type != 4 && type != 5) {
            fail(file, types_key,
                 "gives token " + std::to_string(i) + " the type " + std::to_string(type) +
                     ", expected 1 (normal), 3 (control), 4 (user-defined) or 5 (unused)");
        }
        kinds.push_back(static_cast<Vocabulary::Kind>(type));
    }
    return kinds;
}

TokenId read_id(const gguf::File& file, const char* key, std::size_t n_tokens) {
    const auto id = file.find_uint(key);
    if (!id) return -1;
    if (*id >= n_tokens) {
        fail(file, key,
             "is " + std::to_string(*id) + ", outside the vocabulary of " + std::to_string(n_tokens));
    }
    return static_cast<TokenId>(*id);
}

}  // namespace

Vocabulary Vocabulary::from_gguf(const gguf::File& file) {
    check_algorithm(file);
    Vocabulary vocabulary;
    vocabulary.tokens = read_strings(file, tokens_key);
    vocabulary.merges = read_strings(file, merges_key);
    const std::size_t n_tokens = vocabulary.tokens.size();
    if (n_tokens == 0) fail(file, tokens_key, "is empty");
    vocabulary.kinds = read_kinds(file, n_tokens);
    vocabulary.bos = read_id(file, "tokenizer.ggml.bos_token_id", n_tokens);
    vocabulary.eos = read_id(file, "tokenizer.ggml.eos_token_id", n_tokens);
    vocabulary.pad = read_id(file, "tokenizer.ggml.padding_token_id", n_tokens);
    return vocabulary;
}

}  // namespace ds4::tokenizer
