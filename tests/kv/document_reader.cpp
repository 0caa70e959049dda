#include "kv/document_reader.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "base/hash.h"

namespace ds4::test {
namespace {

void demand(bool is_so, const std::string& what) {
    if (!is_so) throw std::runtime_error(what);
}

class Bytes {
  public:
    explicit Bytes(std::string_view all) : rest_(all) {}
    std::string_view take(std::size_t n) {
        demand(n <= rest_.size(), "the file ends too early");
        const std::string_view taken = rest_.substr(0, n);
        rest_.remove_prefix(n);
        return taken;
    }
    std::uint64_t number(std::size_t n_bytes) {
        std::uint64_t value = 0;
        int shift = 0;
        for (const char c : take(n_bytes)) {
            value |= static_cast<std::uint64_t>(static_cast<unsigned char>(c)) << shift;
            shift += 8;
        }
        return value;
    }
    std::uint32_t u32() { return static_cast<std::uint32_t>(number(4)); }
    std::uint8_t u8() { return static_cast<std::uint8_t>(number(1)); }
    std::string digest() {
        std::string hex;
        for (const char c : take(20)) {
            constexpr std::string_view digits = "0123456789abcdef";
            hex += digits[static_cast<unsigned char>(c) >> 4];
            hex += digits[static_cast<unsigned char>(c) & 15];
        }
        return hex == std::string(40, '0') ? "" : hex;
    }
    std::size_t left() const { return rest_.size(); }

  private:
    std::string_view rest_;
};

std::uint64_t checksum(std::string_view bytes) {
    return xxh3(std::as_bytes(std::span(bytes)));
}

std::string read_all(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    demand(file.is_open(), path.string() + " is missing");
    return {std::istreambuf_iterator<char>(file), {}};
}

std::map<std::string, std::string> read_tool_map(std::string_view bytes) {
    Bytes in(bytes);
    demand(in.take(3) == "KTM" && in.u8() == 1, "no tool map");
    std::map<std::string, std::string> map;
    for (std::uint32_t n = in.u32(); n > 0; --n) {
        const std::size_t id_bytes = in.u32(), block_bytes = in.u32();
        const std::string id(in.take(id_bytes));
        map[id] = std::string(in.take(block_bytes));
    }
    demand(in.left() == 0, "the tool map goes on");
    return map;
}

float f32_of(std::string_view bytes) {
    float value = 0;
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
}

// Sign, exponent, mantissa; the smallest exponent is of subnormal numbers.
double small_float(unsigned code, int exponent_bits, int mantissa_bits) {
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const int exponent = static_cast<int>(code >> mantissa_bits) & ((1 << exponent_bits) - 1);
    const int mantissa = static_cast<int>(code) & ((1 << mantissa_bits) - 1);
    const double fraction = static_cast<double>(mantissa) / (1 << mantissa_bits);
    const double magnitude =
        exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias);
    return (code >> (exponent_bits + mantissa_bits) & 1) != 0 ? -magnitude : magnitude;
}

double e8m0(unsigned char code) {
    return std::ldexp(1.0, code - 127);
}

std::vector<float> floats(std::string_view bytes) {
    std::vector<float> values(bytes.size() / sizeof(float));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = f32_of(bytes.substr(4 * i, 4));
    return values;
}

}  // namespace

DocumentedFile read_documented(const std::filesystem::path& path) {
    const std::string all = read_all(path);
    Bytes in(all);
    DocumentedFile f;
    demand(in.take(3) == "KVC" && in.u8() == 1, "no envelope");
    f.quant_bits = in.u8();
    f.reason = in.u8();
    f.flags = in.u8();
    demand(in.u8() == 0, "offset 7 is not 0");
    f.n_tokens = in.u32();
    f.hits = in.u32();
    f.context = in.u32();
    demand(in.u32() == 0, "offset 20 is not 0");
    f.created = in.number(8);
    f.last_used = in.number(8);
    const std::uint64_t payload = in.number(8);
    const std::uint32_t text_bytes = in.u32();
    f.text = in.take(text_bytes);
    const std::size_t start = 52 + text_bytes;

    demand(in.take(4) == "DS4P" && in.u32() == 1, "no payload of ours");
    f.fingerprint = in.digest();
    f.tokens_sha1 = in.digest();
    f.parent = in.digest();
    f.parent_tokens_sha1 = in.digest();
    f.n_parent_tokens = in.u32();
    demand(in.u32() == 0, "payload offset 92 is not 0");
    f.key_bytes = in.number(8);
    f.parent_key_bytes = in.number(8);
    const std::uint64_t map_bytes = in.number(8), map_checksum = in.number(8);
    demand(in.number(8) == 4, "not 4 sections");
    std::uint64_t at = start + 272;
    for (std::size_t i = 0; i < f.sections.size(); ++i) {
        demand(in.u32() == i + 1 && in.u32() == 0 && in.number(8) == at, "a section is elsewhere");
        const std::uint64_t bytes = in.number(8);
        demand(bytes <= all.size() - at, "a section is too long");
        f.sections[i] = all.substr(at, bytes);
        demand(in.number(8) == checksum(f.sections[i]), "a section's checksum is wrong");
        at += bytes;
    }
    demand(payload == at - start && at + map_bytes == all.size(), "sizes do not add up");
    std::string header = all.substr(0, start + 264);
    std::fill_n(header.begin() + 12, 4, '\0');
    std::fill_n(header.begin() + 32, 8, '\0');
    demand(in.number(8) == checksum(header), "the header's checksum is wrong");

    demand(((f.flags & 1) != 0) == (map_bytes > 0), "the flag of the tool map is wrong");
    const std::string map = all.substr(at);
    demand(map_checksum == (map.empty() ? 0 : checksum(map)), "the tool map's checksum is wrong");
    if (!map.empty()) f.tool_map = read_tool_map(map);
    return f;
}

