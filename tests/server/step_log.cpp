#include "server/step_log.h"

#include <algorithm>

#include "server/scripted_engine.h"

namespace ds4::test {
namespace {

std::uint64_t extend(std::uint64_t hash, TokenId token) {
    hash ^= static_cast<std::uint64_t>(token) + 1;
    hash *= 0x9E3779B97F4A7C15;
    return hash ^ (hash >> 29);
}

}  // namespace

StepLog::StepLog() {
    set_step_listener([this](std::span<const Engine::Work> work) { note(work); });
}

StepLog::~StepLog() {
    set_step_listener({});
}

void StepLog::note(std::span<const Engine::Work> work) {
    const std::lock_guard lock(mutex_);
    Step& step = steps_.emplace_back();
    for (const Engine::Work& w : work) {
        std::int64_t position = w.session->n_tokens();
        step.push_back({w.session, position, static_cast<std::int64_t>(w.tokens.size())});
        std::uint64_t hash = 1;
        for (const TokenId token : w.session->tokens()) hash = extend(hash, token);
        for (const TokenId token : w.tokens) {
            hash = extend(hash, token);
            const bool is_new = computed_.insert(hash).second;
            const bool goes_on =
                !again_.empty() && again_.back().session == w.session && again_.back().end() == position;
            if (!is_new && goes_on) ++again_.back().n;
            if (!is_new && !goes_on) again_.push_back({w.session, position, 1});
            ++position;
        }
    }
}

std::vector<StepLog::Step> StepLog::steps() const {
    const std::lock_guard lock(mutex_);
    return steps_;
}

std::int64_t StepLog::n_rows() const {
    const std::lock_guard lock(mutex_);
    std::int64_t n = 0;
    for (const Step& step : steps_) {
        for (const Run& run : step) n += run.n;
    }
    return n;
}

std::vector<StepLog::Run> StepLog::again() const {
    const std::lock_guard lock(mutex_);
    return again_;
}

}  // namespace ds4::test
