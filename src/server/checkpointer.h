#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>

#include "kv/disk_cache.h"
#include "server/checkpoint_policy.h"
#include "server/job.h"
#include "server/slot.h"

namespace ds4::server {

// Between sessions and the disk: which states are written when, and which stored ones a prompt can use.
class Checkpointer {
  public:
    // disk: nullptr if there is none. tool_map: of kv::Store::Save.
    Checkpointer(const CheckpointPolicy& policy, std::unique_ptr<kv::DiskCache> disk,
                 const tokenizer::Tokenizer& tokenizer,
                 std::function<std::vector<kv::ToolMapEntry>(std::string_view)> tool_map);

    bool has_disk() const { return disk_ != nullptr; }
    kv::DiskCache& disk() { return *disk_; }
    const CheckpointPolicy& policy() const { return policy_; }

    // Stored checkpoints that hold more than n tokens of this prompt, longest first.
    std::deque<kv::Store::Found> find(const Job& job, std::int64_t n) const;
    // The moments inside a prompt or an answer: writes what is due where the session stands.
    void after_step(Slot& slot);
    // Before a conversation goes; n_saved: tokens of it that are on the disk.
    void save_end(const CheckpointPtr& end, std::int64_t n_saved, const std::optional<VisibleText>& visible,
                  kv::Reason reason);

  private:
    // visible: nullptr if the key is the text of the tokens.
    void save(const CheckpointPtr& checkpoint, kv::Reason reason, const VisibleText* visible);

    const CheckpointPolicy policy_;
    const std::unique_ptr<kv::DiskCache> disk_;
    const tokenizer::Tokenizer& tokenizer_;
    const std::function<std::vector<kv::ToolMapEntry>(std::string_view)> tool_map_;
};

}  // namespace ds4::server