DocumentedChain follow_documented(const std::filesystem::path& directory, const std::string& name) {
    DocumentedChain chain;
    std::vector<std::string> names;
    for (std::string at = name; !at.empty(); at = chain.files.front().parent) {
        chain.files.insert(chain.files.begin(), read_documented(directory / (at + ".kv")));
        names.insert(names.begin(), at);
    }
    std::string tokens, sha1;
    for (std::size_t i = 0; i < chain.files.size(); ++i) {
        const DocumentedFile& f = chain.files[i];
        demand(f.n_parent_tokens == tokens.size() / 4 && f.parent_tokens_sha1 == sha1, "a gap in the chain");
        tokens += f.sections[0];
        sha1 = sha1_hex(tokens);
        demand(f.n_tokens == tokens.size() / 4 && f.tokens_sha1 == sha1, "other tokens than it says");
        chain.key = chain.key.substr(0, f.parent_key_bytes) + f.text;
        demand(chain.key.size() == f.key_bytes, "a key of another length");
        demand(sha1_hex(((f.flags & 8) != 0 ? "\1" : "") + chain.key) == names[i], "another name");
    }
    Bytes in(tokens);
    while (in.left() > 0) chain.tokens.push_back(static_cast<std::int32_t>(in.u32()));
    return chain;
}

std::vector<float> decode_attention_row(const DocumentedModel& model, std::string_view row) {
    const std::size_t n = model.head_dim - model.rotated_dims;
    std::vector<float> values;
    for (std::size_t i = 0; i < n; ++i) {
        const auto code = static_cast<unsigned char>(row[n / 64 + i]);
        const auto scale = static_cast<unsigned char>(row[i / 64]);
        values.push_back(static_cast<float>(small_float(code, 4, 3) * e8m0(scale)));
    }
    Bytes tail(row.substr(n / 64 + n));
    for (std::size_t i = 0; i < model.rotated_dims; ++i) {
        values.push_back(static_cast<float>(small_float(static_cast<unsigned>(tail.number(2)), 5, 10)));
    }
    return values;
}

std::vector<float> decode_indexer_row(const DocumentedModel& model, std::string_view row) {
    std::vector<float> values;
    for (std::size_t i = 0; i < model.index_dim; ++i) {
        const auto pair = static_cast<unsigned char>(row[model.index_dim / 32 + i / 2]);
        const unsigned code = i % 2 == 0 ? pair & 15U : pair >> 4U;
        const auto scale = static_cast<unsigned char>(row[i / 32]);
        values.push_back(static_cast<float>(small_float(code, 2, 1) * e8m0(scale)));
    }
    return values;
}

std::vector<DocumentedLayer> decode_documented(const DocumentedModel& model, const DocumentedChain& chain) {
    const std::size_t coded = model.head_dim - model.rotated_dims;
    const std::size_t row_bytes = coded / 64 + coded + 2 * model.rotated_dims;
    const std::size_t indexer_row_bytes = model.index_dim / 32 + model.index_dim / 2;
    std::vector<DocumentedLayer> layers(model.ratios.size());
    for (const DocumentedFile& f : chain.files) {
        Bytes rows(f.sections[1]);
        for (std::size_t l = 0; l < layers.size(); ++l) {
            const auto ratio = static_cast<std::size_t>(model.ratios[l]);
            if (ratio == 0) continue;
            const std::size_t n = f.n_tokens / ratio - f.n_parent_tokens / ratio;
            for (std::size_t i = 0; i < n; ++i)
                layers[l].rows.push_back(decode_attention_row(model, rows.take(row_bytes)));
            if (ratio != 4) continue;
            for (std::size_t i = 0; i < n; ++i)
                layers[l].indexer_rows.push_back(decode_indexer_row(model, rows.take(indexer_row_bytes)));
        }
        demand(rows.left() == 0, "more rows than tokens close");
    }
    const std::size_t n = chain.tokens.size();
    Bytes state(chain.files.back().sections[2]);
    for (std::size_t l = 0; l < layers.size(); ++l) {
        for (std::size_t i = 0; i < std::min(n, model.window); ++i)
            layers[l].raw_rows.push_back(decode_attention_row(model, state.take(row_bytes)));
        const auto ratio = static_cast<std::size_t>(model.ratios[l]);
        const auto frontier = [&](std::size_t dim) {
            const std::size_t count = ratio == 128 ? n % 128 * dim : (n >= 4 ? 4 * dim : 0) + n % 4 * 2 * dim;
            return floats(state.take(count * sizeof(float)));
        };
        if (ratio == 0) continue;
        layers[l].values = frontier(model.head_dim);
        layers[l].scores = frontier(model.head_dim);
        if (ratio != 4) continue;
        layers[l].indexer_values = frontier(model.index_dim);
        layers[l].indexer_scores = frontier(model.index_dim);
    }
    demand(state.left() == 0, "the state goes on");
    return layers;
}

}  // namespace ds4::test
