// Any output, cut anywhere: the same events as in one piece, no cut character, no marker in what a client
// sees. The first bytes choose start, tools, ending and the places of the cuts.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "chat/output_parser.h"
#include "chat/protocol.h"
#include "tokenizer/utf8.h"

namespace {

using namespace ds4::chat;
using Kind = OutputEvent::Kind;

void require(bool is_so) {
    if (!is_so) std::abort();
}

OutputParser::Options options_of(unsigned bits) {
    OutputParser::Options options;
    options.start = (bits & 1) != 0 ? Prompt::Start::reasoning : Prompt::Start::content;
    options.offers_tools = (bits & 2) != 0;
    options.holds_broken_block = (bits & 4) != 0;
    if ((bits & 8) != 0) options.stop = {"stop", "\n\n", "st"};
    if ((bits & 16) != 0) options.tools = {{"run", {"a", "b"}}};
    return options;
}

struct Transcript {
    std::vector<OutputEvent> events;
    FinishReason reason = FinishReason::stop;

    bool operator==(const Transcript&) const = default;
};

void add(Transcript& transcript, const std::vector<OutputEvent>& events) {
    for (const OutputEvent& event : events) {
        require(ds4::tokenizer::utf8_valid_prefix(event.text) == event.text.size());
        const bool joins =
            event.kind == Kind::reasoning || event.kind == Kind::content || event.kind == Kind::arguments;
        if (joins && !transcript.events.empty() && transcript.events.back().kind == event.kind) {
            transcript.events.back().text += event.text;
        } else {
            transcript.events.push_back(event);
        }
    }
}

Transcript parse(std::string_view text, std::size_t step, const OutputParser::Options& options,
                 OutputEnd end) {
    OutputParser parser(options);
    Transcript transcript;
    while (!text.empty() && !parser.is_done()) {
        add(transcript, parser.push(text.substr(0, step)));
        text.remove_prefix(std::min(step, text.size()));
        // These hold whatever was pushed.
        require(!(parser.in_block() && parser.in_reasoning()));
        require(!parser.next_is_syntax() || parser.in_block());
    }
    add(transcript, parser.finish(end));
    transcript.reason = parser.finish_reason();
    return transcript;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2) return 0;
    const OutputParser::Options options = options_of(data[0]);
    const OutputEnd end = (data[0] & 32) != 0 ? OutputEnd::length : OutputEnd::eos;
    const std::string_view text(reinterpret_cast<const char*>(data) + 2, size - 2);
    const Transcript whole = parse(text, text.size() + 1, options, end);
    require(parse(text, 1 + data[1] % 7, options, end) == whole);
    if (options.stop.empty() || !options.offers_tools) return 0;
    for (const OutputEvent& event : whole.events) {
        // A broken block comes out whole; apart from that no content holds a stop string.
        const bool is_raw = event.text.find("tool_calls>") != std::string::npos;
        if (event.kind == Kind::content && !is_raw) require(event.text.find("stop") == std::string::npos);
    }
    return 0;
}
