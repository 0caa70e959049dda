#include "kv/crash.h"

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
void Crashes::save_for_ever(unsigned seed) {
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
            if (s->n_tokens() >= 8) store.save(save_of(s->mark()));
        }
    }
}

// Only names that the store gives; all of them whole, within the budget, and with their beginnings.
void Crashes::check_directory() {
    std::uint64_t total = 0;
    for (const auto& file : fs::directory_iterator(directory.path() / "kv")) total += file.file_size();
    EXPECT_LE(total, small_budget().max_bytes);
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
    // One of them, at length: it goes on as if nothing had happened.
    if (left.entries().empty()) return;
    const std::vector<TokenId> tokens = kv::verify_chain(left, left.entries().rbegin()->first).tokens;
    const auto found = store.find(key_of(tokens));
    ASSERT_FALSE(found.empty());
    const auto loaded = store.load(found.front());
    ASSERT_TRUE(loaded);
    const auto fresh = engine().new_session();
    fresh->append(tokens);
    fresh->append(std::span(ids).first(5));
    const auto resumed = engine().resume(loaded->points);
    resumed->append(std::span(ids).first(5));
    EXPECT_TRUE(std::ranges::equal(resumed->logits(), fresh->logits()));
}

void Crashes::kill_while_saving(int n_kills) {
    std::mt19937 random(4);
    engine();  // loaded once, here, and not in every child
    for (int i = 0; i < n_kills; ++i) {
        const pid_t child = ::fork();
        ASSERT_GE(child, 0);
        if (child == 0) save_for_ever(static_cast<unsigned>(i));
        std::this_thread::sleep_for(std::chrono::microseconds(random() % 60'000));
        ::kill(child, SIGKILL);
        ASSERT_EQ(::waitpid(child, nullptr, 0), child);
        if (!fs::exists(directory.path() / "kv")) continue;
        check_directory();
        if (HasFatalFailure()) return;
    }
}

}  // namespace ds4::test
