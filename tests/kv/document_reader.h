#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

// Reads checkpoints as docs/KV_FORMAT.md says, and knows nothing else: none of the code that writes them.
namespace ds4::test {

struct DocumentedFile {
    // ---- envelope
    std::uint8_t quant_bits = 0, reason = 0, flags = 0;
    std::uint32_t n_tokens = 0, hits = 0, context = 0;
    std::uint64_t created = 0, last_used = 0;
    std::string text;
    // ---- payload
    std::string fingerprint, tokens_sha1, parent, parent_tokens_sha1;  // hex, "" for none
    std::uint32_t n_parent_tokens = 0;
    std::uint64_t key_bytes = 0, parent_key_bytes = 0;
    std::array<std::string, 4> sections;  // tokens, rows, state, logits
    std::map<std::string, std::string> tool_map;
};

// Throws std::runtime_error where the file does not say what the document says.
DocumentedFile read_documented(const std::filesystem::path& path);

// The files of a conversation put together.
struct DocumentedChain {
    std::vector<DocumentedFile> files;  // from the first on
    std::string key;
    std::vector<std::int32_t> tokens;
};
DocumentedChain follow_documented(const std::filesystem::path& directory, const std::string& name);

// What of a model the sizes follow from.
struct DocumentedModel {
    std::vector<int> ratios;  // per layer; 0: no compressed rows
    std::size_t head_dim = 0, rotated_dims = 0, index_dim = 0, window = 0;
};

// Numbers out of the rows and the state.
std::vector<float> decode_attention_row(const DocumentedModel& model, std::string_view row);
std::vector<float> decode_indexer_row(const DocumentedModel& model, std::string_view row);

struct DocumentedLayer {
    std::vector<std::vector<float>> rows, indexer_rows;  // of the whole conversation
    std::vector<std::vector<float>> raw_rows;            // the last ones
    // Frontiers, slot by slot as they are stored.
    std::vector<float> values, scores, indexer_values, indexer_scores;
};
std::vector<DocumentedLayer> decode_documented(const DocumentedModel& model, const DocumentedChain& chain);

}  // namespace ds4::test
