#include "synth/vocabulary.h"

#include <array>
#include <cstdio>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "synth/random.h"
#include "tokenizer/byte_alphabet.h"

namespace ds4::synth {
namespace {

using tokenizer::Vocabulary;
using Kind = Vocabulary::Kind;

constexpr std::size_t kLongestMerge = 12;  // characters
constexpr std::uint64_t kSeed = 15;

void add(Vocabulary& vocabulary, std::string text, Kind kind) {
    vocabulary.tokens.push_back(std::move(text));
    vocabulary.kinds.push_back(kind);
}

// In the order of their code points in the alphabet, as released vocabularies have them.
void add_bytes(Vocabulary& vocabulary) {
    std::set<std::string> alphabet;  // UTF-8 sorts as code points do
    for (int byte = 0; byte < 256; ++byte)
        alphabet.insert(tokenizer::encode_byte(static_cast<std::uint8_t>(byte)));
    for (const std::string& symbol : alphabet) add(vocabulary, symbol, Kind::normal);
}

// Joins random tokens of letters until `n` tokens are there. A space stands only in front.
void add_merges(Vocabulary& vocabulary, std::size_t n) {
    struct Word {
        std::string text;
        std::size_t length;  // characters
    };
    const std::string space = tokenizer::encode_byte(' ');
    std::vector<Word> words;
    for (char letter = 'a'; letter <= 'z'; ++letter) words.push_back({std::string(1, letter), 1});
    std::vector<Word> fronts = words;
    fronts.push_back({space, 1});
    std::unordered_set<std::string> known(vocabulary.tokens.begin(), vocabulary.tokens.end());
    Random random(kSeed);
    while (vocabulary.tokens.size() < n) {
        const Word& left = fronts[random.below(static_cast<std::uint32_t>(fronts.size()))];
        const Word& right = words[random.below(static_cast<std::uint32_t>(words.size()))];
        Word joined{left.text + right.text, left.length + right.length};
        if (joined.length > kLongestMerge || !known.insert(joined.text).second) continue;
        vocabulary.merges.push_back(left.text + " " + right.text);
        add(vocabulary, joined.text, Kind::normal);
        if (!joined.text.starts_with(space)) words.push_back(joined);
        fronts.push_back(std::move(joined));
    }
}

// The table of model.md 15.4 from its id 128800 on; a range has its first id only.
struct Named {
    std::uint32_t offset;  // from 128000
    std::string_view text;
};
constexpr std::array kNamed = {
    Named{800, "<｜fim▁hole｜>"},
    Named{801, "<｜fim▁begin｜>"},
    Named{802, "<｜fim▁end｜>"},
    Named{803, "<｜User｜>"},
    Named{804, "<｜Assistant｜>"},
    Named{805, "<|EOT|>"},
    Named{806, "<｜tool▁calls▁begin｜>"},
    Named{807, "<｜tool▁calls▁end｜>"},
    Named{808, "<｜tool▁call▁begin｜>"},
    Named{809, "<｜tool▁call▁end｜>"},
    Named{810, "<｜tool▁outputs▁begin｜>"},
    Named{811, "<｜tool▁outputs▁end｜>"},
    Named{812, "<｜tool▁output▁begin｜>"},
    Named{813, "<｜tool▁output▁end｜>"},
    Named{814, "<｜tool▁sep｜>"},
    Named{815, "<｜begin▁of▁repo▁name｜>"},
    Named{816, "<｜end▁of▁repo▁name｜>"},
    Named{817, "<｜begin▁of▁file▁name｜>"},
    Named{818, "<｜end▁of▁file▁name｜>"},
    Named{819, "<｜begin▁of▁file｜>"},
    Named{820, "<｜end▁of▁file｜>"},
    Named{821, "<think>"},
    Named{822, "</think>"},
    Named{823, "<｜place▁holder▁for▁copy｜>"},
    Named{824, "<｜place▁holder▁for▁pointer▁replace｜>"},
    Named{825, "｜DSML｜"},
    Named{826, "<｜begin▁sys｜>"},
    Named{827, "<｜end▁sys｜>"},
    Named{828, "<｜latest_reminder｜>"},
    Named{829, "<｜action｜>"},
    Named{830, "<｜query｜>"},
    Named{831, "<｜authority｜>"},
    Named{832, "<｜domain｜>"},
    Named{833, "<｜task｜>"},
    Named{834, "<｜political｜>"},
    Named{835, "<｜entity｜>"},
    Named{836, "<｜title｜>"},
    Named{837, "<｜safety｜>"},
    Named{838, "<｜answer｜>"},
    Named{839, "<｜search｜>"},
    Named{840, "<dsml:"},
    Named{841, "</dsml:"},
    Named{842, "<｜search▁begin｜>"},
    Named{843, "<｜search▁end｜>"},
    Named{844, "<｜extracted_url｜>"},
    Named{845, "<｜read_url｜>"},
    Named{846, "<｜end_of_query｜>"},
    Named{1279, "<｜image｜>"},
};
constexpr std::uint32_t kFirstNamed = 800;
constexpr std::uint32_t kFirstSpan = 847;     // <|place_holder_mm_span_0021|> and on
constexpr std::uint32_t kFirstMarker = 1262;  // of tables and boxes, whose names are not known here

std::string numbered(const char* pattern, std::uint32_t number) {
    std::array<char, 64> text{};
    std::snprintf(text.data(), text.size(), pattern, number);
    return text.data();
}

std::string unnamed(std::uint32_t offset) {
    if (offset < kFirstNamed) return numbered("<｜place▁holder▁no▁%u｜>", offset);
    if (offset < kFirstMarker) return numbered("<|place_holder_mm_span_%04u|>", offset - kFirstSpan + 21);
    return numbered("<｜marker_%u｜>", offset - kFirstMarker);
}

}  // namespace

Vocabulary made_up_vocabulary(std::uint32_t size) {
    Vocabulary vocabulary;
    add(vocabulary, "<｜begin▁of▁sentence｜>", Kind::control);
    add(vocabulary, "<｜end▁of▁sentence｜>", Kind::control);
    add(vocabulary, "<｜▁pad▁｜>", Kind::control);
    vocabulary.bos = 0;
    vocabulary.eos = vocabulary.pad = 1;
    add_bytes(vocabulary);
    add_merges(vocabulary, size - kAddedTokens);
    const auto* named = kNamed.begin();
    for (std::uint32_t offset = 0; offset < kAddedTokens; ++offset) {
        const bool has_name = named != kNamed.end() && named->offset == offset;
        add(vocabulary, has_name ? std::string((named++)->text) : unnamed(offset), Kind::user_defined);
    }
    return vocabulary;
}

}  // namespace ds4::synth
