#include "kv/random_operations.h"

#include <algorithm>

namespace ds4::test {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kBudget = 600'000;
constexpr std::size_t kMaxSessions = 5;
constexpr std::size_t kMaxPast = 40;
constexpr std::size_t kMaxTokens = 200;
// Conversations part at multiples of this, so that many begin alike and the oracle meets them again.
constexpr std::size_t kParting = 8;
constexpr std::size_t kRowsOfAStep = 64;
constexpr int kBlock = 250;

// Not by a flaw in its first bytes, which make it somebody else's file that has our kind of name.
bool looks_like_a_checkpoint(const fs::path& path) {
    char magic[4] = {};
    std::ifstream(path, std::ios::binary).read(magic, sizeof magic);
    return std::string_view(magic, sizeof magic) == std::string_view("KVC\1", 4);
}

bool is_beginning(std::span<const TokenId> start, std::span<const TokenId> of) {
    return start.size() <= of.size() && std::equal(start.begin(), start.end(), of.begin());
}

}  // namespace

void RandomOperations::open_stores() {
    kv::StoreOptions o = options();
    o.max_bytes = kBudget;
    for (auto& store : stores_) {
        store.reset();
        store = std::make_unique<kv::Store>(o, engine());
    }
}

void RandomOperations::run(int n_operations, unsigned seed) {
    random_.seed(seed);
    allowed_bytes_ = kBudget;
    open_stores();
    for (int i = 0; i < n_operations; ++i) {
        SCOPED_TRACE("operation " + std::to_string(i) + " of seed " + std::to_string(seed));
        // Every other time all is in order, so that hits can be asked for.
        if (i % kBlock == 0) {
            is_calm_ = i / kBlock % 2 == 0;
            fs::remove_all(directory.path() / "kv");
            is_tampered_ = false;
            allowed_bytes_ = kBudget;
            open_stores();
        }
        operate();
        check_budget();
        if (HasFailure()) return;
    }
    RecordProperty("loaded", counts_.hits);
    // All of it has happened, and often.
    EXPECT_GT(counts_.hits, n_operations / 20);
    EXPECT_GT(counts_.misses, n_operations / 50);
    EXPECT_GT(counts_.refused, n_operations / 500);
    EXPECT_GT(counts_.written, n_operations / 10);
    EXPECT_FALSE(log.empty());
}

void RandomOperations::operate() {
    const std::size_t what = below(100);
    if (sessions_.empty() || what < 25) return prompt();
    if (what < 45) return extend();
    if (what < 55) return fork();
    if (what < 65) return rewind();
    if (what < 80) return save(false);
    if (what < 92) return save(true);
    if (what < 94) return restart();
    if (what < 96) {
        clock += below(2) == 0 ? below(100'000) : -below(100'000);
        return;
    }
    if (!is_calm_) corrupt();
}

std::vector<TokenId> RandomOperations::more_tokens(std::size_t position, std::size_t n) {
    std::vector<TokenId> tokens;
    for (std::size_t at = position; at < position + n; ++at) {
        const bool parts = at % kParting == 0 && chance(20);
        tokens.push_back(parts ? static_cast<TokenId>(2 + below(2)) : ids[at % ids.size()]);
    }
    return tokens;
}

std::vector<TokenId> RandomOperations::conversation() {
    std::vector<TokenId> tokens;
    if (!past_.empty() && chance(80)) {
        tokens = past_[below(past_.size())];
        if (chance(50)) tokens.resize(1 + below(tokens.size()));
    } else {
        const std::size_t n = 1 + below(chance(20) ? 140 : 30);
        tokens.assign(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(n));
    }
    const auto more = more_tokens(tokens.size(), 1 + below(20));
    tokens.insert(tokens.end(), more.begin(), more.end());
    if (tokens.size() > kMaxTokens) tokens.resize(kMaxTokens);
    return tokens;
}

void RandomOperations::check(const Session& session) {
    if (session.n_tokens() == 0) {
        EXPECT_TRUE(session.logits().empty());
        return;
    }
    EXPECT_EQ(Oracle::digest(session.logits()), oracle_.after(session.tokens()))
        << session.n_tokens() << " tokens";
}

