#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>

#include "ds4/error.h"
#include "gguf/gguf.h"
#include "tokenizer/small_vocabulary.h"
#include "tokenizer/tokenizer.h"

namespace ds4::tokenizer {
namespace {

using testing::HasSubstr;

// Encoded metadata values: the type word and the bytes after it (model.md 2).
std::string word(std::uint64_t value, int bytes) {
    std::string result;
    for (int i = 0; i < bytes; ++i) result += static_cast<char>(value >> (8 * i));
    return result;
}
std::string raw_string(std::string_view text) {
    return word(text.size(), 8).append(text);
}
std::string string_value(std::string_view text) {
    return word(8, 4) + raw_string(text);
}
std::string u32_value(std::uint32_t value) {
    return word(4, 4) + word(value, 4);
}
std::string strings_value(const std::vector<std::string>& items) {
    std::string result = word(9, 4) + word(8, 4) + word(items.size(), 8);
    for (const std::string& item : items) result += raw_string(item);
    return result;
}
std::string i32s_value(const std::vector<int>& items) {
    std::string result = word(9, 4) + word(5, 4) + word(items.size(), 8);
    for (const int item : items) result += word(static_cast<std::uint32_t>(item), 4);
    return result;
}

class VocabularyGguf : public testing::Test {
  protected:
    VocabularyGguf() {
        const Vocabulary small = test::small_vocabulary();
        std::vector<int> types;
        for (const Vocabulary::Kind kind : small.kinds) types.push_back(static_cast<int>(kind));
        metadata_ = {{"tokenizer.ggml.model", string_value("gpt2")},
                     {"tokenizer.ggml.pre", string_value("joyai-llm")},
                     {"tokenizer.ggml.tokens", strings_value(small.tokens)},
                     {"tokenizer.ggml.token_type", i32s_value(types)},
                     {"tokenizer.ggml.merges", strings_value(small.merges)},
                     {"tokenizer.ggml.bos_token_id", u32_value(259)},
                     {"tokenizer.ggml.eos_token_id", u32_value(260)}};
    }
    ~VocabularyGguf() override { std::filesystem::remove(path_); }

    Vocabulary load() const {
        std::string bytes = "GGUF" + word(3, 4) + word(0, 8) + word(metadata_.size(), 8);
        for (const auto& [key, value] : metadata_) bytes += raw_string(key) + value;
        bytes.resize((bytes.size() + 31) / 32 * 32);
        std::ofstream(path_, std::ios::binary) << bytes;
        return Vocabulary::from_gguf(gguf::File::open(path_));
    }

    void expect_refused(const std::string& complaint) const {
        try {
            load();
            ADD_FAILURE() << "accepted, expected: " << complaint;
        } catch (const Error& e) {
            EXPECT_THAT(e.what(), HasSubstr(complaint));
            EXPECT_THAT(e.what(), HasSubstr(path_.filename().string()));
        }
    }

    const std::filesystem::path path_ =
        std::filesystem::path(testing::TempDir()) /
        ("ds4_" + std::to_string(getpid()) + "_" +
         testing::UnitTest::GetInstance()->current_test_info()->name() + ".gguf");
    std::map<std::string, std::string> metadata_;
};

TEST_F(VocabularyGguf, ReadsWhatIsThere) {
    const Vocabulary loaded = load();
    const Vocabulary expected = test::small_vocabulary();
    EXPECT_EQ(loaded.tokens, expected.tokens);
    EXPECT_EQ(loaded.kinds, expected.kinds);
    EXPECT_EQ(loaded.merges, expected.merges);
    EXPECT_EQ(loaded.bos, 259);
    EXPECT_EQ(loaded.eos, 260);
    EXPECT_EQ(loaded.pad, -1);
}

TEST_F(VocabularyGguf, MissingKeysAreNamed) {
    const auto all = metadata_;
    for (const char* key : {"tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens",
                            "tokenizer.ggml.token_type", "tokenizer.ggml.merges"}) {
        metadata_ = all;
        metadata_.erase(key);
        expect_refused(std::string(key) + " is missing");
    }
}

TEST_F(VocabularyGguf, WrongValuesAreNamed) {
    const auto all = metadata_;
    const std::pair<std::string, std::string> replacements[] = {
        {"tokenizer.ggml.model", string_value("llama")},
        {"tokenizer.ggml.pre", string_value("qwen2")},
        {"tokenizer.ggml.tokens", strings_value({})},
        {"tokenizer.ggml.tokens", u32_value(3)},
        {"tokenizer.ggml.token_type", i32s_value({1, 1})},
        {"tokenizer.ggml.token_type", i32s_value(std::vector<int>(261, 2))},
        {"tokenizer.ggml.merges", i32s_value({1})},
        {"tokenizer.ggml.bos_token_id", u32_value(261)},
        {"tokenizer.ggml.eos_token_id", string_value("1")},
    };
    for (const auto& [key, value] : replacements) {
        metadata_ = all;
        metadata_[key] = value;
        expect_refused(key);
    }
}

}  // namespace
}  // namespace ds4::tokenizer
