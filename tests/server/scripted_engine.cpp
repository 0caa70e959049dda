// The library's engine replaced by one that says what a script tells it to, token by token, behind the same
// include/ds4/engine.h. Linked into the server it makes tool loops and malformed outputs deterministic.
//
// The "model" is a JSON file:
//   tokenizer       GGUF whose vocabulary is used, relative to the script
//   context         most tokens of a session
//   decode_us       time of a step; prefill_us: time of each row of a prompt
//   rules           list of {after, say, fail}
//   device_failures how often a device fails (1)
//   failed_restarts how often a device that has failed does not restart
//   device_lost     a device that has failed cannot be restarted in this process (false)
// Of the rules whose `after` the session's text contains, followed by a beginning of `say`, the one with the
// latest such place goes on with the rest of `say`; strings of control tokens stand for them. With `fail` the
// step that reaches its end throws: "request" every time, "device" the first times and each time all steps
// until the restart, "memory" while other sessions hold anything. Without a rule the answer ends.
#include "server/scripted_engine.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "chat/protocol.h"
#include "ds4/engine.h"
#include "gguf/gguf.h"
#include "tokenizer/tokenizer.h"

namespace ds4 {
namespace {

struct Rule {
    std::string after, say;
    enum class Fail : std::uint8_t { no, request, device, memory } fail = Fail::no;
};

Rule::Fail fail_named(const std::string& name) {
    return name == "request"  ? Rule::Fail::request
           : name == "device" ? Rule::Fail::device
           : name == "memory" ? Rule::Fail::memory
                              : Rule::Fail::no;
}

using Micros = std::chrono::microseconds;

// What a session's tokens cost; nothing is shared.
constexpr std::size_t kBytesPerToken = 1000;

std::mutex listener_mutex;
test::StepListener listener;

}  // namespace

void test::set_step_listener(StepListener new_listener) {
    const std::lock_guard lock(listener_mutex);
    listener = std::move(new_listener);
}

struct Engine::Impl {
    explicit Impl(const EngineOptions& o);

    // The rule that goes on from this text, and how much of it was said; nullptr if there is none.
    const Rule* find_rule(const std::string& text, std::size_t& n_said) const;

    EngineOptions options;
    ModelInfo info;
    std::optional<tokenizer::Tokenizer> tokenizer;
    std::vector<Rule> rules;
    Micros decode_time{0}, prefill_time{0};
    std::mutex step_mutex;
    std::atomic<std::size_t> n_held_tokens{0};
    std::atomic<int> n_sessions{0};
    int n_device_failures = 0, n_failed_restarts = 0;  // still to come
    bool loses_device = false, has_failed = false;
};

Engine::Impl::Impl(const EngineOptions& o) : options(o) {
    std::ifstream file(o.model);
    const auto script = nlohmann::json::parse(file);
    const auto vocabulary = o.model.parent_path() / script.at("tokenizer").get<std::string>();
    tokenizer.emplace(tokenizer::Vocabulary::from_gguf(gguf::File::open(vocabulary)));
    info.name = script.value("name", "scripted");
    info.vocab = tokenizer->size();
    info.max_context = script.value("context", std::int64_t{32768});
    decode_time = Micros(script.value("decode_us", 0));
    prefill_time = Micros(script.value("prefill_us", 0));
    n_device_failures = script.value("device_failures", 1);
    n_failed_restarts = script.value("failed_restarts", 0);
    loses_device = script.value("device_lost", false);
    for (const auto& rule : script.at("rules")) {
        rules.push_back({rule.at("after"), rule.at("say"), fail_named(rule.value("fail", ""))});
    }
}

const Rule* Engine::Impl::find_rule(const std::string& text, std::size_t& n_said) const {
    const Rule* best = nullptr;
    std::size_t best_place = 0;
    for (const Rule& rule : rules) {
        for (std::size_t at = text.rfind(rule.after); at != std::string::npos;
             at = text.rfind(rule.after, at - 1)) {
            const std::size_t place = at + rule.after.size();
            const std::string_view said = std::string_view(text).substr(place);
            const bool goes_on =
                rule.say.starts_with(said) && (said.size() < rule.say.size() || rule.fail != Rule::Fail::no);
            if (goes_on && (best == nullptr || place > best_place)) {
                best = &rule;
                best_place = place;
                n_said = said.size();
            }
            if (goes_on || at == 0) break;
        }
    }
    return best;
}

struct Session::Impl {
    Impl(Engine& e, std::int64_t n) : engine(e), context(n) { ++engine.impl_->n_sessions; }
    ~Impl() {
        engine.impl_->n_held_tokens -= n_counted;
        --engine.impl_->n_sessions;
    }
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;

    void count() {
        engine.impl_->n_held_tokens += tokens.size() - n_counted;
        n_counted = tokens.size();
    }

    void append(std::span<const TokenId> more);
    // Throws what the rule says.
    void fail_if_planned() const;
    // Makes logits() name what comes next.
    void choose();

