#include "server/checkpointer.h"

#include <utility>

namespace ds4::server {
namespace {

kv::Key to_key(chat::PromptText text) {
    return {std::move(text.text), text.forged_end};
}

}  // namespace

Checkpointer::Checkpointer(const CheckpointPolicy& policy, std::unique_ptr<kv::DiskCache> disk,
                           const tokenizer::Tokenizer& tokenizer,
                           std::function<std::vector<kv::ToolMapEntry>(std::string_view)> tool_map)
    : policy_(policy), disk_(std::move(disk)), tokenizer_(tokenizer), tool_map_(std::move(tool_map)) {}

std::deque<kv::Store::Found> Checkpointer::find(const Job& job, std::int64_t n) const {
    std::deque<kv::Store::Found> found;
    if (disk_ == nullptr || job.n_prompt() < policy_.min_tokens) return found;
    for (kv::Store::Found& f : disk_->find(to_key(job.text()))) {
        if (f.n_tokens > n) found.push_back(std::move(f));
    }
    return found;
}

void Checkpointer::after_step(Slot& slot) {
    if (disk_ == nullptr) return;
    const std::int64_t n = slot.session->n_tokens();
    const bool is_cold = n == slot.cold_length;
    const bool is_continued = policy_.is_continued(n) && !slot.job->is_in_call_block();
    if ((!is_cold && !is_continued) || n <= slot.n_saved) return;
    save(slot.session->mark(), is_cold ? kv::Reason::cold : kv::Reason::continued, nullptr);
    slot.n_saved = n;
}

void Checkpointer::save_end(const CheckpointPtr& end, std::int64_t n_saved,
                            const std::optional<VisibleText>& visible, kv::Reason reason) {
    if (disk_ == nullptr || end == nullptr || end->n_tokens() < policy_.min_tokens) return;
    if (end->n_tokens() > n_saved) save(end, reason, visible ? &*visible : nullptr);
}

void Checkpointer::save(const CheckpointPtr& checkpoint, kv::Reason reason, const VisibleText* visible) {
    kv::Store::Save save;
    save.checkpoint = checkpoint;
    save.reason = reason;
    save.tool_map = tool_map_;
    if (visible != nullptr) {
        save.kind = visible->kind;
        save.key = [key = to_key(visible->prompt)] { return key; };
    } else {
        save.key = [checkpoint, &tokenizer = tokenizer_] {
            return to_key(chat::prompt_text(checkpoint->tokens(), tokenizer));
        };
    }
    disk_->write(std::move(save));
}

}  // namespace ds4::server
