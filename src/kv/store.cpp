#include "kv/store.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <set>

#include "base/hash.h"

namespace ds4::kv {
namespace {

using Kind = Section::Kind;

// Reads a section and believes it.
std::vector<std::byte> read_section(const PosixFile& file, const Section& section) {
    std::vector<std::byte> bytes(section.bytes);
    file.read_at(section.offset, bytes);
    if (xxh3(bytes) != section.checksum) {
        throw KvError("the checksum of section " + std::to_string(static_cast<int>(section.kind)) +
                      " is wrong");
    }
    return bytes;
}

void add_tool_map(const PosixFile& file, const FileHeader& h, std::vector<ToolMapEntry>& all) {
    if (h.tool_map_bytes == 0) return;
    std::vector<std::byte> map(h.tool_map_bytes);
    file.read_at(h.file_bytes() - h.tool_map_bytes, map);
    if (xxh3(map) != h.tool_map_checksum) throw KvError("the checksum of its tool map is wrong");
    auto entries = decode_tool_map({reinterpret_cast<const char*>(map.data()), map.size()});
    std::move(entries.begin(), entries.end(), std::back_inserter(all));
}

template <class T>
std::vector<T> values_of(std::span<const std::byte> bytes) {
    std::vector<T> values(bytes.size() / sizeof(T));
    std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
    return values;
}

}  // namespace

Store::Store(StoreOptions options, Engine& engine)
    : options_(std::move(options)),
      engine_(engine),
      directory_({options_.directory, options_.max_bytes, options_.now, options_.log}) {
    try {
        directory_.shrink_to_budget();
    } catch (const IoError& error) {
        options_.log(std::string(error.what()) + "; checkpoints will be read, not written");
    }
}

bool Store::is_usable(const FileHeader& header) const {
    return header.fingerprint == engine_.kv_fingerprint() && header.n_tokens >= options_.min_tokens &&
           header.n_context <= options_.context &&
           (!options_.rejects_other_quant || header.quant_bits == options_.quant_bits);
}

// ---- reading ----

std::vector<Store::Found> Store::find(const Key& prompt) {
    const std::lock_guard lock(mutex_);
    try {
        directory_.refresh();
    } catch (const IoError& error) {
        options_.log(error.what());
        return {};
    }
    std::set<std::uint64_t> lengths;
    for (const auto& [name, entry] : directory_.entries()) {
        if (entry.header.key_bytes <= prompt.text.size() && is_usable(entry.header)) {
            lengths.insert(entry.header.key_bytes);
        }
    }
    // One pass over the text for all lengths, with and without the salt.
    std::vector<Found> found;
    Sha1 plain, salted;
    salted.update(std::string_view("\1"));
    std::size_t done = 0;
    for (const std::uint64_t length : lengths) {
        const auto more = std::string_view(prompt.text).substr(done, length - done);
        plain.update(more);
        salted.update(more);
        done = length;
        const bool is_salted = prompt.is_salted(length);
        const std::string name = (is_salted ? salted : plain).hex();
        const auto entry = directory_.entries().find(name);
        if (entry == directory_.entries().end()) continue;
        const FileHeader& h = entry->second.header;
        if (h.key_bytes != length || h.is_salted != is_salted || !is_usable(h)) continue;
        found.push_back({name, h.n_tokens, length, h.key_kind});
    }
    std::reverse(found.begin(), found.end());
    return found;
}

// Names from the first file to this one. Throws KvError: one is missing.
std::vector<std::string> Store::chain_of(const std::string& name) const {
    std::vector<std::string> chain;
    std::uint32_t n_tokens = ~0U;
    for (std::string at = name; !at.empty();) {
        const auto entry = directory_.entries().find(at);
        if (entry == directory_.entries().end()) throw KvError("its beginning " + at + " is missing");
        if (directory_.lacks_beginning(entry->second)) {
            throw KvError("its beginning " + entry->second.header.parent +
                          " is missing, or another one has its name");
        }
        // Ever shorter, so that no ring of files can be followed for ever.
        if (entry->second.header.n_tokens >= n_tokens) throw KvError("its beginning is longer than itself");
        n_tokens = entry->second.header.n_tokens;
        chain.push_back(at);
        at = entry->second.header.parent;
    }
    std::reverse(chain.begin(), chain.end());
    return chain;
}

struct Store::Loading {
    std::string last;  // name of the last piece
    std::unique_ptr<CheckpointLoader> loader;
    std::string key;  // so far
    Loaded loaded;
};

void Store::load_piece(const std::string& name, Loading& loading) const {
    const auto file = PosixFile::open_existing(directory_.path_of(name), O_RDONLY);
    if (!file) throw KvError("has vanished");
    const std::uint64_t file_bytes = file->size();
    std::vector<std::byte> bytes(std::min<std::uint64_t>(file_bytes, kEnvelopeBytes));
    file->read_at(0, bytes);
    bytes.resize(header_bytes_wanted(bytes, file_bytes));
    file->read_at(0, bytes);
    const FileHeader h = decode_header(bytes, file_bytes);
    if (h.fingerprint != engine_.kv_fingerprint()) throw KvError("is another model's");
    CheckpointLoader& loader = *loading.loader;
    const std::int64_t n_more = std::int64_t{h.n_tokens} - loader.n_tokens();
    if (loader.n_tokens() != h.n_parent_tokens || h.parent_key_bytes > loading.key.size() ||
        h.section(Kind::rows).bytes != loader.rows_bytes(n_more) ||
        h.section(Kind::state).bytes != loader.state_bytes(n_more) ||
        h.section(Kind::logits).bytes != static_cast<std::uint64_t>(engine_.info().vocab) * sizeof(float)) {
        throw KvError("does not go on where its beginning ends");
    }
    loading.key.replace(h.parent_key_bytes, std::string::npos, h.text);
    const auto tokens = values_of<TokenId>(read_section(*file, h.section(Kind::tokens)));
    loader.add(tokens, read_section(*file, h.section(Kind::rows)));
    add_tool_map(*file, h, loading.loaded.tool_map);
    if (name != loading.last) return;
    // A file that has got another one's name is whole, and would answer another prompt.
    if (key_name(loading.key, h.is_salted) != name) throw KvError("is not what its name says");
    const auto state = read_section(*file, h.section(Kind::state));
    const auto logits = values_of<float>(read_section(*file, h.section(Kind::logits)));
    CheckpointPtr checkpoint = loader.finish(state, logits);
    if (tokens_sha1(checkpoint->tokens()) != h.tokens_sha1)
        throw KvError("is of other tokens than its beginning");
    loading.loaded.points.push_back(std::move(checkpoint));
}

std::optional<Store::Loaded> Store::load(const Found& found) {
    std::vector<std::string> chain;
    std::string at = found.name;
    {
        const std::lock_guard lock(mutex_);
        try {
            chain = chain_of(found.name);
        } catch (const KvError& why) {
            directory_.set_aside(found.name, why.what());
            return std::nullopt;
        }
        directory_.pinned.insert(chain.begin(), chain.end());
    }
    std::string why;
    bool is_lost = false;
    Loading loading{found.name, engine_.load_checkpoint(), {}, {}};
    try {
        for (const std::string& name : chain) {
            at = name;
            load_piece(name, loading);
        }
    } catch (const DeviceError& error) {  // the file is not to blame
        is_lost = true;
        options_.log(directory_.path_of(at).string() + ": cannot be loaded now: " + error.what());
    } catch (const Error& error) {
        why = error.what();
    } catch (const std::exception& error) {  // no memory; the file may be fine
        is_lost = true;
        options_.log(directory_.path_of(at).string() + ": cannot be loaded now: " + error.what());
    }
    const std::lock_guard lock(mutex_);
    for (const std::string& name : chain) directory_.pinned.erase(directory_.pinned.find(name));
    if (!why.empty()) {
        directory_.set_aside(at, why);
        return std::nullopt;
    }
    if (is_lost) return std::nullopt;
    directory_.count_hit(found.name);
    return std::move(loading.loaded);
}

std::vector<ToolMapEntry> Store::tool_maps() {
    const std::lock_guard lock(mutex_);
    std::vector<ToolMapEntry> all;
    for (const auto& [name, entry] : directory_.entries()) {
        if (entry.header.tool_map_bytes == 0 || !is_usable(entry.header)) continue;
        try {
            const auto file = PosixFile::open_existing(directory_.path_of(name), O_RDONLY);
            if (file) add_tool_map(*file, entry.header, all);
        } catch (const std::exception& error) {
            options_.log(directory_.path_of(name).string() + ": its tool map is not used: " + error.what());
        }
    }
    return all;
}

void Store::reject(const Found& found, const std::string& why) {
    const std::lock_guard lock(mutex_);
    directory_.set_aside(found.name, why);
}

// ---- writing ----

bool Store::is_whole(const std::string& name) const {
    try {
        chain_of(name);
        return true;
    } catch (const KvError&) {
        return false;
    }
}

// A file that lacks its beginning is in the way of its successor.
bool Store::is_known(const std::string& name) {
    const auto known = directory_.entries().find(name);
    if (known == directory_.entries().end() || !is_usable(known->second.header)) return false;
    try {
        chain_of(name);
        return true;
    } catch (const KvError& why) {
        directory_.set_aside(name, why.what());
        return false;
    }
}

const Directory::Entry* Store::find_parent(std::span<const TokenId> tokens, std::string& name) const {
    std::multimap<std::uint32_t, const std::string*> by_length;
    for (const auto& [key, entry] : directory_.entries()) {
        if (entry.header.n_tokens < tokens.size() && entry.header.fingerprint == engine_.kv_fingerprint()) {
            by_length.emplace(entry.header.n_tokens, &key);
        }
    }
    std::vector<const std::string*> beginnings;
    Sha1 sha1;
    std::size_t done = 0;
    for (const auto& [length, candidate] : by_length) {
        sha1.update(std::as_bytes(tokens.subspan(done, length - done)));
        done = length;
        if (directory_.entries().at(*candidate).header.tokens_sha1 == sha1.hex())
            beginnings.push_back(candidate);
    }
    const auto longest = std::find_if(beginnings.rbegin(), beginnings.rend(),
                                      [this](const std::string* candidate) { return is_whole(*candidate); });
    if (longest == beginnings.rend()) return nullptr;
    name = **longest;
    return &directory_.entries().at(name);
}

FileHeader Store::make_header(const Save& save, const Key& key, std::span<const TokenId> tokens) {
    FileHeader h;
    h.quant_bits = options_.quant_bits;
    h.reason = save.reason;
    h.key_kind = save.kind;
    h.is_salted = key.is_salted(key.text.size());
    h.n_tokens = static_cast<std::uint32_t>(tokens.size());
    h.n_context = static_cast<std::uint32_t>(options_.context);
    h.created = h.last_used = options_.now();
    h.fingerprint = engine_.kv_fingerprint();
    h.tokens_sha1 = tokens_sha1(tokens);
    h.key_bytes = key.text.size();
    std::string name;
    if (const Directory::Entry* parent = find_parent(tokens, name)) {
        const FileHeader& of = parent->header;
        h.parent = name;
        h.parent_tokens_sha1 = of.tokens_sha1;
        h.n_parent_tokens = of.n_tokens;
        // Both are the bytes of tokens, so one begins with the other.
        if (save.kind == KeyKind::tokens && of.key_kind == KeyKind::tokens) h.parent_key_bytes = of.key_bytes;
    }
    h.text = key.text.substr(h.parent_key_bytes);
    const Checkpoint& c = *save.checkpoint;
    const std::uint64_t sizes[] = {(tokens.size() - h.n_parent_tokens) * sizeof(TokenId),
                                   c.rows_bytes(h.n_parent_tokens), c.state().size(),
                                   c.logits().size_bytes()};
    lay_out(h, sizes);
    return h;
}

void Store::write(const Save& save, FileHeader& h, const std::string& tool_map,
                  Directory::Reserved& reserved) {
    const PosixFile& file = reserved.file();
    const auto put = [&](Kind kind, std::span<const std::byte> bytes) {
        Section& section = h.sections[static_cast<std::size_t>(kind) - 1];
        section.checksum = xxh3(bytes);
        file.write_at(section.offset, bytes);
    };
    const std::vector<TokenId> tokens = save.checkpoint->tokens(h.n_parent_tokens);
    put(Kind::tokens, std::as_bytes(std::span(tokens)));
    std::vector<std::byte> rows(h.section(Kind::rows).bytes);
    save.checkpoint->read_rows(h.n_parent_tokens, rows);
    put(Kind::rows, rows);
    put(Kind::state, save.checkpoint->state());
    put(Kind::logits, std::as_bytes(save.checkpoint->logits()));
    file.write_at(h.file_bytes() - tool_map.size(), std::as_bytes(std::span(tool_map)));
    const std::string encoded = encode_header(h);
    file.write_at(0, std::as_bytes(std::span(encoded)));
}

Store::Saved Store::try_save(const Save& save) {
    const std::vector<TokenId> tokens = save.checkpoint->tokens();
    const Key key = save.key();
    const std::string name = key_name(key.text, key.is_salted(key.text.size()));
    FileHeader header;
    std::string tool_map;
    std::optional<Directory::Reserved> file;
    {
        const std::lock_guard lock(mutex_);
        directory_.refresh();
        if (is_known(name)) {
            directory_.set_used(name);
            return Saved::known;
        }
        if (directory_.is_foreign(name)) {
            options_.log(directory_.path_of(name).string() +
                         ": is not ours, so a checkpoint that would have this name is not written");
            return Saved::taken;
        }
        header = make_header(save, key, tokens);
        if (save.tool_map) tool_map = encode_tool_map(save.tool_map(header.text));
        header.tool_map_bytes = tool_map.size();
        header.tool_map_checksum = tool_map.empty() ? 0 : xxh3(std::as_bytes(std::span(tool_map)));
        auto reserved = directory_.reserve(header, name);
        if (!reserved) {
            options_.log("a checkpoint of " + std::to_string(tokens.size()) + " tokens (" +
                         std::to_string(header.file_bytes()) + " bytes) finds no room in " +
                         options_.directory.string() + "; raise --kv-disk-space-mb");
            return Saved::no_room;
        }
        file.emplace(std::move(*reserved));
    }
    file->file().reserve(header.file_bytes());
    write(save, header, tool_map, *file);
    file->commit();
    const std::lock_guard lock(mutex_);
    ++totals_.n_written;
    totals_.bytes_written += header.file_bytes();
    directory_.refresh();
    return Saved::written;
}

Store::Saved Store::save(const Save& save) {
    try {
        return try_save(save);
    } catch (const std::exception& error) {
        options_.log(std::string("a checkpoint was not written: ") + error.what());
        return Saved::failed;
    }
}

Store::Totals Store::totals() const {
    const std::lock_guard lock(mutex_);
    Totals totals = totals_;
    totals.n_files = directory_.entries().size();
    totals.n_bytes = directory_.total_bytes();
    return totals;
}

}  // namespace ds4::kv
