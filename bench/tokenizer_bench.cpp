// usage: tokenizer_bench TOKENIZER.json|MODEL.gguf TEXT...
// Encodes each text file several times on one core and prints the best rate.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>

#include "ds4/error.h"
#include "gguf/gguf.h"
#include "tokenizer/tokenizer.h"

namespace {

using ds4::tokenizer::Tokenizer;
using ds4::tokenizer::Vocabulary;

constexpr int repetitions = 5;

Vocabulary load(const std::filesystem::path& path) {
    if (path.extension() == ".json") return Vocabulary::from_json(path);
    return Vocabulary::from_gguf(ds4::gguf::File::open(path));
}

std::string read_file(const char* path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) throw ds4::IoError(std::string(path) + ": cannot be read");
    return {std::istreambuf_iterator<char>(in), {}};
}

void measure(const Tokenizer& tokenizer, const char* path) {
    const std::string text = read_file(path);
    double best_seconds = 1e9;
    std::size_t n_tokens = 0;
    for (int i = 0; i < repetitions; ++i) {
        const auto start = std::chrono::steady_clock::now();
        n_tokens = tokenizer.encode(text).size();
        const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
        best_seconds = std::min(best_seconds, elapsed.count());
    }
    std::printf("%-40s %9zu bytes %8zu tokens %7.1f MB/s %6.2f Mtoken/s\n", path, text.size(), n_tokens,
                double(text.size()) / best_seconds / 1e6, double(n_tokens) / best_seconds / 1e6);
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) {
        std::fprintf(stderr, "usage: tokenizer_bench TOKENIZER.json|MODEL.gguf TEXT...\n");
        return 1;
    }
    try {
        const Tokenizer tokenizer(load(argv[1]));
        for (int i = 2; i < argc; ++i) measure(tokenizer, argv[i]);
    } catch (const std::exception& e) {
        std::fprintf(stderr, "tokenizer_bench: %s\n", e.what());
        return 1;
    }
    return 0;
}
