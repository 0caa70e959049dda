#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "ds4/error.h"
#include "tokenizer/pretokenizer.h"
#include "tokenizer/small_vocabulary.h"
#include "tokenizer/tokenizer.h"

namespace ds4::tokenizer {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using Kind = Vocabulary::Kind;

class VocabularyJson : public testing::Test {
  protected:
    ~VocabularyJson() override { std::filesystem::remove(path_); }

    Vocabulary load(const std::string& text) const {
        std::ofstream(path_, std::ios::binary) << text;
        return Vocabulary::from_json(path_);
    }

    void expect_refused(const std::string& text, const std::string& complaint) const {
        try {
            load(text);
            ADD_FAILURE() << "accepted: " << text.substr(0, 100);
        } catch (const TokenizerError& e) {
            EXPECT_THAT(e.what(), HasSubstr(complaint));
            EXPECT_THAT(e.what(), HasSubstr(path_.string()));
        }
    }

    const std::filesystem::path path_ =
        std::filesystem::path(testing::TempDir()) /
        ("ds4_" + std::to_string(getpid()) + "_" +
         testing::UnitTest::GetInstance()->current_test_info()->name() + ".json");
};

// The small vocabulary as a tokenizer.json.
json small_json() {
    const Vocabulary small = test::small_vocabulary();
    json vocab = json::object(), steps = json::array(), added = json::array();
    for (std::size_t i = 0; i < small.tokens.size(); ++i) {
        if (small.kinds[i] == Kind::normal) {
            vocab[small.tokens[i]] = i;
        } else {
            added.push_back(
                {{"id", i}, {"content", small.tokens[i]}, {"special", small.kinds[i] == Kind::control}});
        }
    }
    for (const std::string_view pattern : split_patterns) {
        steps.push_back({{"type", "Split"},
                         {"pattern", {{"Regex", pattern}}},
                         {"behavior", "Isolated"},
                         {"invert", false}});
    }
    steps.push_back({{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}});
    return {{"added_tokens", added},
            {"normalizer", nullptr},
            {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", steps}}},
            {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", small.merges}}}};
}

TEST_F(VocabularyJson, ReadsWhatIsThere) {
    const Vocabulary loaded = load(small_json().dump());
    const Vocabulary expected = test::small_vocabulary();
    EXPECT_EQ(loaded.tokens, expected.tokens);
    EXPECT_EQ(loaded.kinds, expected.kinds);
    EXPECT_EQ(loaded.merges, expected.merges);
    EXPECT_EQ(loaded.bos, -1);
    EXPECT_EQ(Tokenizer(loaded).encode("hello").size(), 2u);
}

TEST_F(VocabularyJson, MergesMayBePairs) {
    json root = small_json();
    root["model"]["merges"] = json::parse(R"([["h", "e"], ["l", "l"], ["he", "ll"]])");
    EXPECT_EQ(load(root.dump()).merges, test::small_vocabulary().merges);
}

TEST_F(VocabularyJson, FindsBosAndEosByTheirStrings) {
    json root = small_json();
    root["added_tokens"][0]["content"] = "<｜begin▁of▁sentence｜>";
    root["added_tokens"][1]["content"] = "<｜end▁of▁sentence｜>";
    const Vocabulary loaded = load(root.dump());
    EXPECT_EQ(loaded.bos, 259);
    EXPECT_EQ(loaded.eos, 260);
    EXPECT_EQ(loaded.pad, 260);
}

TEST_F(VocabularyJson, AnAddedTokenMayAlsoStandInTheVocabulary) {
    json root = small_json();
    root["model"]["vocab"]["<s>"] = 259;
    EXPECT_EQ(load(root.dump()).kinds[259], Kind::control);
}

TEST_F(VocabularyJson, MissingFileIsAnIoError) {
    EXPECT_THROW(Vocabulary::from_json("/nonexistent/tokenizer.json"), IoError);
}

TEST_F(VocabularyJson, GarbageIsRefused) {
    for (const char* text : {"", "{", "[]", "null", "3", "\"x\"", "{\"a\":\"\xFF\"}", "\x00\x01\x02"}) {
        expect_refused(text, "");
    }
    expect_refused("{}", "pre_tokenizer is missing");
    expect_refused(std::string(1'000'000, '['), "is not JSON");
}

TEST_F(VocabularyJson, EveryTruncationIsRefused) {
    const std::string text = small_json().dump();
    for (std::size_t n = 0; n < text.size(); n += 97) expect_refused(text.substr(0, n), "is not JSON");
}

TEST_F(VocabularyJson, NamesTheWrongField) {
    const struct {
        std::function<void(json&)> damage;
        const char* complaint;
    } cases[] = {
        {[](json& r) { r.erase("model"); }, "model is missing"},
        {[](json& r) { r["model"] = 3; }, "model.type is missing"},
        {[](json& r) { r["model"]["type"] = "Unigram"; }, "model.type is not BPE"},
        {[](json& r) { r["model"]["byte_fallback"] = true; }, "model.byte_fallback is set"},
        {[](json& r) { r["model"]["vocab"] = json::array(); }, "model.vocab is not"},
        {[](json& r) { r["model"]["vocab"]["he"] = "1"; }, "token 'he' is not an integer"},
        {[](json& r) { r["model"]["vocab"]["he"] = 1.5; }, "token 'he' is not an integer"},
        {[](json& r) { r["model"]["vocab"]["he"] = -1; }, "out of range"},
        {[](json& r) { r["model"]["vocab"]["he"] = UINT64_MAX; }, "out of range"},
        {[](json& r) { r["model"]["vocab"]["he"] = 1LL << 40; }, "out of range"},
        {[](json& r) { r["model"]["vocab"]["he"] = 257; }, "have the same id 257"},
        {[](json& r) { r["model"]["vocab"].erase("he"); }, "no token has the id 256"},
        {[](json& r) { r["model"].erase("merges"); }, "model.merges is missing"},
        {[](json& r) { r["model"]["merges"] = "x"; }, "model.merges is not a list"},
        {[](json& r) { r["model"]["merges"][1] = 3; }, "model.merges[1]"},
        {[](json& r) {
             r["model"]["merges"][1] = {"a", 3};
         },
         "model.merges[1]"},
        {[](json& r) { r["added_tokens"] = 3; }, "added_tokens is not a list"},
        {[](json& r) { r["added_tokens"][0] = 3; }, "added_tokens[0].content is missing"},
        {[](json& r) { r["added_tokens"][0]["content"] = 3; }, "added_tokens[0].content is not a string"},
        {[](json& r) { r["added_tokens"][0].erase("id"); }, "added_tokens[0].id is missing"},
        {[](json& r) { r["added_tokens"][1]["lstrip"] = true; }, "added_tokens[1].lstrip"},
        {[](json& r) { r["added_tokens"][1]["id"] = 259; }, "have the same id 259"},
        {[](json& r) {
             r["normalizer"] = {{"type", "NFC"}};
         },
         "normalizer"},
        {[](json& r) { r["pre_tokenizer"]["pretokenizers"].erase(1); }, "pre_tokenizer"},
        {[](json& r) { r["pre_tokenizer"]["pretokenizers"][2]["pattern"]["Regex"] = "\\w+"; },
         "pretokenizers[2]"},
        {[](json& r) { r["pre_tokenizer"]["pretokenizers"][3]["use_regex"] = true; }, "ByteLevel"},
    };
    for (const auto& [damage, complaint] : cases) {
        json root = small_json();
        damage(root);
        expect_refused(root.dump(), complaint);
    }
}

}  // namespace
}  // namespace ds4::tokenizer
