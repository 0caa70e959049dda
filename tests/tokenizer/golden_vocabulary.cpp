#include "tokenizer/golden_vocabulary.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <sstream>

#include "tokenizer/byte_alphabet.h"

namespace ds4::test {
namespace {

using tokenizer::TokenId;
using tokenizer::Vocabulary;
using Kind = Vocabulary::Kind;

const std::filesystem::path directory = std::filesystem::path(DS4_TEST_DATA) / "golden" / "tokenizer";

constexpr std::size_t n_special = 3;
constexpr std::size_t n_base = 128000;

// Ids 0..2 are left unused, bytes and merges fill the rest.
Vocabulary base_vocabulary() {
    Vocabulary vocabulary;
    vocabulary.tokens.resize(n_special);
    vocabulary.kinds.assign(n_special, Kind::unused);
    // UTF-8 sorts as code points do.
    std::map<std::string, int> alphabet;
    for (int byte = 0; byte < 256; ++byte)
        alphabet[tokenizer::encode_byte(static_cast<std::uint8_t>(byte))] = byte;
    for (const auto& entry : alphabet) vocabulary.tokens.push_back(entry.first);

    std::ifstream in(directory / "merges.u24", std::ios::binary);
    const std::string packed{std::istreambuf_iterator<char>(in), {}};
    const auto id_at = [&](std::size_t offset) {
        std::size_t id = 0;
        for (std::size_t i = 3; i-- > 0;) id = id << 8 | static_cast<std::uint8_t>(packed[offset + i]);
        return id;
    };
    for (std::size_t offset = 0; offset + 6 <= packed.size(); offset += 6) {
        const std::string left = vocabulary.tokens.at(id_at(offset));
        const std::string right = vocabulary.tokens.at(id_at(offset + 3));
        vocabulary.merges.push_back(left + " " + right);
        vocabulary.tokens.push_back(left + right);
    }
    if (vocabulary.tokens.size() != n_base) throw std::runtime_error("merges.u24 is not complete");
    vocabulary.kinds.resize(n_base, Kind::normal);
    vocabulary.bos = 0;
    vocabulary.eos = vocabulary.pad = 1;
    return vocabulary;
}

void place(Vocabulary& vocabulary, std::size_t id, const std::string& text, Kind kind) {
    if (id >= vocabulary.tokens.size()) {
        vocabulary.tokens.resize(id + 1);
        vocabulary.kinds.resize(id + 1, Kind::unused);
    }
    vocabulary.tokens[id] = text;
    vocabulary.kinds[id] = kind;
}

}  // namespace

Vocabulary golden_v3_vocabulary() {
    Vocabulary vocabulary = base_vocabulary();
    std::ifstream in(directory / "added.tsv");
    for (std::string line; std::getline(in, line);) {
        std::istringstream fields(line);
        std::size_t id = 0;
        int is_special = 0;
        std::string text;
        fields >> id >> is_special >> text;
        place(vocabulary, id, text, is_special != 0 ? Kind::control : Kind::user_defined);
    }
    return vocabulary;
}

Vocabulary golden_v4_vocabulary() {
    Vocabulary vocabulary = base_vocabulary();
    place(vocabulary, 0, "<｜begin▁of▁sentence｜>", Kind::control);
    place(vocabulary, 1, "<｜end▁of▁sentence｜>", Kind::control);
    place(vocabulary, 2, "<｜▁pad▁｜>", Kind::control);
    const std::map<std::size_t, std::string> user_defined = {
        {128803, "<｜User｜>"},     {128804, "<｜Assistant｜>"}, {128821, "<think>"},
        {128822, "</think>"},       {128825, "｜DSML｜"},        {128828, "<｜latest_reminder｜>"},
        {128829, "<｜action｜>"},   {128830, "<｜query｜>"},     {128831, "<｜authority｜>"},
        {128832, "<｜domain｜>"},   {128836, "<｜title｜>"},     {128844, "<｜extracted_url｜>"},
        {128845, "<｜read_url｜>"}, {129279, "<｜image｜>"},
    };
    for (const auto& [id, text] : user_defined) place(vocabulary, id, text, Kind::user_defined);
    return vocabulary;
}

}  // namespace ds4::test