void RandomOperations::append(Session& session, std::span<const TokenId> tokens) {
    while (!tokens.empty()) {
        const std::size_t n = std::min(tokens.size(), chance(30) ? 1 : 1 + below(50));
        session.append(tokens.first(n));
        tokens = tokens.subspan(n);
    }
}

void RandomOperations::add(std::unique_ptr<Session> session) {
    past_.emplace_back(session->tokens().begin(), session->tokens().end());
    if (past_.size() > kMaxPast) past_.erase(past_.begin());
    if (sessions_.size() == kMaxSessions) sessions_.erase(sessions_.begin());
    sessions_.push_back(std::move(session));
}

// ---- operations ----

std::unique_ptr<Session> RandomOperations::from_disk(std::span<const TokenId> tokens) {
    kv::Store& store = any_store();
    for (const kv::Store::Found& found : store.find(key_of(tokens))) {
        const auto loaded = store.load(found);
        if (!loaded) {
            ++counts_.refused;
            EXPECT_TRUE(is_tampered_) << (log.empty() ? "" : log.back());
            continue;
        }
        ++counts_.hits;
        EXPECT_TRUE(is_beginning(loaded->points.back()->tokens(), tokens));
        auto session = engine().resume(loaded->points);
        EXPECT_EQ(session->n_tokens(), found.n_tokens);
        check(*session);
        return session;
    }
    ++counts_.misses;
    return engine().new_session();
}

// From the disk, from a point in memory, or anew.
std::unique_ptr<Session> RandomOperations::begin(std::span<const TokenId> tokens) {
    if (chance(70)) return from_disk(tokens);
    for (const auto& session : sessions_) {
        const auto points = session->points();
        for (std::size_t n = points.size(); n > 0; --n) {
            if (is_beginning(points[n - 1]->tokens(), tokens)) return engine().resume(points.first(n));
        }
    }
    return engine().new_session();
}

void RandomOperations::prompt() {
    const std::vector<TokenId> tokens = conversation();
    auto session = begin(tokens);
    append(*session, std::span(tokens).subspan(static_cast<std::size_t>(session->n_tokens())));
    check(*session);
    add(std::move(session));
}

// Several sessions in one step.
void RandomOperations::extend() {
    std::vector<std::vector<TokenId>> tokens;
    std::vector<Engine::Work> work;
    std::size_t room = kRowsOfAStep;
    tokens.reserve(sessions_.size());
    for (const auto& session : sessions_) {
        const auto position = static_cast<std::size_t>(session->n_tokens());
        if (chance(30) || position >= kMaxTokens || room == 0) continue;
        const std::size_t n = std::min(room, chance(60) ? 1 : 1 + below(20));
        room -= n;
        tokens.push_back(more_tokens(position, n));
        work.push_back({session.get(), tokens.back()});
    }
    engine().step(work);
    for (const Engine::Work& w : work) check(*w.session);
}

void RandomOperations::fork() {
    Session& trunk = *any_session();
    trunk.mark();
    const auto points = trunk.points();
    if (points.empty()) return;
    auto session = engine().resume(points.first(1 + below(points.size())));
    check(*session);
    append(*session, more_tokens(static_cast<std::size_t>(session->n_tokens()), 1 + below(10)));
    check(*session);
    check(trunk);
    add(std::move(session));
}

void RandomOperations::rewind() {
    Session& session = *any_session();
    const std::vector<TokenId> before(session.tokens().begin(), session.tokens().end());
    const auto n = static_cast<std::int64_t>(below(before.size() + 1));
    if (chance(50)) {
        session.truncate(n);
        EXPECT_EQ(session.n_tokens(), n);
    } else {
        const std::int64_t kept = session.rewind(n);
        EXPECT_EQ(session.n_tokens(), kept);
        EXPECT_LE(kept, n);
    }
    EXPECT_TRUE(is_beginning(session.tokens(), before));
    check(session);
}

