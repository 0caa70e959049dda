#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ds4/engine.h"
#include "kv/directory.h"
#include "kv/file_format.h"

namespace ds4::kv {

// The bytes by which prompts are found.
struct Key {
    std::string text;
    // Where the first string of a control token ends that stands in plain text: a prompt in which a client
    // wrote such a string has the bytes of another one, so from there on it gets another name.
    std::size_t forged_end = std::string::npos;

    bool is_salted(std::size_t n_bytes) const { return n_bytes >= forged_end; }
};

struct StoreOptions {
    std::filesystem::path directory;
    std::uint64_t max_bytes = std::uint64_t{4096} << 20;
    std::int64_t min_tokens = 512;  // shorter checkpoints are not used
    std::int64_t context = 0;       // tokens of our sessions: checkpoints of longer ones are not used
    std::uint8_t quant_bits = 0;    // of our routed experts
    bool rejects_other_quant = false;
    std::function<std::uint64_t()> now;           // unix seconds
    std::function<void(const std::string&)> log;  // one line
};

// Checkpoints in a directory (docs/KV_FORMAT.md): each file has the rows since its parent and one state.
// Thread-safe; reading and writing of files happens outside the lock.
class Store {
  public:
    // Throws IoError if there can be no such directory.
    Store(StoreOptions options, Engine& engine);

    struct Found {
        std::string name;
        std::int64_t n_tokens = 0;
        std::size_t key_bytes = 0;
        KeyKind kind = KeyKind::tokens;
    };
    // Checkpoints whose keys begin the prompt, longest key first.
    std::vector<Found> find(const Key& prompt);

    struct Loaded {
        std::vector<CheckpointPtr> points;  // of the files on the way that have a state, ascending
        std::vector<ToolMapEntry> tool_map;
    };
    // nullopt: it cannot be used after all. Then the file that is to blame is set aside and a line logged.
    std::optional<Loaded> load(const Found& found);
    // The checkpoint did not work: away with it.
    void reject(const Found& found, const std::string& why);

    // Of all usable files.
    std::vector<ToolMapEntry> tool_maps();

    struct Save {
        CheckpointPtr checkpoint;
        std::function<Key()> key;  // decoding a long text can wait until nobody else does
        KeyKind kind = KeyKind::tokens;
        Reason reason = Reason::unknown;
        // Calls whose blocks the text holds.
        std::function<std::vector<ToolMapEntry>(std::string_view text)> tool_map;
    };
    // taken: a file that is not ours has the name.
    enum class Saved : std::uint8_t { written, known, taken, no_room, failed };
    // Writes what the longest stored beginning of this checkpoint lacks. Never throws: a failure is logged.
    Saved save(const Save& save);

    struct Totals {
        std::uint64_t n_files = 0, n_bytes = 0;
        std::uint64_t n_written = 0, bytes_written = 0;  // by this process
    };
    Totals totals() const;

  private:
    bool is_usable(const FileHeader& header) const;
    std::vector<std::string> chain_of(const std::string& name) const;
    struct Loading;
    void load_piece(const std::string& name, Loading& loading) const;
    // The longest stored checkpoint that this one goes on from; nullptr: none.
    const Directory::Entry* find_parent(std::span<const TokenId> tokens, std::string& name) const;
    bool is_whole(const std::string& name) const;
    bool is_known(const std::string& name);
    FileHeader make_header(const Save& save, const Key& key, std::span<const TokenId> tokens);
    void write(const Save& save, FileHeader& header, const std::string& tool_map, Directory::Reserved& file);
    Saved try_save(const Save& save);

    const StoreOptions options_;
    Engine& engine_;
    mutable std::mutex mutex_;  // guards the rest
    Directory directory_;
    Totals totals_;
};

}  // namespace ds4::kv
