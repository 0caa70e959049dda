#include "chat/parse_output.h"

namespace ds4::chat {

ParsedOutput parse_output(std::string_view text, OutputParser::Options options, OutputEnd end) {
    OutputParser parser(options);
    std::vector<OutputEvent> events = parser.push(text);
    for (OutputEvent& event : parser.finish(end)) events.push_back(std::move(event));

    ParsedOutput output;
    output.finish_reason = parser.finish_reason();
    std::string name;
    for (const OutputEvent& event : events) {
        switch (event.kind) {
            case OutputEvent::Kind::reasoning:
                output.reasoning += event.text;
                break;
            case OutputEvent::Kind::content:
                output.content += event.text;
                break;
            case OutputEvent::Kind::call_begin:
                name = event.text;
                break;
            case OutputEvent::Kind::call_end:
                output.calls.push_back({name, event.text});
                break;
            case OutputEvent::Kind::arguments:
            case OutputEvent::Kind::call_in_reasoning:
                break;
        }
    }
    if (output.finish_reason == FinishReason::error) {
        output.finish_reason = output.calls.empty() ? FinishReason::stop : FinishReason::tool_calls;
        if (output.calls.empty()) output.content += parser.raw_block();
    }
    return output;
}

}  // namespace ds4::chat
