#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "model/config.h"

namespace ds4 {

// Everything the model remembers of one session (model.md 13.1): per layer a ring of the last raw rows, lists
// of compressed rows that only ever grow, and small compressor frontiers. How many compressed rows there are
// follows from the number of tokens, so it is not stored.
class KvState {
  public:
    // A state for layers of these ratios (the trunk's, or a single 0 for the MTP block).
    KvState(const Config& config, std::vector<std::int64_t> ratios, Backend& backend);

    std::int64_t n_tokens() const { return n_tokens_; }
    std::size_t bytes() const { return bytes_; }  // of backend memory held now
    // Backend memory of a state with these layers after n_tokens, pages rounded up.
    static std::size_t bytes_for(const Config& config, std::span<const std::int64_t> ratios,
                                 std::int64_t n_tokens);

    // Makes room for the rows that n_more tokens will close. Throws std::bad_alloc; the state stays as it
    // was.
    void reserve(std::int64_t n_more);
    // The step that appended n tokens is complete.
    void advance(std::int64_t n) { n_tokens_ += n; }

    // What the operations see of one layer. Valid until the next reserve().
    LayerHistory history(std::int64_t layer) const;

    // The part of the state that later tokens overwrite: rings and frontiers, in host memory. Compressed rows
    // are not in it, so it belongs to this object and to the tokens up to n_tokens.
    struct Snapshot {
        std::int64_t n_tokens = 0;
        std::vector<float> mutable_part;
    };
    Snapshot snapshot() const;
    // Back to the snapshot's token count. The tokens up to there must be the ones it was taken after.
    void restore(const Snapshot& snapshot);
    // Back to no tokens.
    void clear();

  private:
    struct List {
        std::vector<BackendMemory> memory;
        std::vector<float*> pages;  // what `memory` holds, as the operations want it
        std::int64_t width = 0;
    };
    struct Layer {
        Layer(std::int64_t compress_ratio, BackendMemory block)
            : ratio(compress_ratio), memory(std::move(block)) {}

        std::int64_t ratio;
        // One allocation holds window, then frontier values and scores; see layout in the constructor.
        BackendMemory memory;
        float* mutable_part = nullptr;
        std::int64_t mutable_floats = 0;
        LayerHistory parts;  // pointers into mutable_part
        List compressed, indexer;
    };

    void grow(List& list, std::int64_t n_rows);
    void reset_layer(const Layer& layer);

    Backend& backend_;
    std::vector<Layer> layers_;
    std::int64_t n_tokens_ = 0;
    std::size_t bytes_ = 0;
};

}  // namespace ds4
