#pragma once

#include <array>
#include <random>
#include <string>
#include <string_view>

namespace ds4::test {

inline std::size_t random_below(std::mt19937& rng, std::size_t n) {
    return rng() % n;
}

// Text made of fragments that the split patterns treat differently, in random order.
inline std::string random_text(std::mt19937& rng, std::size_t n_fragments) {
    static constexpr std::array<std::string_view, 46> fragments = {"a",          "Z",
                                                                   "word",       "don't",
                                                                   " ",          "  ",
                                                                   "    ",       "\t",
                                                                   "\n",         "\r\n",
                                                                   "\n\n",       "\v",
                                                                   "1",          "23",
                                                                   "4567",       "\u0665",
                                                                   "\u00BD",     ".",
                                                                   ",",          "!?",
                                                                   "(",          "$",
                                                                   "+=",         "<|",
                                                                   "_",          "\u4F60\u597D",
                                                                   "\u3042",     "\u30FB",
                                                                   "\u3040",     "\u9FA6",
                                                                   "\u00E9",     "e\u0301",
                                                                   "\u0301",     "\uFF0C",
                                                                   "\u2026",     "\u20AC",
                                                                   "\U0001F600", "\U0001F469\u200D\U0001F4BB",
                                                                   "\u00A0",     "\u0085",
                                                                   "\u180E",     "\u2028",
                                                                   "\u200B",     "\u3000",
                                                                   "\x01",       "\uFEFF"};
    std::string text;
    for (std::size_t i = 0; i < n_fragments; ++i) text += fragments[random_below(rng, fragments.size())];
    return text;
}

inline std::string random_bytes(std::mt19937& rng, std::size_t n) {
    std::string bytes;
    for (std::size_t i = 0; i < n; ++i) bytes += static_cast<char>(random_below(rng, 256));
    return bytes;
}

}  // namespace ds4::test
