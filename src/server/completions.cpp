#include "server/completions.h"

#include <algorithm>

#include "server/common_fields.h"
#include "server/ids.h"
#include "server/writing.h"

namespace ds4::server {
namespace {

constexpr const char* kDefaultModel = "deepseek-v4-flash";

RawPrompt read_ids(const std::vector<Field>& items) {
    std::vector<TokenId> ids;
    for (const Field& item : items) {
        const std::int64_t id = item.integer();
        if (id < 0 || id > 0x7FFFFFFF) item.fail("is not a token id");
        ids.push_back(static_cast<TokenId>(id));
    }
    return ids;
}

RawPrompt read_prompt(const Field& prompt) {
    if (prompt.is_string()) return prompt.string();
    if (!prompt.is_array()) prompt.fail("must be a string or a list of token ids");
    const auto items = prompt.items();
    if (items.empty()) prompt.fail("must not be empty");
    if (!items.front().is_string()) return read_ids(items);
    if (items.size() > 1) prompt.unsupported("may hold one string only");
    return items.front().string();
}

struct Echo {
    std::string model;
    bool include_usage = false, has_logprobs = false;
};

// Tokens of a text in the shape of the legacy API.
class LegacyLogprobs {
  public:
    void add(const std::vector<GenerationEvent::TokenLogprobs>& tokens) {
        for (const auto& token : tokens) {
            const char* separator = n_++ > 0 ? "," : "";
            tokens_.append(separator).append(json_text(token.token));
            logprobs_.append(separator).append(json_number(token.logprob));
            offsets_.append(separator).append(std::to_string(offset_));
            tops_.append(separator).append(top(token));
            offset_ += token.token.size();
        }
    }

    // Everything since the last call.
    std::string take() {
        std::string json = "{\"tokens\":[" + tokens_ + "],\"token_logprobs\":[" + logprobs_ +
                           "],\"top_logprobs\":[" + tops_ + "],\"text_offset\":[" + offsets_ + "]}";
        tokens_.clear();
        logprobs_.clear();
        tops_.clear();
        offsets_.clear();
        n_ = 0;
        return json;
    }

  private:
    // Two tokens may have the same text once broken bytes are replaced; the better one stays.
    static std::string top(const GenerationEvent::TokenLogprobs& token) {
        if (token.top.empty()) return "null";
        std::vector<std::string> seen;
        std::string json = "{";
        for (const auto& other : token.top) {
            const std::string key = json_text(other.token);
            if (std::find(seen.begin(), seen.end(), key) != seen.end()) continue;
            seen.push_back(key);
            json.append(json.size() > 1 ? "," : "")
                .append(key)
                .append(":")
                .append(json_number(other.logprob));
        }
        return json += '}';
    }

    std::string tokens_, logprobs_, tops_, offsets_;
    std::size_t offset_ = 0, n_ = 0;
};

class CompletionWriter : public ResponseWriter {
  public:
    CompletionWriter(Echo echo, int n_choices)
        : echo_(std::move(echo)),
          logprobs_(static_cast<std::size_t>(n_choices)),
          head_("{\"id\":\"" + random_id("cmpl-", 24) + "\",\"object\":\"text_completion\",\"created\":" +
                std::to_string(unix_time()) + ",\"model\":" + json_text(echo_.model) + ",") {}

    std::string start(std::int64_t) override { return ""; }
    std::string keepalive() override { return ": keepalive\n\n"; }

    std::string event(int choice, const GenerationEvent& event) override {
        std::string logprobs = "null";
        if (echo_.has_logprobs) {
            LegacyLogprobs& of_choice = logprobs_[static_cast<std::size_t>(choice)];
            of_choice.add(event.logprobs);
            logprobs = of_choice.take();
        }
        return chunk(choice, event.text, logprobs, "null");
    }

    std::string finish(int choice, const Finish& finish) override {
        return chunk(choice, "", "null", finish_text(finish));
    }

    std::string end(const Usage& usage) override {
        std::string out;
        if (echo_.include_usage)
            out = "data: " + head_ + "\"choices\":[],\"usage\":" + usage_json(usage) + "}\n\n";
        return out + "data: [DONE]\n\n";
    }

    std::string fail(const ApiError& error) override {
        return "data: " + error_body(error, Dialect::openai, "") + "\n\n";
    }

    std::string body(std::span<const Choice> choices, const Usage& usage) override {
        std::string json = head_ + "\"choices\":[";
        for (std::size_t i = 0; i < choices.size(); ++i) {
            std::string logprobs = "null";
            if (echo_.has_logprobs) {
                logprobs_[i].add(choices[i].content_logprobs);
                logprobs = logprobs_[i].take();
            }
            json.append(i > 0 ? "," : "");
            json += choice_json(static_cast<int>(i), choices[i].content, logprobs,
                                finish_text(choices[i].finish));
        }
        return json + "],\"usage\":" + usage_json(usage) + "}";
    }

  private:
    static std::string finish_text(const Finish& finish) {
        return finish.reason == Finish::Reason::length ? "\"length\"" : "\"stop\"";
    }

    static std::string choice_json(int choice, const std::string& text, const std::string& logprobs,
                                   const std::string& finish) {
        return "{\"text\":" + json_text(text) + ",\"index\":" + std::to_string(choice) +
               ",\"logprobs\":" + logprobs + ",\"finish_reason\":" + finish + "}";
    }

    std::string chunk(int choice, const std::string& text, const std::string& logprobs,
                      const std::string& finish) const {
        return "data: " + head_ + "\"choices\":[" + choice_json(choice, text, logprobs, finish) + "]}\n\n";
    }

    const Echo echo_;
    std::vector<LegacyLogprobs> logprobs_;  // by choice
    const std::string head_;
};

}  // namespace

Exchange parse_completions(const chat::Json& json) {
    const Field body = Field::body(json);
    Exchange exchange;
    GenerationRequest& request = exchange.request;
    request.prompt_field = "prompt";
    request.raw = read_prompt(body["prompt"]);
    request.echo = body["echo"].boolean_or(false);
    if (!body["suffix"].string_or("").empty()) body["suffix"].unsupported("is not supported");
    if (body["best_of"] && body["best_of"].integer() != 1) body["best_of"].unsupported("must be 1");
    request.stream = body["stream"].boolean_or(false);
    request.max_tokens = read_max_tokens(body["max_tokens"]);
    read_sampling(body, request);
    request.stop = read_stops(body["stop"]);
    request.n_choices = read_choices(body["n"]);
    if (const Field logprobs = body["logprobs"]) {
        const std::int64_t n = logprobs.integer();
        if (n < 0 || n > kMaxTopLogprobs) logprobs.fail("must be 0 to " + std::to_string(kMaxTopLogprobs));
        request.top_logprobs = static_cast<int>(n);
    }
    Echo echo;
    echo.model = body["model"].string_or(kDefaultModel);
    echo.include_usage = body["stream_options"]["include_usage"].boolean_or(false);
    echo.has_logprobs = request.top_logprobs.has_value();
    exchange.writer = std::make_unique<CompletionWriter>(std::move(echo), request.n_choices);
    return exchange;
}

}  // namespace ds4::server
