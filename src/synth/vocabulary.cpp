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

// Merges of letters: first every pair, then random ones of what is there. A space stands only in front.
class Merges {
  public:
    // Adds tokens until the vocabulary has n.
    Merges(Vocabulary& vocabulary, std::size_t n)
        : vocabulary_(vocabulary), known_(vocabulary.tokens.begin(), vocabulary.tokens.end()) {
        for (char letter = 'a'; letter <= 'z'; ++letter) inner_.push_back({std::string(1, letter), 1});
        front_ = inner_;
        front_.push_back({space_, 1});
        const std::vector<Word> letters = inner_, starts = front_;
        for (const Word& left : starts) {
            for (const Word& right : letters) {
                if (vocabulary.tokens.size() < n) join(left, right);
            }
        }
        Random random(kSeed);
        while (vocabulary.tokens.size() < n) join(pick(front_, random), pick(inner_, random));
    }

  private:
    struct Word {
        std::string text;
        std::size_t length;  // characters
    };

    static Word pick(const std::vector<Word>& words, Random& random) {
        return words[random.below(static_cast<std::uint32_t>(words.size()))];
    }

    void join(const Word& left, const Word& right) {
        Word joined{left.text + right.text, left.length + right.length};
        if (joined.length > kLongestMerge || !known_.insert(joined.text).second) return;
        vocabulary_.merges.push_back(left.text + " " + right.text);
        add(vocabulary_, joined.text, Kind::normal);
        if (!joined.text.starts_with(space_)) inner_.push_back(joined);
        front_.push_back(std::move(joined));
    }

    Vocabulary& vocabulary_;
    std::unordered_set<std::string> known_;
    const std::string space_ = tokenizer::encode_byte(' ');
    std::vector<Word> inner_, front_;  // what may stand anywhere, and what may stand first
};

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
    Merges(vocabulary, size - kAddedTokens);
    const auto* named = kNamed.begin();
    for (std::uint32_t offset = 0; offset < kAddedTokens; ++offset) {
        const bool has_name = named != kNamed.end() && named->offset == offset;
        add(vocabulary, has_name ? std::string((named++)->text) : unnamed(offset), Kind::user_defined);
    }
    return vocabulary;
}

}  // namespace ds4::synth
