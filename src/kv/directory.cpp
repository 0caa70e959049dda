#include "kv/directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace ds4::kv {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSuffix = ".kv";
constexpr std::string_view kTemporary = ".kv.tmp.";
constexpr std::string_view kBad = ".bad";
constexpr std::size_t kNameChars = 2 * kDigestBytes;
// The use of a file counts half after this time, api.md 9.5.
constexpr double kHalfLifeSeconds = 6 * 3600;
constexpr double kNegligibleHits = 0.01;

bool is_name(std::string_view text) {
    return text.size() == kNameChars && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

std::string name_of(std::string_view file_name) {
    return std::string(file_name.substr(0, kNameChars));
}

}  // namespace

// ---- Reserved ----

Directory::Reserved::Reserved(PosixFile file, fs::path temporary, fs::path target)
    : file_(std::move(file)), temporary_(std::move(temporary)), target_(std::move(target)) {}

Directory::Reserved::Reserved(Reserved&& other) noexcept
    : file_(std::move(other.file_)),
      temporary_(std::exchange(other.temporary_, {})),
      target_(std::move(other.target_)) {}

Directory::Reserved::~Reserved() {
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void Directory::Reserved::commit() {
    file_.sync();
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
        throw IoError(target_.string() + ": cannot rename: " + std::strerror(errno));
    }
    temporary_.clear();
    sync_directory(target_.parent_path());
}

// ---- Directory ----

Directory::Directory(Options options) : options_(std::move(options)) {
    std::error_code error;
    const bool is_new = fs::create_directories(options_.path, error);
    if (error) throw IoError(options_.path.string() + ": cannot create: " + error.message());
    if (is_new) fs::permissions(options_.path, fs::perms::owner_all, error);
    refresh();
}

fs::path Directory::path_of(const std::string& name) const {
    return options_.path / (name + std::string(kSuffix));
}

bool Directory::is_foreign(const std::string& name) const {
    std::error_code error;
    return foreign_.contains(name) && fs::exists(path_of(name), error);
}

bool Directory::lacks_beginning(const Entry& entry) const {
    const FileHeader& h = entry.header;
    if (h.parent.empty()) return false;
    const auto parent = entries_.find(h.parent);
    return parent == entries_.end() || parent->second.header.tokens_sha1 != h.parent_tokens_sha1 ||
           parent->second.header.fingerprint != h.fingerprint;
}

PosixFile Directory::lock() const {
    PosixFile file = PosixFile::open(options_.path / ".lock", O_RDWR | O_CREAT, 0600);
    file.lock(true);
    return file;
}

// ---- what is there ----

void Directory::refresh() {
    look(Temporaries::keep);
}

void Directory::look(Temporaries temporaries) {
    std::set<std::string> seen;
    temporary_.clear();
    bad_.clear();
    std::error_code error;
    fs::directory_iterator files(options_.path, error);
    for (; !error && files != fs::directory_iterator(); files.increment(error)) {
        look_at(files->path().filename().string(), temporaries, seen);
    }
    if (error) throw IoError(options_.path.string() + ": cannot list: " + error.message());
    std::erase_if(entries_, [&](const auto& entry) { return !seen.contains(entry.first); });
}

void Directory::look_at(const std::string& file_name, Temporaries temporaries, std::set<std::string>& seen) {
    const std::string name = name_of(file_name);
    if (!is_name(name)) return;
    const std::string_view rest = std::string_view(file_name).substr(kNameChars);
    if (rest == kSuffix) {
        look_at_entry(name, seen);
    } else if (rest.starts_with(kTemporary)) {
        look_at_temporary(file_name, temporaries);
    } else if (rest == kBad) {
        std::error_code error;
        const auto bytes = fs::file_size(options_.path / file_name, error);
        if (!error) bad_[file_name] = {bytes, ""};
    }
}

