// What the machine can do to a store: no room on the disk, no right to write or to read, no directory. It
// says so in one line, and whoever computes goes on.
#include <gmock/gmock.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <csignal>

#include "kv/child.h"
#include "kv/stores.h"

namespace ds4::test {
namespace {

namespace fs = std::filesystem;
using kv::Store;

constexpr uid_t kNobody = 65534;

class Failures : public Stores {
  protected:
    fs::path kv_directory() const { return directory.path() / "kv"; }

    // Nothing but whole files and the lock.
    std::string what_is_left_over() {
        for (const auto& file : fs::directory_iterator(kv_directory())) {
            if (file.path().extension() != ".kv" && file.path().filename() != ".lock")
                return file.path().string() + " is left over";
        }
        return "";
    }

    std::string check_loading(Store& store) {
        const auto found = store.find(key_of(ids));
        if (found.empty()) return "nothing is found";
        const auto loaded = store.load(found.front());
        if (!loaded) return "what is there cannot be loaded: " + log.back();
        const CheckpointPtr fresh = session(static_cast<std::size_t>(found.front().n_tokens))->mark();
        return finish(loaded->points.back()) == finish(fresh) ? "" : "it goes on differently";
    }

    // A disk that takes two checkpoints of this session, but not a third.
    std::string fill_the_disk() {
        Store store(options(), engine());
        const auto live = session(40);
        auto saved = Store::Saved::written;
        int n_saved = 0;
        for (; n_saved < 10 && saved == Store::Saved::written; ++n_saved) {
            saved = store.save(save_of(live->mark()));
            live->append(std::span(ids).subspan(static_cast<std::size_t>(live->n_tokens()), 20));
        }
        if (saved != Store::Saved::failed) return "the disk was never full";
        if (n_saved < 2) return "nothing was saved";
        if (log.size() != 1 || log.back().find("No space left on device") == std::string::npos)
            return "the log does not say why";
        if (const std::string left = what_is_left_over(); !left.empty()) return left;
        if (const std::string wrong = check_loading(store); !wrong.empty()) return wrong;
        // As soon as there is room again:
        for (const fs::path& file : files()) fs::remove(file);
        return store.save(save_of(live->mark())) == Store::Saved::written ? "" : "it never recovers";
    }
};

// In a mount namespace of the child's own; where that is not allowed, in a user namespace of its own, too.
bool mount_small_disk(const fs::path& at) {
    if (::unshare(CLONE_NEWNS) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
    return ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
           ::mount("tmpfs", at.c_str(), "tmpfs", 0, "size=200k") == 0;
}

TEST_F(Failures, AFullDisk) {
    fs::create_directory(kv_directory());
    engine();
    in_child([&]() -> std::string {
        // Containers may forbid it; then AFileThatMayNotGrow is what there is.
        if (!mount_small_disk(kv_directory())) {
            std::cerr << "no small disk can be mounted here\n";
            return "";
        }
        return fill_the_disk();
    });
}

TEST_F(Failures, AFileThatMayNotGrow) {
    engine();
    in_child([&]() -> std::string {
        std::signal(SIGXFSZ, SIG_IGN);
        Store store(options(), engine());
        const CheckpointPtr point = session(60)->mark();
        const rlimit small{10'000, RLIM_INFINITY}, none{RLIM_INFINITY, RLIM_INFINITY};
        ::setrlimit(RLIMIT_FSIZE, &small);
        if (store.save(save_of(point)) != Store::Saved::failed) return "it was saved";
        if (log.size() != 1 || log.back().find("File too large") == std::string::npos)
            return "the log does not say why";
        if (const std::string left = what_is_left_over(); !left.empty()) return left;
        ::setrlimit(RLIMIT_FSIZE, &none);
        if (store.save(save_of(point)) != Store::Saved::written) return "it never recovers";
        return check_loading(store);
    });
}

TEST_F(Failures, ADirectoryThatMayOnlyBeRead) {
    Store(options(), engine()).save(save_of(session(60)->mark()));
    const fs::path file = files().front();
    const std::string bytes = read_file(file);
    fs::permissions(directory.path(), fs::perms(0755));
    fs::permissions(file, fs::perms(0444));
    fs::permissions(kv_directory() / ".lock", fs::perms(0444));
    fs::permissions(kv_directory(), fs::perms(0555));
    in_child([&]() -> std::string {
        if (::getuid() == 0 && ::setuid(kNobody) != 0) return "cannot become somebody else";
        Store store(options(), engine());
        if (log.size() != 1 || log.back().find("will be read, not written") == std::string::npos)
            return "the log does not say so";
        if (const std::string wrong = check_loading(store); !wrong.empty()) return wrong;
        if (store.save(save_of(session(90)->mark())) != Store::Saved::failed) return "it was saved";
        return log.size() == 2 ? "" : "not one line for a checkpoint that was not written";
    });
    fs::permissions(kv_directory(), fs::perms(0755));
    EXPECT_EQ(read_file(file), bytes);
}

TEST_F(Failures, AFileThatMayNotBeRead) {
    const auto save = save_of(session(60)->mark());
    Store(options(), engine()).save(save);
    const fs::path file = files().front();
    fs::permissions(directory.path(), fs::perms(0755));
    fs::permissions(kv_directory(), fs::perms(0777));
    fs::permissions(kv_directory() / ".lock", fs::perms(0666));
    fs::permissions(file, fs::perms::none);
    in_child([&]() -> std::string {
        if (::getuid() == 0 && ::setuid(kNobody) != 0) return "cannot become somebody else";
        Store store(options(), engine());
        if (!store.find(key_of(ids)).empty()) return "it was found";
        if (log.size() != 1 || log.back().find("Permission denied; ignored") == std::string::npos)
            return "the log does not say why";
        if (store.save(save) != Store::Saved::taken) return "it was replaced";
        return store.save(save_of(session(90)->mark())) == Store::Saved::written ? "" : "nothing is saved";
    });
    EXPECT_TRUE(fs::exists(file));
}

TEST_F(Failures, ADirectoryThatCannotBe) {
    kv::StoreOptions o = options();
    write_file(directory / "file", "");
    o.directory = directory.path() / "file" / "kv";
    try {
        const Store store(o, engine());
        FAIL() << "must throw";
    } catch (const IoError& error) {
        EXPECT_THAT(error.what(), testing::StartsWith(o.directory.string() + ": cannot create"));
    }
}

TEST_F(Failures, ADirectoryThatVanishes) {
    Store store(options(), engine());
    const auto save = save_of(session(60)->mark());
    EXPECT_EQ(store.save(save), Store::Saved::written);
    const auto found = store.find(key_of(ids));
    fs::remove_all(kv_directory());
    EXPECT_FALSE(store.load(found.front()));
    EXPECT_TRUE(store.find(key_of(ids)).empty());
    EXPECT_EQ(store.save(save), Store::Saved::failed);
    fs::create_directory(kv_directory());
    EXPECT_EQ(store.save(save), Store::Saved::written);
    EXPECT_EQ(check_loading(store), "");
}

}  // namespace
}  // namespace ds4::test
