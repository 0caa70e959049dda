#pragma once

#include <cstdint>
#include <mutex>
#include <span>
#include <unordered_set>
#include <vector>

#include "ds4/engine.h"

namespace ds4::test {

// Every row that scripted engines compute while this exists; one at a time.
class StepLog {
  public:
    // Consecutive rows of a session.
    struct Run {
        const Session* session = nullptr;  // to be compared only
        std::int64_t from = 0, n = 0;
        std::int64_t end() const { return from + n; }
    };
    using Step = std::vector<Run>;

    StepLog();
    ~StepLog();
    StepLog(const StepLog&) = delete;
    StepLog& operator=(const StepLog&) = delete;

    std::vector<Step> steps() const;
    std::int64_t n_rows() const;
    // Rows that were computed before after exactly the same tokens, by whatever session.
    std::vector<Run> again() const;

  private:
    void note(std::span<const Engine::Work> work);

    mutable std::mutex mutex_;
    std::vector<Step> steps_;
    std::unordered_set<std::uint64_t> computed_;  // hashes of prefixes
    std::vector<Run> again_;
};

}  // namespace ds4::test
