#include "chat/tool_memory.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "chat/parse_output.h"
#include "chat/protocol.h"

namespace ds4::chat {
namespace {

// Order of keys does not matter to it, nor how a number is written.
nlohmann::json parse_arguments(const std::string& text) {
    if (text.empty()) return nlohmann::json::object();
    nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
    if (json.is_discarded()) return nlohmann::json{{"arguments", text}};
    return json.is_null() ? nlohmann::json::object() : json;
}

bool says_the_same(const std::string& block, const std::vector<ToolCall>& calls) {
    const ParsedOutput parsed =
        parse_output(block, {.start = Prompt::Start::content, .offers_tools = true}, OutputEnd::eos);
    return std::equal(calls.begin(), calls.end(), parsed.calls.begin(), parsed.calls.end(),
                      [](const ToolCall& sent, const ParsedOutput::Call& sampled) {
                          return sent.name == sampled.name &&
                                 parse_arguments(sent.arguments) == parse_arguments(sampled.arguments);
                      });
}

}  // namespace

ToolMemory::ToolMemory(std::size_t max_ids, std::size_t max_bytes)
    : max_ids_(max_ids), max_bytes_(max_bytes) {}

void ToolMemory::add(const std::string& id, const std::string& block) {
    auto shared = by_text_.find(block);
    if (shared == by_text_.end()) {
        const auto made = std::make_shared<const std::string>(block);
        shared = by_text_.emplace(*made, Shared{made}).first;
        n_bytes_ += block.size();
    }
    ++shared->second.n_ids;
    entries_.push_front({id, shared->second.block});
    by_id_.emplace(id, entries_.begin());
    n_bytes_ += id.size();
}

void ToolMemory::forget_oldest() {
    const Entry oldest = std::move(entries_.back());
    entries_.pop_back();
    by_id_.erase(oldest.id);
    n_bytes_ -= oldest.id.size();
    const auto shared = by_text_.find(*oldest.block);
    if (--shared->second.n_ids > 0) return;
    n_bytes_ -= oldest.block->size();
    by_text_.erase(shared);
}

void ToolMemory::store(std::span<const std::string> ids, const std::string& block) {
    const std::lock_guard lock(mutex_);
    // One that can never fit would only push out all others.
    if (block.size() > max_bytes_ || ids.size() > max_ids_) return;
    for (const std::string& id : ids) {
        if (!by_id_.contains(id)) add(id, block);  // ids are never given twice
    }
    while (entries_.size() > max_ids_ || n_bytes_ > max_bytes_) forget_oldest();
}

std::shared_ptr<const std::string> ToolMemory::find(std::span<const std::string> ids) const {
    const std::lock_guard lock(mutex_);
    Block block;
    for (const std::string& id : ids) {
        const auto found = by_id_.find(id);
        if (found == by_id_.end() || (block != nullptr && block != found->second->block)) return nullptr;
        block = found->second->block;
        entries_.splice(entries_.begin(), entries_, found->second);
    }
    return block;
}

// A block runs from the white space before its start tag to the end of its end tag; several lengths of white
// space are possible.
std::vector<ToolMemory::Known> ToolMemory::find_in(std::string_view text) const {
    static const std::string start = std::string("<") + std::string(protocol::dsml) + "tool_calls>";
    static const std::string end = std::string("</") + std::string(protocol::dsml) + "tool_calls>";
    const std::lock_guard lock(mutex_);
    std::set<const std::string*> blocks;
    for (std::size_t at = text.find(start); at != std::string_view::npos; at = text.find(start, at + 1)) {
        const std::size_t close = text.find(end, at);
        if (close == std::string_view::npos) break;
        for (std::size_t begin = at;; --begin) {
            const auto found = by_text_.find(text.substr(begin, close + end.size() - begin));
            if (found != by_text_.end()) blocks.insert(found->second.block.get());
            if (begin == 0 || (text[begin - 1] != '\n' && text[begin - 1] != ' ')) break;
        }
    }
    std::vector<Known> known;
    if (blocks.empty()) return known;
    for (const Entry& entry : entries_) {
        if (blocks.contains(entry.block.get())) known.push_back({entry.id, entry.block});
    }
    return known;
}

std::size_t ToolMemory::n_ids() const {
    const std::lock_guard lock(mutex_);
    return entries_.size();
}

std::size_t ToolMemory::n_bytes() const {
    const std::lock_guard lock(mutex_);
    return n_bytes_;
}

std::shared_ptr<const std::string> find_exact_block(const ToolMemory& memory,
                                                    const std::vector<ToolCall>& calls,
                                                    ReplayCounts& counts) {
    std::vector<std::string> ids;
    for (const ToolCall& call : calls) ids.push_back(call.id);
    auto block = memory.find(ids);
    if (block == nullptr) {
        ++counts.missing;
    } else if (!says_the_same(*block, calls)) {
        ++counts.edited;
        block = nullptr;
    } else {
        ++counts.exact;
    }
    return block;
}

}  // namespace ds4::chat
