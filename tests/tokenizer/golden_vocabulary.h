#pragma once

#include "tokenizer/tokenizer.h"

// DeepSeek's released vocabularies, rebuilt from the packed files of tests/data/golden/tokenizer
// (make_compact.py there says how they are packed).
namespace ds4::test {

// The V3 file, for which the golden cases were made: 128,815 tokens.
tokenizer::Vocabulary golden_v3_vocabulary();

// The same base vocabulary with those added tokens of V4 that prompts use, at their V4 ids (model.md 15.4);
// the ids between are unused entries. 129,280 tokens.
tokenizer::Vocabulary golden_v4_vocabulary();

}  // namespace ds4::test