void Directory::look_at_entry(const std::string& name, std::set<std::string>& seen) {
    struct stat status {};
    if (::stat(path_of(name).c_str(), &status) != 0) return;  // gone since
    const auto changed =
        static_cast<std::int64_t>(status.st_ctim.tv_sec) * 1'000'000'000 + status.st_ctim.tv_nsec;
    const auto foreign = foreign_.find(name);
    if (foreign != foreign_.end() && foreign->second == changed) return;
    const auto known = entries_.find(name);
    if (known != entries_.end() && known->second.inode == status.st_ino &&
        known->second.changed_ns == changed) {
        seen.insert(name);
        return;
    }
    try {
        auto header = read_header(path_of(name));
        if (!header) return;
        header->text.clear();
        entries_[name] = {std::move(*header), static_cast<std::uint64_t>(status.st_size), status.st_ino,
                          changed};
        seen.insert(name);
    } catch (const ForeignFile& why) {
        foreign_[name] = changed;
        options_.log(path_of(name).string() + ": " + why.what() + "; ignored");
    } catch (const KvError& why) {
        set_aside(name, why.what());
    } catch (const IoError& why) {
        foreign_[name] = changed;
        options_.log(std::string(why.what()) + "; ignored");
    }
}

// nullopt if the file has vanished.
std::optional<FileHeader> Directory::read_header(const fs::path& path) {
    const auto file = PosixFile::open_existing(path, O_RDONLY);
    if (!file) return std::nullopt;
    const std::uint64_t file_bytes = file->size();
    if (file_bytes < kEnvelopeBytes) throw KvError("is cut short");
    std::vector<std::byte> bytes(kEnvelopeBytes);
    file->read_at(0, bytes);
    bytes.resize(header_bytes_wanted(bytes, file_bytes));
    file->read_at(0, bytes);
    return decode_header(bytes, file_bytes);
}

// Its writer holds a lock on it for as long as it lives.
void Directory::look_at_temporary(const std::string& file_name, Temporaries temporaries) {
    const fs::path path = options_.path / file_name;
    try {
        const auto file = PosixFile::open_existing(path, O_RDWR);
        if (!file) return;
        if (temporaries == Temporaries::clear && file->lock(false)) {
            ::unlink(path.c_str());
            return;
        }
        Other& other = temporary_[file_name];
        other.bytes = file->size();
        if (auto header = read_header(path)) other.parent = header->parent;
    } catch (const Error&) {
        // Somebody else's, or not written far enough to have a parent.
    }
}

std::uint64_t Directory::total_bytes() const {
    std::uint64_t total = 0;
    for (const auto& [name, entry] : entries_) total += entry.file_bytes;
    for (const auto* others : {&temporary_, &bad_}) {
        for (const auto& [name, other] : *others) total += other.bytes;
    }
    return total;
}

// ---- what may go ----

std::set<std::string> Directory::parents() const {
    std::set<std::string> parents;
    for (const auto& [name, entry] : entries_) parents.insert(entry.header.parent);
    for (const auto& [name, other] : temporary_) parents.insert(other.parent);
    return parents;
}

// api.md 9.5. That a longer checkpoint supersedes one does not lower its worth here: it is the longer one's
// parent, and stays.
double Directory::score(const Entry& entry) const {
    const std::uint64_t used = std::max(entry.header.last_used, entry.header.created);
    const std::uint64_t now = options_.now();
    const double age = now > used ? static_cast<double>(now - used) : 0;  // clocks go backwards, too
    double hits = entry.header.hits * std::exp2(-age / kHalfLifeSeconds);
    if (hits < kNegligibleHits) hits = 0;
    const double rate =
        (hits + 1) * static_cast<double>(entry.header.n_tokens) / static_cast<double>(entry.file_bytes);
    return entry.header.reason == Reason::continued || entry.header.reason == Reason::unknown ? rate
                                                                                              : 2 * rate;
}

bool Directory::delete_least_valuable(const std::string& keep) {
    if (!bad_.empty()) {
        ::unlink((options_.path / bad_.begin()->first).c_str());
        bad_.erase(bad_.begin());
        return true;
    }
    const std::set<std::string> needed = parents();
    const std::string* least = nullptr;
    std::pair<double, std::uint64_t> least_worth;
    for (const auto& [name, entry] : entries_) {
        if (name == keep || needed.contains(name) || pinned.contains(name)) continue;
        const std::pair worth(lacks_beginning(entry) ? -1.0 : score(entry), entry.header.last_used);
        if (least != nullptr && worth >= least_worth) continue;
        least = &name;
        least_worth = worth;
    }
    if (least == nullptr) return false;
    const std::string name = *least;
    if (::unlink(path_of(name).c_str()) != 0 && errno != ENOENT) {
        throw IoError(path_of(name).string() + ": cannot delete: " + std::strerror(errno));
    }
    entries_.erase(name);
    return true;
}

