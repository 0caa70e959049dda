#pragma once

#include "kv/stores.h"

namespace ds4::test {

// Processes that save growing conversations under a small budget are killed at random moments; what they
// leave is whole.
class Crashes : public Stores {
  protected:
    void kill_while_saving(int n_kills);

  private:
    kv::StoreOptions small_budget();
    [[noreturn]] void save_for_ever(unsigned seed);
    void check_directory();
};

}  // namespace ds4::test
