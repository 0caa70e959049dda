#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ds4/backend_kind.h"
#include "ds4/checkpoint.h"
#include "ds4/error.h"
#include "ds4/profile.h"
#include "ds4/sampling.h"

namespace ds4 {

namespace tokenizer {
class Tokenizer;
}

// How compressed rows of the KV state are stored. packed: FP8 and FP4 codes as the model's own rounding
// leaves them, the rotated dims as F16 (model.md 9); the others are for tests.
enum class KvRows : std::uint8_t { packed, f16, f32 };

struct EngineOptions {
    std::filesystem::path model;  // GGUF of the trunk
    int threads = 0;              // 0: one per usable core
    // Rows of one step: the prefill chunk, and the most sessions in a batch. 0: what suits the backend, 512
    // on a CPU, 2048 on a GPU.
    std::int64_t max_batch = 0;
    std::int64_t max_context = 0;     // tokens; 0: what the model was made for. More is for measuring
    bool kv_rounding = true;          // simulated FP8/FP4 of model.md 9; off only to compare implementations
    KvRows kv_rows = KvRows::packed;  // without kv_rounding: always f32
    BackendKind backend = BackendKind::cpu;
    // What a GPU must have room for besides the weights, checked before anything is loaded: this many
    // sessions of this many tokens. 0 tokens: not planned for.
    std::int64_t plan_sessions = 1;
    std::int64_t plan_context = 0;
    bool profile = false;  // for take_profile()
};

struct ModelInfo {
    std::string name;  // general.name, or the file's name
    std::int64_t vocab = 0;
    std::int64_t max_context = 0;  // tokens the model was made for
    std::int64_t n_layers = 0;
    int expert_bits = 0;        // per weight of the routed experts, about: 2, 4, 8, 16 or 32
    std::string effort_scheme;  // deepseek4.effort_scheme, as prompt.md 2.7 names them; empty: not said
};

// Bytes that serving takes.
struct MemoryPlan {
    double weights = 0;      // mapped from the file, or in the GPU's memory; what tensors share counts once
    double kv_state = 0;     // of one session when its context is full; taken as it grows
    double activations = 0;  // of a step
};

class Session;

// One loaded model. Sessions share its weights and its threads.
class Engine {
  public:
    // Throws IoError, GgufError, ModelError, TokenizerError, DeviceError.
    static std::unique_ptr<Engine> open(const EngineOptions& options);
    ~Engine();
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    const ModelInfo& info() const;
    std::string backend_description() const;  // one line for people
    bool has_device_memory() const;           // the backend is a device with memory of its own

    bool has_tokenizer() const;
    const tokenizer::Tokenizer& tokenizer() const;  // throws TokenizerError if the file has none

    // An empty session that may grow to `context` tokens (0: the model's maximum). Memory is taken as it
    // grows. Throws ContextError if the model's maximum is smaller. The engine must outlive it.
    std::unique_ptr<Session> new_session(std::int64_t context = 0);

    // A session that goes on from the last of these points of one conversation, which are in ascending order
    // and which rewind() can go back to. Shares their rows. Throws ContextError as above.
    std::unique_ptr<Session> resume(std::span<const CheckpointPtr> points, std::int64_t context = 0);
    // The engine must outlive the loader and every checkpoint.
    std::unique_ptr<CheckpointLoader> load_checkpoint();

    MemoryPlan memory_plan(std::int64_t context) const;
    // Bytes that sessions and checkpoints hold now; what they share counts once.
    std::size_t kv_bytes() const;
    // Bytes that a session of n tokens holds if it shares nothing, without its points.
    std::size_t kv_bytes_for(std::int64_t n_tokens) const;
    // 40 hex digits that tell apart models (their metadata and samples of their weights) and forms of the
    // state: a checkpoint belongs to one of them.
    const std::string& kv_fingerprint() const;

    // Called for every appended token in order with its position and the logits (vocab) after it.
    using RowLogits = std::function<void(std::int64_t position, std::span<const float> logits)>;

    // What a session adds in one step. Each session at most once per step.
    struct Work {
        Session* session;
        std::span<const TokenId> tokens;
        const RowLogits* on_logits = nullptr;  // optional
        // Tokens of an answer, as opposed to such of a prompt. A GPU multiplies the two kinds in different
        // orders of sums, so the same tokens of the same kinds give the same bits.
        bool is_generated = false;
        // Session::best() will be asked for, and logits() hardly: they need not come from the device.
        bool wants_best = false;
    };
    // Appends tokens to several sessions in one batch of at most max_batch rows; afterwards each session's
    // logits() are those after its last token. Which sessions share a step never changes a bit of any result.
    // Throws ContextError, Error (a token out of the vocabulary, too many rows) before anything has changed,
    // and so DeviceMemoryError: there is no room for what the sessions would hold. After a DeviceError the
    // device is gone, and with it all sessions and checkpoints: see restart().
    void step(std::span<const Work> work);

    // Opens the device anew and places the weights again. No session, checkpoint or loader may exist, and
    // none can be made until it has worked. Not during a step. Throws DeviceError (it may work later),
    // DeviceLostError (it never will in this process), Error (a session or a checkpoint is left).
    void restart();

    std::int64_t max_batch() const;  // rows of a step, at most

    // What the operations of all steps cost since the last call; empty without EngineOptions::profile. Not
    // during a step.
    std::vector<OpProfile> take_profile();

  private:
    friend class Session;
    friend class Checkpoint;
    friend class CheckpointLoader;
    struct Impl;
    explicit Engine(std::unique_ptr<Impl> impl);

    std::unique_ptr<Impl> impl_;
};

// A conversation's tokens and the model's state after them. Not thread-safe; different sessions may be used
// from different threads, their steps take turns.
class Session {
  public:
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    std::span<const TokenId> tokens() const;
    std::int64_t n_tokens() const { return static_cast<std::int64_t>(tokens().size()); }
    std::int64_t context() const;
    std::size_t bytes() const;  // of model state held now, shared rows and points included

    // (vocab) after the last token; empty before the first.
    std::span<const float> logits() const;
    // What sample() chooses from them at temperature 0; the session must not be empty.
    TokenId best() const;

    struct AppendOptions {
        // Called after each chunk with the tokens done so far and the total. False stops there, cleanly.
        std::function<bool(std::int64_t done, std::int64_t total)> progress;
        Engine::RowLogits on_logits;
        bool is_generated = false;  // as in Engine::Work
        bool wants_best = false;    // as in Engine::Work
    };
    // Prefill and decode alike. Throws ContextError naming both numbers if the tokens do not fit; nothing
    // changes. Returns the number of tokens appended (all, unless progress said stop).
    std::int64_t append(std::span<const TokenId> tokens, const AppendOptions& options);
    std::int64_t append(std::span<const TokenId> tokens) { return append(tokens, AppendOptions{}); }

    // Remembers this point for rewind() and returns it (nullptr: no tokens). Appending does so by itself
    // every few hundred tokens. When there are many points some are forgotten, more of them far back than
    // near.
    CheckpointPtr mark();
    std::span<const CheckpointPtr> points() const;  // ascending
    // Forgets all but about n points, for their memory.
    void keep_points(std::size_t n);
    // Goes back to the latest remembered point at or before n tokens, at worst to the empty session, and
    // returns its number of tokens. State and logits are bit for bit those of that point.
    std::int64_t rewind(std::int64_t n);
    // Forgets everything after the first n tokens; n <= n_tokens(): rewind(n), and what is missing is
    // computed again.
    void truncate(std::int64_t n);

  private:
    friend class Engine;
    friend class Checkpoint;
    struct Impl;
    explicit Session(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace ds4
