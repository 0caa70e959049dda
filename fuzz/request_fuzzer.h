#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "chat/render.h"
#include "server/fields.h"
#include "server/generation.h"

// What the request parsers have in common: any body gives a prompt and a writer, or an ApiError; and what the
// writer writes is JSON.
namespace ds4::server {

inline void require(bool is_so) {
    if (!is_so) std::abort();
}

inline void check_stream(std::string_view stream) {
    for (std::size_t at = 0; (at = stream.find("data: ", at)) != std::string_view::npos;) {
        at += 6;
        const std::size_t end = stream.find('\n', at);
        require(end != std::string_view::npos);
        const std::string_view data = stream.substr(at, end - at);
        require(data == "[DONE]" || nlohmann::json::accept(data));
    }
}

inline void write_everything(ResponseWriter& writer, bool is_stream) {
    using Kind = GenerationEvent::Kind;
    const Usage usage{10, 5, 7, 3};
    if (!is_stream) {
        Choice choice;
        choice.reasoning = "because";
        choice.content = "text \xff\n\"";
        choice.calls = {{"call_1", "run", "{\"input\":\"x\"}"}};
        choice.finish.reason = Finish::Reason::tool_calls;
        require(nlohmann::json::accept(writer.body({&choice, 1}, usage)));
        return;
    }
    std::string stream = writer.start(10);
    stream += writer.keepalive();
    stream += writer.event(0, {Kind::reasoning, "because", {}, {}});
    stream += writer.event(0, {Kind::content, "text \xff\n\"", {}, {{{"t", -1.0F}, {{"t", -1.0F}}}}});
    stream += writer.event(0, {Kind::call_begin, "run", "call_1", {}});
    stream += writer.event(0, {Kind::arguments, "{\"input\":\"x\"}", {}, {}});
    stream += writer.event(0, {Kind::call_end, "{\"input\":\"x\"}", "call_1", {}});
    stream += writer.finish(0, {Finish::Reason::tool_calls, {}});
    stream += writer.end(usage);
    check_stream(stream);
}

template <class Parse>
void fuzz_request(const std::uint8_t* data, std::size_t size, const Parse& parse) {
    try {
        const chat::Json body = parse_body({reinterpret_cast<const char*>(data), size});
        Exchange exchange = parse(body);
        if (!exchange.request.raw) (void)chat::to_text(chat::render(exchange.request.conversation));
        write_everything(*exchange.writer, exchange.request.stream);
    } catch (const ApiError& error) {
        for (const Dialect dialect : {Dialect::openai, Dialect::anthropic}) {
            require(nlohmann::json::accept(error_body(error, dialect, "req_1")));
        }
    } catch (const PromptError&) {
    }
}

}  // namespace ds4::server