    Engine& engine;
    std::int64_t context;
    std::vector<TokenId> tokens;
    std::vector<float> logits;
    std::vector<CheckpointPtr> points;
    std::vector<TokenId> plan;  // what is still to be said, last first
    TokenId chosen = 0;
    Rule::Fail fail = Rule::Fail::no;
    std::size_t n_counted = 0;
};

void Session::Impl::append(std::span<const TokenId> more) {
    const bool is_as_planned = more.size() == 1 && !plan.empty() && plan.back() == more.front();
    tokens.insert(tokens.end(), more.begin(), more.end());
    if (is_as_planned) {
        plan.pop_back();
    } else {
        plan.clear();
    }
    choose();
}

void Session::Impl::fail_if_planned() const {
    Engine::Impl& script = *engine.impl_;
    if (fail == Rule::Fail::request) throw Error("the script fails here");
    if (fail == Rule::Fail::device) {
        script.has_failed = true;
        --script.n_device_failures;
        throw DeviceError("the scripted device fails here");
    }
    const bool is_alone = script.n_held_tokens == n_counted;
    if (fail == Rule::Fail::memory && !is_alone) throw DeviceMemoryError("the scripted device is full");
}

void Session::Impl::choose() {
    count();
    const Engine::Impl& script = *engine.impl_;
    const tokenizer::Tokenizer& tokenizer = *script.tokenizer;
    fail = Rule::Fail::no;
    if (plan.empty()) {
        std::size_t n_said = 0;
        const Rule* rule = script.find_rule(tokenizer.decode(tokens), n_said);
        if (rule != nullptr) plan = tokenizer.encode_with_added(rule->say.substr(n_said));
        if (rule != nullptr && plan.empty()) fail = rule->fail;
        if (fail == Rule::Fail::device && script.n_device_failures <= 0) fail = Rule::Fail::no;
        // The step that fails has to be taken, so something other than the end comes next.
        if (fail != Rule::Fail::no) plan = tokenizer.encode("!");
        if (plan.empty()) plan = {*tokenizer.find_added(chat::protocol::eos)};
        std::reverse(plan.begin(), plan.end());
    }
    if (logits.empty()) logits.assign(static_cast<std::size_t>(script.info.vocab), -30.0F);
    logits[static_cast<std::size_t>(chosen)] = -30.0F;
    chosen = plan.back();
    logits[static_cast<std::size_t>(chosen)] = 30.0F;
}

// ---- Checkpoint: a token's row is its id, and there is no other state ----

struct Checkpoint::Impl {
    std::vector<TokenId> tokens;
    std::vector<float> logits;
};

Checkpoint::Checkpoint(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Checkpoint::~Checkpoint() = default;

std::int64_t Checkpoint::n_tokens() const {
    return static_cast<std::int64_t>(impl_->tokens.size());
}
std::vector<TokenId> Checkpoint::tokens(std::int64_t from) const {
    return {impl_->tokens.begin() + from, impl_->tokens.end()};
}
std::size_t Checkpoint::bytes() const {
    return 64;
}
std::size_t Checkpoint::rows_bytes(std::int64_t from) const {
    return static_cast<std::size_t>(n_tokens() - from) * sizeof(TokenId);
}
void Checkpoint::read_rows(std::int64_t from, std::span<std::byte> out) const {
    std::memcpy(out.data(), impl_->tokens.data() + from, out.size());
}
std::span<const std::byte> Checkpoint::state() const {
    return std::as_bytes(std::span(impl_->tokens).last(1));
}
std::span<const float> Checkpoint::logits() const {
    return impl_->logits;
}

struct CheckpointLoader::Impl {
    std::vector<TokenId> tokens;
};

CheckpointLoader::CheckpointLoader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CheckpointLoader::~CheckpointLoader() = default;

std::int64_t CheckpointLoader::n_tokens() const {
    return static_cast<std::int64_t>(impl_->tokens.size());
}
std::size_t CheckpointLoader::rows_bytes(std::int64_t n_more) const {
    return static_cast<std::size_t>(n_more) * sizeof(TokenId);
}
std::size_t CheckpointLoader::state_bytes(std::int64_t) const {
    return sizeof(TokenId);
}
void CheckpointLoader::add(std::span<const TokenId> tokens, std::span<const std::byte> rows) {
    if (rows.size() != tokens.size_bytes()) throw Error("rows and tokens are not as many");
    impl_->tokens.insert(impl_->tokens.end(), tokens.begin(), tokens.end());
}
CheckpointPtr CheckpointLoader::finish(std::span<const std::byte>, std::span<const float> logits) {
    return CheckpointPtr(new Checkpoint(
        std::make_unique<Checkpoint::Impl>(Checkpoint::Impl{impl_->tokens, {logits.begin(), logits.end()}})));
}

// ---- Engine ----

std::unique_ptr<Engine> Engine::open(const EngineOptions& options) {
    return std::unique_ptr<Engine>(new Engine(std::make_unique<Impl>(options)));
}
Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

const ModelInfo& Engine::info() const {
    return impl_->info;
}
std::string Engine::backend_description() const {
    return "scripted";
}
bool Engine::has_device_memory() const {
    return false;
}
bool Engine::has_tokenizer() const {
    return true;
}
const tokenizer::Tokenizer& Engine::tokenizer() const {
    return *impl_->tokenizer;
}
MemoryPlan Engine::memory_plan(std::int64_t) const {
    return {};
}
std::int64_t Engine::max_batch() const {
    return impl_->options.max_batch > 0 ? impl_->options.max_batch : 512;
}
std::unique_ptr<CheckpointLoader> Engine::load_checkpoint() {
    return std::unique_ptr<CheckpointLoader>(
        new CheckpointLoader(std::make_unique<CheckpointLoader::Impl>()));
}
std::size_t Engine::kv_bytes() const {
    return impl_->n_held_tokens * kBytesPerToken;
}
std::size_t Engine::kv_bytes_for(std::int64_t n_tokens) const {
    return static_cast<std::size_t>(n_tokens) * kBytesPerToken;
}
const std::string& Engine::kv_fingerprint() const {
    static const std::string fingerprint(40, '5');
    return fingerprint;
}
std::unique_ptr<Session> Engine::new_session(std::int64_t context) {
    return resume({}, context);
}
std::unique_ptr<Session> Engine::resume(std::span<const CheckpointPtr> points, std::int64_t context) {
    if (context > impl_->info.max_context) throw ContextError("the script's context is smaller");
    const std::int64_t n = context > 0 ? context : impl_->info.max_context;
    auto session = std::make_unique<Session::Impl>(*this, n);
    if (!points.empty()) {
        session->points.assign(points.begin(), points.end());
        session->tokens = points.back()->tokens();
        session->choose();
    }
    return std::unique_ptr<Session>(new Session(std::move(session)));
}

void Engine::step(std::span<const Work> work) {
    const std::lock_guard lock(impl_->step_mutex);
    {
        const std::lock_guard listener_lock(listener_mutex);
        if (listener) listener(work);
    }
    if (impl_->has_failed) throw DeviceError("the scripted device is gone");
    for (const Work& w : work) w.session->impl_->fail_if_planned();
    Micros time = impl_->decode_time;
    for (const Work& w : work) {
        Session::Impl& session = *w.session->impl_;
        if (w.tokens.size() > 1) time += impl_->prefill_time * static_cast<int>(w.tokens.size());
        const auto start = w.session->n_tokens();
        if (w.on_logits == nullptr) {
            session.append(w.tokens);
            continue;
        }
        for (std::size_t i = 0; i < w.tokens.size(); ++i) {
            session.append(w.tokens.subspan(i, 1));
            (*w.on_logits)(start + static_cast<std::int64_t>(i), session.logits);
        }
    }
    if (time.count() > 0) std::this_thread::sleep_for(time);
}

void Engine::restart() {
    if (impl_->n_sessions != 0) throw Error("there are sessions");
    if (impl_->loses_device) throw DeviceLostError("the scripted device is lost; restart the program");
    if (impl_->n_failed_restarts-- > 0) throw DeviceError("the scripted device does not restart");
    impl_->has_failed = false;
}

// ---- Session ----

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::~Session() = default;

std::span<const TokenId> Session::tokens() const {
    return impl_->tokens;
}
std::int64_t Session::context() const {
    return impl_->context;
}
std::size_t Session::bytes() const {
    return impl_->tokens.size() * sizeof(TokenId);
}
std::span<const float> Session::logits() const {
    return impl_->logits;
}

TokenId Session::best() const {
    return impl_->chosen;
}

std::span<const CheckpointPtr> Session::points() const {
    return impl_->points;
}

CheckpointPtr Session::mark() {
    if (n_tokens() == 0) return nullptr;
    auto& points = impl_->points;
    if (points.empty() || points.back()->n_tokens() != n_tokens()) {
        points.push_back(CheckpointPtr(new Checkpoint(
            std::make_unique<Checkpoint::Impl>(Checkpoint::Impl{impl_->tokens, impl_->logits}))));
    }
    return points.back();
}

void Session::keep_points(std::size_t n) {
    while (impl_->points.size() > n) impl_->points.erase(impl_->points.begin());
}

std::int64_t Session::rewind(std::int64_t n) {
    if (n == n_tokens()) return n;
    auto& points = impl_->points;
    while (!points.empty() && points.back()->n_tokens() > n) points.pop_back();
    impl_->tokens = points.empty() ? std::vector<TokenId>{} : points.back()->tokens();
    impl_->plan.clear();
    impl_->count();
    if (!impl_->tokens.empty()) impl_->choose();
    return n_tokens();
}

}  // namespace ds4
