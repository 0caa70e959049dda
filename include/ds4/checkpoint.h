#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ds4/token.h"

namespace ds4 {

// A point of a conversation that sessions can be started from: its tokens, the model's state and the logits
// after them, bit for bit. Compressed rows are shared with the session it was taken from and with everybody
// who came from there; only rings and frontiers are its own. Immutable; safe to read from any thread, beside
// sessions that go on.
class Checkpoint {
  public:
    ~Checkpoint();
    Checkpoint(const Checkpoint&) = delete;
    Checkpoint& operator=(const Checkpoint&) = delete;

    std::int64_t n_tokens() const;
    // [from, n_tokens)
    std::vector<TokenId> tokens(std::int64_t from = 0) const;
    std::size_t bytes() const;  // held by this alone, without shared rows

    // ---- what a file is made of (docs/KV_FORMAT.md)

    // Of the rows that the tokens [from, n_tokens) closed.
    std::size_t rows_bytes(std::int64_t from) const;
    void read_rows(std::int64_t from, std::span<std::byte> out) const;  // out: rows_bytes(from)
    std::span<const std::byte> state() const;                           // rings and frontiers
    std::span<const float> logits() const;                              // (vocab)

  private:
    friend class Engine;
    friend class Session;
    friend class CheckpointLoader;
    struct Impl;
    explicit Checkpoint(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

using CheckpointPtr = std::shared_ptr<const Checkpoint>;

// Puts a checkpoint together again from pieces that follow each other: Engine::load_checkpoint.
class CheckpointLoader {
  public:
    ~CheckpointLoader();
    CheckpointLoader(const CheckpointLoader&) = delete;
    CheckpointLoader& operator=(const CheckpointLoader&) = delete;

    std::int64_t n_tokens() const;  // so far
    // Bytes that add() and finish() expect, for checks before anything is read.
    std::size_t rows_bytes(std::int64_t n_more) const;
    std::size_t state_bytes(std::int64_t n_more) const;  // after n_more tokens more
    // Throws Error if the rows are not as many as the tokens close, or a token is outside the vocabulary.
    void add(std::span<const TokenId> tokens, std::span<const std::byte> rows);
    // Throws Error if the sizes are not those of the tokens so far.
    CheckpointPtr finish(std::span<const std::byte> state, std::span<const float> logits);

  private:
    friend class Engine;
    struct Impl;
    explicit CheckpointLoader(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace ds4
