#pragma once

#include <array>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "kv/oracle.h"
#include "kv/stores.h"

namespace ds4::test {

// Sessions, checkpoints and two stores on one directory under a small budget, to which anything may happen.
// After each operation everybody it touched says what the oracle says.
class RandomOperations : public Stores {
  protected:
    RandomOperations() : Stores(fast_directory()) {}
    void run(int n_operations, unsigned seed);

  private:
    struct Counts {
        int hits = 0, misses = 0, refused = 0, written = 0, no_room = 0;
    };

    std::size_t below(std::size_t n) { return random_() % n; }
    bool chance(unsigned percent) { return random_() % 100 < percent; }
    kv::Store& any_store() { return *stores_[below(stores_.size())]; }
    std::unique_ptr<Session>& any_session() { return sessions_[below(sessions_.size())]; }

    void open_stores();
    void operate();
    void prompt();
    void extend();
    void fork();
    void rewind();
    void save(bool goes);
    void restart();
    void corrupt();

    // Tokens that often begin as others did before.
    std::vector<TokenId> conversation();
    std::vector<TokenId> more_tokens(std::size_t position, std::size_t n);
    std::unique_ptr<Session> begin(std::span<const TokenId> tokens);
    std::unique_ptr<Session> from_disk(std::span<const TokenId> tokens);
    void append(Session& session, std::span<const TokenId> tokens);
    void add(std::unique_ptr<Session> session);
    void check(const Session& session);
    void damage(const std::filesystem::path& path);
    void leave_litter();
    std::uint64_t bytes_on_disk();
    void check_budget();
    void check_beginnings();

    std::mt19937 random_;
    Oracle oracle_{engine()};
    std::array<std::unique_ptr<kv::Store>, 2> stores_;
    std::vector<std::unique_ptr<Session>> sessions_;
    std::vector<std::vector<TokenId>> past_;
    bool is_calm_ = true;       // nobody but the stores touches the directory
    bool is_tampered_ = false;  // since the directory was empty
    std::uint64_t allowed_bytes_ = 0;
    Counts counts_;
};

}  // namespace ds4::test
