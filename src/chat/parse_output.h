#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "chat/output_parser.h"

namespace ds4::chat {

// A whole output.
struct ParsedOutput {
    struct Call {
        std::string name;
        std::string arguments;  // JSON object, compact

        bool operator==(const Call&) const = default;
    };
    std::string reasoning;
    std::string content;
    std::vector<Call> calls;  // complete ones
    FinishReason finish_reason = FinishReason::stop;

    bool operator==(const ParsedOutput&) const = default;
};

// For answers that are not streamed: nothing was announced yet, so a broken first call becomes content.
ParsedOutput parse_output(std::string_view text, OutputParser::Options options, OutputEnd end);

}  // namespace ds4::chat
