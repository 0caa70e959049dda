#include "kv/crash.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <random>
#include <thread>

#include "kv/verify.h"

namespace ds4::test {

namespace fs = std::filesystem;

kv::StoreOptions Crashes::small_budget() {
    kv::StoreOptions o = options();
    o.max_bytes = 600'000;
    return o;
}

// Conversations that begin alike and part at random places.
void Crashes::save_for_ever(unsigned seed, int tell) {
    std::mt19937 random(seed);
    kv::Store store(small_budget(), engine());
    while (true) {
        auto s = engine().new_session();
        std::vector<TokenId> tokens(ids.begin(), ids.end());
        for (std::size_t i = random() % 120; i < tokens.size(); ++i) {
            if (random() % 8 == 0) tokens[i] = static_cast<TokenId>(random() % 300);
        }
        while (s->n_tokens() < 200) {
            const std::size_t n = 1 + random() % 60;
            s->append(std::span(tokens).subspan(static_cast<std::size_t>(s->n_tokens()), n));
            if (s->n_tokens() < 8) continue;
            store.save(save_of(s->mark()));
            if (tell >= 0 && ::write(tell, "x", 1) == 1) tell = -1;  // once
        }
    }
}

pid_t Crashes::start_saving(unsigned seed) {
    engine();  // loaded once, here, and not in every child
    int pipe[2];
    EXPECT_EQ(::pipe2(pipe, O_CLOEXEC | O_NONBLOCK), 0);
    const pid_t child = ::fork();
    if (child == 0) save_for_ever(seed, pipe[1]);
    ::close(pipe[1]);
    pollfd saved{pipe[0], POLLIN, 0};
    EXPECT_EQ(::poll(&saved, 1, -1), 1);
    ::close(pipe[0]);
    return child;
}

std::uint64_t Crashes::bytes_on_disk() const {
    std::uint64_t total = 0;
    for (const auto& file : fs::directory_iterator(directory.path() / "kv")) total += file.file_size();
    return total;
}

// Only names that the store gives; all of them whole, within the budget, and with their beginnings.
void Crashes::check_directory() {
    EXPECT_LE(bytes_on_disk(), small_budget().max_bytes);
    kv::Store store(small_budget(), engine());
    EXPECT_TRUE(files(".bad").empty());
    kv::Directory left({directory.path() / "kv", ~std::uint64_t{0}, [] { return std::uint64_t{0}; },
                        [](const std::string& line) { ADD_FAILURE() << line; }});
    for (const auto& [name, entry] : left.entries()) {
        ASSERT_NO_THROW(kv::verify_chain(left, name)) << name;
    }
    for (const auto& file : fs::directory_iterator(directory.path() / "kv")) {
        EXPECT_TRUE(file.path().extension() == ".kv" || file.path().filename() == ".lock") << file.path();
    }
    check_sessions(store, left);
}

void Crashes::check_sessions(kv::Store& store, const kv::Directory& left) {
    const std::vector<TokenId> more(ids.begin(), ids.begin() + 5);
    std::map<std::string, std::uint64_t> checked;
    for (const auto& [name, entry] : left.entries()) {
        checked[name] = entry.inode;
        const auto known = checked_.find(name);
        if (known != checked_.end() && known->second == entry.inode) continue;
        std::vector<TokenId> tokens = kv::verify_chain(left, name).tokens;
        const auto found = store.find(key_of(tokens));
        ASSERT_FALSE(found.empty());
        const auto loaded = store.load(found.front());
        ASSERT_TRUE(loaded);
        const auto resumed = engine().resume(loaded->points);
        EXPECT_EQ(Oracle::digest(resumed->logits()), oracle_.after(tokens));
        resumed->append(more);
        tokens.insert(tokens.end(), more.begin(), more.end());
        EXPECT_EQ(Oracle::digest(resumed->logits()), oracle_.after(tokens));
        ++n_checked_;
    }
    checked_ = std::move(checked);
}

void Crashes::kill_while_saving(int n_kills) {
    std::mt19937 random(4);
    for (int i = 0; i < n_kills; ++i) {
        const pid_t child = start_saving(static_cast<unsigned>(i));
        ASSERT_GE(child, 0);
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 60'000));
        ::kill(child, SIGKILL);
        ASSERT_EQ(::waitpid(child, nullptr, 0), child);
        if (!fs::exists(directory.path() / "kv")) continue;
        check_directory();
        if (HasFatalFailure()) return;
    }
    EXPECT_GT(n_checked_, n_kills / 4);
}

void Crashes::stop_two_while_saving(int n_stops) {
    std::mt19937 random(5);
    const pid_t children[] = {start_saving(1001), start_saving(1002)};
    for (const pid_t child : children) ASSERT_GE(child, 0);
    std::uint64_t most = 0;
    for (int i = 0; i < n_stops; ++i) {
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 10'000));
        for (const pid_t child : children) {
            ::kill(child, SIGSTOP);
            int status = 0;
            ASSERT_EQ(::waitpid(child, &status, WUNTRACED), child);
            ASSERT_TRUE(WIFSTOPPED(status));
        }
        if (fs::exists(directory.path() / "kv")) most = std::max(most, bytes_on_disk());
        for (const pid_t child : children) ::kill(child, SIGCONT);
    }
    for (const pid_t child : children) {
        ::kill(child, SIGKILL);
        ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    }
    // Full, and never more than that.
    EXPECT_GT(most, small_budget().max_bytes * 3 / 4);
    EXPECT_LE(most, small_budget().max_bytes);
    check_directory();
}

}  // namespace ds4::test
