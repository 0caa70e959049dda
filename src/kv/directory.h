#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "kv/file_format.h"
#include "kv/posix_file.h"

namespace ds4::kv {

// The files of one cache directory: what is there, what may go, and room for what is to come. Several
// processes may share a directory. Not thread-safe.
class Directory {
  public:
    struct Options {
        std::filesystem::path path;
        std::uint64_t max_bytes = 0;
        std::function<std::uint64_t()> now;           // unix seconds
        std::function<void(const std::string&)> log;  // one line
    };
    struct Entry {
        FileHeader header;  // without its text
        std::uint64_t file_bytes = 0;
        std::uint64_t inode = 0;
        std::int64_t changed_ns = 0;  // when the file's status last changed
    };
    // A file being written under a temporary name, of its full length. Gone when destroyed, unless committed.
    class Reserved {
      public:
        Reserved(Reserved&& other) noexcept;
        Reserved& operator=(Reserved&&) = delete;
        Reserved(const Reserved&) = delete;
        Reserved& operator=(const Reserved&) = delete;
        ~Reserved();

        const PosixFile& file() const { return file_; }
        // fsync, rename, fsync of the directory. Throws IoError.
        void commit();

      private:
        friend class Directory;
        Reserved(PosixFile file, std::filesystem::path temporary, std::filesystem::path target);

        PosixFile file_;
        std::filesystem::path temporary_, target_;
    };

    // Makes the directory (0700) if it is missing. Throws IoError.
    explicit Directory(Options options);

    // Looks at the files again: others come and go. Broken ones are set aside, with a log line each.
    void refresh();
    // By name, the SHA-1 of the key.
    const std::map<std::string, Entry>& entries() const { return entries_; }
    std::filesystem::path path_of(const std::string& name) const;
    // There is a file of this name that is not ours to touch: another program's, or unreadable.
    bool is_foreign(const std::string& name) const;
    // The file is of no use: what it goes on from is missing, or is another conversation's or model's by now.
    bool lacks_beginning(const Entry& entry) const;

    // Room for a file with this header, taken from the least valuable files if need be; the parent that the
    // header names stays. nullopt if it does not fit. The header is written already, so that everybody can
    // see who the parent is; the blocks are not taken yet (PosixFile::reserve), which may last. Throws
    // IoError.
    std::optional<Reserved> reserve(const FileHeader& header, const std::string& name);
    // Clears away what a crash left, and the least valuable files until the rest fits. Returns how many of
    // those went. Throws IoError.
    std::size_t shrink_to_budget();

    // Deletes broken files, what a crash left, and files without their beginning. Returns how many. Throws
    // IoError.
    std::size_t collect_garbage();

    // Out of the way of lookups: NAME.bad, which goes first when space is needed. Says why in one line.
    void set_aside(const std::string& name, const std::string& why);
    // One more use, written in place.
    void count_hit(const std::string& name);
    void set_used(const std::string& name);

    // Names that reserve() and shrink_to_budget() must not delete, because they are being read.
    std::multiset<std::string> pinned;

    std::uint64_t total_bytes() const;  // of everything that counts against the budget

  private:
    struct Other {
        std::uint64_t bytes = 0;
        std::string parent;  // of a file being written
    };

    // Only who has the lock may tell a temporary file without a writer from one that is just being made.
    enum class Temporaries { keep, clear };
    void look(Temporaries temporaries);
    PosixFile lock() const;
    void look_at(const std::string& file_name, Temporaries temporaries, std::set<std::string>& seen);
    void look_at_entry(const std::string& name, std::set<std::string>& seen);
    void look_at_temporary(const std::string& file_name, Temporaries temporaries);
    std::optional<FileHeader> read_header(const std::filesystem::path& path);
    // False if nothing may go any more.
    bool delete_least_valuable(const std::string& keep);
    double score(const Entry& entry) const;
    std::set<std::string> parents() const;
    void write_use(const std::string& name, const Entry& entry);

    const Options options_;
    std::map<std::string, Entry> entries_;
    std::map<std::string, Other> temporary_, bad_;  // by file name
    std::map<std::string, std::int64_t> foreign_;   // not ours: name and when it last changed
    std::uint64_t n_reserved_ = 0;
};

}  // namespace ds4::kv