std::size_t Directory::shrink_to_budget() {
    const PosixFile locked = lock();
    look(Temporaries::clear);
    std::size_t n = 0;
    while (total_bytes() > options_.max_bytes && delete_least_valuable("")) ++n;
    return n;
}

std::size_t Directory::collect_garbage() {
    const PosixFile locked = lock();
    refresh();
    const std::size_t n_before = entries_.size() + bad_.size() + temporary_.size();
    look(Temporaries::clear);
    while (!bad_.empty()) delete_least_valuable("");
    const auto is_orphan = [&](const auto& entry) { return lacks_beginning(entry.second); };
    for (auto orphan = entries_.begin(); orphan != entries_.end();) {
        orphan = std::find_if(entries_.begin(), entries_.end(), is_orphan);
        if (orphan == entries_.end()) break;
        ::unlink(path_of(orphan->first).c_str());
        orphan = entries_.erase(orphan);
    }
    return n_before - (entries_.size() + bad_.size() + temporary_.size());
}

std::optional<Directory::Reserved> Directory::reserve(const FileHeader& header, const std::string& name) {
    const std::uint64_t bytes = header.file_bytes();
    if (bytes > options_.max_bytes) return std::nullopt;
    const PosixFile locked = lock();
    look(Temporaries::clear);
    if (!header.parent.empty() && !entries_.contains(header.parent)) return std::nullopt;  // gone since
    while (total_bytes() > options_.max_bytes - bytes) {
        if (!delete_least_valuable(header.parent)) return std::nullopt;
    }
    const fs::path temporary = options_.path / (name + std::string(kTemporary) + std::to_string(::getpid()) +
                                                '.' + std::to_string(n_reserved_++));
    ::unlink(temporary.c_str());  // of a process long gone that had our number
    Reserved reserved(PosixFile::open(temporary, O_RDWR | O_CREAT | O_EXCL, 0600), temporary, path_of(name));
    reserved.file().lock(true);
    reserved.file().resize(bytes);
    const std::string encoded = encode_header(header);
    reserved.file().write_at(0, std::as_bytes(std::span(encoded)));
    return reserved;
}

// ---- single files ----

void Directory::set_aside(const std::string& name, const std::string& why) {
    entries_.erase(name);
    const fs::path path = path_of(name);
    const fs::path aside = options_.path / (name + std::string(kBad));
    struct stat status {};
    if (::rename(path.c_str(), aside.c_str()) == 0) {
        options_.log(path.string() + ": " + why + "; set aside as " + aside.filename().string());
    } else if (errno != ENOENT) {
        options_.log(path.string() + ": " + why + "; ignored");
        if (::stat(path.c_str(), &status) == 0) {
            foreign_[name] =
                static_cast<std::int64_t>(status.st_ctim.tv_sec) * 1'000'000'000 + status.st_ctim.tv_nsec;
        }
    } else {
        options_.log(path.string() + ": " + why);
    }
}

void Directory::write_use(const std::string& name, const Entry& entry) {
    try {
        const auto file = PosixFile::open_existing(path_of(name), O_RDWR);
        if (!file) return;
        file->write_at(kHitsOffset, std::as_bytes(std::span(&entry.header.hits, 1)));
        file->write_at(kLastUsedOffset, std::as_bytes(std::span(&entry.header.last_used, 1)));
    } catch (const IoError&) {
        // A directory that may only be read serves, too; its files just do not grow in worth.
    }
}

void Directory::count_hit(const std::string& name) {
    const auto entry = entries_.find(name);
    if (entry == entries_.end()) return;
    ++entry->second.header.hits;
    set_used(name);
}

void Directory::set_used(const std::string& name) {
    const auto entry = entries_.find(name);
    if (entry == entries_.end()) return;
    entry->second.header.last_used = options_.now();
    write_use(name, entry->second);
}

}  // namespace ds4::kv
