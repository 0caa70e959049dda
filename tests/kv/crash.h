#pragma once

#include <sys/types.h>

#include <map>
#include <string>

#include "kv/oracle.h"
#include "kv/stores.h"

namespace ds4::test {

// Processes that save growing conversations under a small budget are killed at random moments; what they
// leave is whole.
class Crashes : public Stores {
  protected:
    void kill_while_saving(int n_kills);
    // Two of them at a time are stopped so often, wherever they are, and what is there is added up.
    void stop_two_while_saving(int n_stops);

  private:
    pid_t start_saving(unsigned seed);  // returns when something is saved
    std::uint64_t bytes_on_disk() const;
    kv::StoreOptions small_budget();
    [[noreturn]] void save_for_ever(unsigned seed, int tell);
    void check_directory();
    // Every stored session goes on as if nothing had happened.
    void check_sessions(kv::Store& store, const kv::Directory& left);

    Oracle oracle_{engine()};
    int n_checked_ = 0;
    std::map<std::string, std::uint64_t> checked_;  // inodes of files that were looked at after a kill before
};

}  // namespace ds4::test
