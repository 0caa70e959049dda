#include "synth/vocabulary.h"

#include <gtest/gtest.h>

namespace ds4::synth {
namespace {

using tokenizer::Tokenizer;
using tokenizer::Vocabulary;

// model.md 15.1, 15.4
TEST(MadeUpVocabulary, HasTheAddedTokensOfFlashAtTheirIds) {
    const Vocabulary v = made_up_vocabulary(129280);
    EXPECT_EQ(v.tokens.size(), 129280);
    EXPECT_EQ(v.merges.size(), 127741);
    const Tokenizer tokenizer(v);
    EXPECT_EQ(tokenizer.find_added("<｜begin▁of▁sentence｜>"), 0);
    EXPECT_EQ(tokenizer.find_added("<｜end▁of▁sentence｜>"), 1);
    EXPECT_EQ(tokenizer.find_added("<｜place▁holder▁no▁0｜>"), 128000);
    EXPECT_EQ(tokenizer.find_added("<｜place▁holder▁no▁799｜>"), 128799);
    EXPECT_EQ(tokenizer.find_added("<｜User｜>"), 128803);
    EXPECT_EQ(tokenizer.find_added("<｜Assistant｜>"), 128804);
    EXPECT_EQ(tokenizer.find_added("<think>"), 128821);
    EXPECT_EQ(tokenizer.find_added("</think>"), 128822);
    EXPECT_EQ(tokenizer.find_added("｜DSML｜"), 128825);
    EXPECT_EQ(tokenizer.find_added("<｜read_url｜>"), 128845);
    EXPECT_EQ(tokenizer.find_added("<|place_holder_mm_span_0021|>"), 128847);
    EXPECT_EQ(tokenizer.find_added("<|place_holder_mm_span_0435|>"), 129261);
    EXPECT_EQ(tokenizer.find_added("<｜image｜>"), 129279);
    EXPECT_EQ(tokenizer.bytes(3), "!");  // bytes in the order of the alphabet
}

TEST(MadeUpVocabulary, EncodesAnyText) {
    const Tokenizer tokenizer(made_up_vocabulary(kLeastVocabulary + 2000));
    const std::string text = "The quick brown fox, 12 times: größer 狐, and letters, letters, letters\n\xff";
    const auto ids = tokenizer.encode(text);
    EXPECT_EQ(tokenizer.decode(ids), text);
    EXPECT_LT(ids.size(), text.size());  // some merges apply
}

TEST(MadeUpVocabulary, CanBeBytesAndAddedTokensOnly) {
    const Tokenizer tokenizer(made_up_vocabulary(kLeastVocabulary));
    EXPECT_EQ(tokenizer.encode("abc").size(), 3);
    EXPECT_EQ(tokenizer.find_added("<｜User｜>"), 3 + 256 + 803);
}

}  // namespace
}  // namespace ds4::synth
