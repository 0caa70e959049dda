#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "kv/disk_cache.h"
#include "server/conversations.h"
#include "server/job.h"

namespace ds4::server {

// A session that generates, or the last one that did.
struct Slot {
    std::unique_ptr<Session> session;
    std::shared_ptr<Job> job;            // nullptr: free
    std::optional<VisibleText> visible;  // of the session's end; free slots only
    std::int64_t last_used = 0;          // ticks of admission
    std::int64_t n_saved = 0;            // tokens of the session that are on the disk

    // ---- of the job
    std::vector<TokenId> target;  // what the session is to hold before the job chooses: prompt, forced text
    std::int64_t n_prompt = 0;
    std::int64_t n_cached = 0;          // of the prompt
    std::int64_t n_shared = 0;          // of the prompt, in rows that others hold, too
    std::vector<std::int64_t> stops;    // places in the prompt to remember, ascending
    std::int64_t cold_length = 0;       // where to write a cold checkpoint; 0: nowhere
    Engine::RowLogits prompt_observer;  // or empty
    std::optional<TokenId> drawn;       // from the session's logits, for the next token of the answer
    bool is_stalled = false;            // waits for memory; the session is empty

    // ---- while another slot computes the beginning of this one's prompt
    std::shared_ptr<const Job> leader;
    std::int64_t n_awaited = 0;  // tokens that the leader's session has to hold

    // ---- while a checkpoint is read from the disk
    std::shared_ptr<kv::DiskCache::Reading> reading;
    std::deque<kv::Store::Found> found;        // what to try, the first of them is being read
    std::optional<kv::Store::Found> restored;  // came from a file and has not proved itself

    bool is_active() const {
        return job != nullptr && leader == nullptr && reading == nullptr && !is_stalled;
    }
    bool is_prefilling() const { return session->n_tokens() < static_cast<std::int64_t>(target.size()); }
};

}  // namespace ds4::server