// Whatever had to go, nobody has lost what he goes on from.
void RandomOperations::check_beginnings() {
    const kv::Directory all({directory.path() / "kv", kBudget, [this] { return clock; },
                             [](const std::string& line) { ADD_FAILURE() << line; }});
    for (const auto& [name, entry] : all.entries()) {
        const std::string& parent = entry.header.parent;
        EXPECT_TRUE(parent.empty() || all.entries().contains(parent)) << name;
    }
}

// goes: and leaves memory.
void RandomOperations::save(bool goes) {
    auto& session = any_session();
    if (session->n_tokens() < 8) return;
    const auto save = save_of(session->mark(), goes ? kv::Reason::evict : kv::Reason::continued);
    kv::Store& store = any_store();
    const kv::Store::Saved saved = store.save(save);
    if (saved == kv::Store::Saved::written) {
        ++counts_.written;
        allowed_bytes_ = kBudget;
    }
    if (saved == kv::Store::Saved::no_room) ++counts_.no_room;
    if (!is_tampered_) {
        EXPECT_TRUE(saved == kv::Store::Saved::written || saved == kv::Store::Saved::known ||
                    saved == kv::Store::Saved::no_room);
        const auto found = any_store().find(key_of(session->tokens()));
        const bool is_there = !found.empty() && found.front().n_tokens == session->n_tokens();
        EXPECT_EQ(is_there, saved != kv::Store::Saved::no_room);
        check_beginnings();
    }
    if (goes) std::erase(sessions_, session);
}

void RandomOperations::restart() {
    if (chance(50)) sessions_.clear();
    open_stores();
}

// ---- what else happens to a directory ----

void RandomOperations::damage(const fs::path& path) {
    std::string bytes = read_file(path);
    switch (below(4)) {
        case 0: {
            char& byte =
                bytes[chance(30) ? below(std::min<std::size_t>(bytes.size(), 600)) : below(bytes.size())];
            byte = static_cast<char>(byte ^ (1 << below(8)));
            break;
        }
        case 1:
            bytes.resize(below(bytes.size()));
            break;
        case 2:
            bytes += std::string(1 + below(5000), 'x');
            break;
        default: {
            const std::size_t at = below(bytes.size());
            std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                        std::min<std::size_t>(512, bytes.size() - at), '\0');
        }
    }
    write_file(path, bytes);
}

void RandomOperations::leave_litter() {
    const std::string name = kv::key_name(std::to_string(below(1000)), false);
    const char* const suffixes[] = {".kv.tmp.1.0", ".bad", ".kv", ".txt"};
    write_file(directory.path() / "kv" / (name + suffixes[below(4)]), std::string(1 + below(20'000), 'x'));
}

void RandomOperations::corrupt() {
    auto all = files();
    if (all.empty()) return;
    std::sort(all.begin(), all.end());
    is_tampered_ = true;
    const fs::path& one = all[below(all.size())];
    const fs::path& other = all[below(all.size())];
    switch (below(6)) {
        case 0:
            fs::remove(one);
            break;
        case 1:
            // Whole, but under another one's name.
            write_file(one, read_file(other));
            break;
        case 2:
            leave_litter();
            break;
        default:
            damage(one);
    }
    allowed_bytes_ = std::max(allowed_bytes_, bytes_on_disk());
}

std::uint64_t RandomOperations::bytes_on_disk() {
    std::uint64_t bytes = 0;
    for (const auto& file : fs::directory_iterator(directory.path() / "kv")) {
        const fs::path suffix = file.path().extension();
        const bool is_other = suffix == ".txt" || (suffix == ".kv" && !looks_like_a_checkpoint(file.path()));
        if (!is_other) bytes += file.file_size();
    }
    return bytes;
}

void RandomOperations::check_budget() {
    const std::uint64_t bytes = bytes_on_disk();
    EXPECT_LE(bytes, allowed_bytes_);
    allowed_bytes_ = std::max(kBudget, bytes);
}

}  // namespace ds4::test
