#pragma once

#include <string_view>
#include <vector>

#include "chat/messages.h"
#include "chat/render.h"

// Text that is put into an answer instead of being sampled (prompt.md 5.3, 5.4).
namespace ds4::chat {

// What ends the reasoning.
std::vector<Segment> end_of_thinking();

// The start of a call block up to the tag of a call of this tool; without a name the model writes it and the
// rest of the tag.
std::vector<Segment> opening_of_call(std::string_view name);

// What follows a complete call to end its block.
std::vector<Segment> closing_of_block();

// Ends an answer whose call block cannot be read, says so in the user's place, and opens the next answer.
std::vector<Segment> retry_after_broken_block(ThinkingMode mode);

}  // namespace ds4::chat
