#include "ds4/engine.h"

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include "backend/make_backend.h"
#include "backend/profiling.h"
#include "engine/device_plan.h"
#include "engine/engine_impl.h"
#include "engine/session_impl.h"
#include "model/workspace.h"

namespace ds4 {
namespace {

std::unique_ptr<Backend> make_backend(const EngineOptions& options) {
    auto backend = ds4::make_backend(options.backend, options.threads);
    if (!options.profile) return backend;
    return std::make_unique<ProfilingBackend>(std::move(backend));
}

EngineOptions complete(EngineOptions options, const Backend& backend) {
    if (options.max_batch == 0) options.max_batch = backend.good_step_rows();
    return options;
}

const char* section_of(const Config& config, std::int64_t layer) {
    if (layer == config.n_layers) return "output head";
    const std::int64_t ratio = config.ratio(layer);
    return ratio == 0 ? "SWA layers" : ratio == 4 ? "CSA layers" : "HCA layers";
}

// A model without a tokenizer is complete for callers that speak in token ids (ds4-convert makes such files
// from checkpoints that have none).
std::optional<tokenizer::Tokenizer> load_tokenizer(const gguf::File& file, const Config& config) {
    if (file.find("tokenizer.ggml.tokens") == nullptr) return std::nullopt;
    tokenizer::Tokenizer tokenizer(tokenizer::Vocabulary::from_gguf(file));
    if (tokenizer.size() != config.vocab) {
        throw ModelError(file.path().string() + ": tokenizer.ggml.tokens has " +
                         std::to_string(tokenizer.size()) + " entries, deepseek4.vocab_size says " +
                         std::to_string(config.vocab));
    }
    return tokenizer;
}

// 2.06 and 4.25 bits are called 2 and 4.
int bits_of(quant::Type type) {
    const quant::Format& f = quant::format(type);
    const auto bits = static_cast<unsigned>(8 * f.block_bytes / f.block_elems);
    return static_cast<int>(std::bit_floor(bits));
}

quant::KvFormat kv_format(const EngineOptions& o) {
    if (!o.kv_rounding) return quant::KvFormat::f32;
    return o.kv_rows == KvRows::packed ? quant::KvFormat::packed
           : o.kv_rows == KvRows::f16  ? quant::KvFormat::f16
                                       : quant::KvFormat::f32;
}

ForwardOptions forward_options(const EngineOptions& o) {
    return {o.max_batch, o.kv_rounding, kv_format(o)};
}

std::optional<DevicePlan> make_plan(const gguf::File& file, const Config& config, const KvLayout& layout,
                                    const EngineOptions& options, const Backend& backend) {
    const std::optional<DeviceMemory> memory = backend.memory();
    if (!memory) return std::nullopt;
    return plan_device(file, config, layout, options, static_cast<double>(memory->free),
                       static_cast<double>(memory->total));
}

// What allocates as planned. Somebody else may have taken the memory since the plan was made.
template <class Allocate>
auto as_planned(const std::optional<DevicePlan>& plan, const EngineOptions& options, Allocate allocate) {
    try {
        return allocate();
    } catch (const DeviceMemoryError& error) {
        if (!plan) throw;
        throw DeviceMemoryError(std::string(error.what()) + "; planned: " + plan->text(options));
    }
}

}  // namespace

Engine::Impl::Running::Running(const Impl& engine)
    : backend(make_backend(engine.options)),
      profiler(engine.options.profile ? static_cast<ProfilingBackend*>(backend.get()) : nullptr),
      options(complete(engine.options, *backend)),
      plan(make_plan(engine.file, engine.config, engine.layout, options, *backend)),
      store(engine.file, *backend),
      weights(as_planned(plan, options, [&] { return store.load_trunk(engine.config); })),
      forward(as_planned(plan, options, [&] {
          return Forward(*backend, engine.config, weights, forward_options(options));
      })) {
    if (profiler == nullptr) return;
    forward.probe = [this, &config = engine.config](std::int64_t layer, Rows) {
        profiler->enter(section_of(config, layer));
    };
}

Engine::Impl::Impl(const EngineOptions& o)
    : options(o),
      file(gguf::File::open(o.model)),
      config(Config::from_gguf(file)),
      tokenizer(load_tokenizer(file, config)),
      layout(config, config.ratios, kv_format(o)),
      running_or_null(std::make_unique<Running>(*this)),
      description(running_or_null->backend->description()),
      max_batch(running_or_null->options.max_batch),
      has_device_memory(running_or_null->plan.has_value()),
      fingerprint(ds4::kv_fingerprint(file, forward_options(o))) {
    info.name = file.find_string("general.name").value_or(o.model.filename().string());
    info.vocab = config.vocab;
    info.max_context = o.max_context > 0 ? o.max_context : config.max_context;
    info.n_layers = config.n_layers;
    info.expert_bits = bits_of(running_or_null->weights.layers.front().moe.routed.gate.type);
    info.effort_scheme = file.find_string("deepseek4.effort_scheme").value_or("");
}

Engine::Impl::Running& Engine::Impl::running() const {
    if (running_or_null == nullptr)
        throw DeviceError(description + ": has failed and could not be restarted");
    return *running_or_null;
}

std::unique_ptr<Engine> Engine::open(const EngineOptions& options) {
    return std::unique_ptr<Engine>(new Engine(std::make_unique<Impl>(options)));
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

const ModelInfo& Engine::info() const {
    return impl_->info;
}
std::string Engine::backend_description() const {
    return impl_->description;
}
bool Engine::has_device_memory() const {
    return impl_->has_device_memory;
}
bool Engine::has_tokenizer() const {
    return impl_->tokenizer.has_value();
}
std::int64_t Engine::max_batch() const {
    return impl_->max_batch;
}

const tokenizer::Tokenizer& Engine::tokenizer() const {
    if (!impl_->tokenizer) {
        throw TokenizerError(
            impl_->file.path().string() +
            ": the model has no tokenizer; convert it from a checkpoint with tokenizer.json");
    }
    return *impl_->tokenizer;
}

MemoryPlan Engine::memory_plan(std::int64_t context) const {
    MemoryPlan plan;
    plan.weights = static_cast<double>(impl_->file.data_bytes());
    plan.kv_state = static_cast<double>(impl_->layout.bytes_for(context));
    plan.activations = static_cast<double>(Workspace::bytes_for(impl_->config, impl_->max_batch));
    return plan;
}

std::int64_t Engine::Impl::check_context(std::int64_t context) const {
    if (context > info.max_context) {
        throw ContextError("a context of " + std::to_string(context) + " tokens is more than the model's " +
                           std::to_string(info.max_context));
    }
    return context > 0 ? context : info.max_context;
}

std::unique_ptr<Session> Engine::new_session(std::int64_t context) {
    return resume({}, context);
}

std::unique_ptr<Session> Engine::resume(std::span<const CheckpointPtr> points, std::int64_t context) {
    const std::int64_t n = impl_->check_context(context);
    auto session = std::make_unique<Session::Impl>(
        *this, std::make_unique<KvState>(impl_->layout, *impl_->running().backend, impl_->meter), n);
    if (!points.empty()) {
        const Checkpoint::Impl& last = *points.back()->impl_;
        if (last.kv.n_tokens > n) session->check_room(last.kv.n_tokens);
        session->kv->restore(last.kv);
        session->logits = last.logits;
        session->points.assign(points.begin(), points.end());
    }
    return std::unique_ptr<Session>(new Session(std::move(session)));
}

std::vector<OpProfile> Engine::take_profile() {
    ProfilingBackend* const profiler = impl_->running().profiler;
    return profiler != nullptr ? profiler->take() : std::vector<OpProfile>{};
}

std::size_t Engine::kv_bytes() const {
    return *impl_->meter;
}
std::size_t Engine::kv_bytes_for(std::int64_t n_tokens) const {
    return impl_->layout.bytes_for(n_tokens);
}
const std::string& Engine::kv_fingerprint() const {
    return impl_->fingerprint;
}

void Engine::Impl::check_token(TokenId token) const {
    if (token >= 0 && token < config.vocab) return;
    throw Error("token " + std::to_string(token) + " is outside the vocabulary of " +
                std::to_string(config.vocab));
}

void Engine::Impl::check(std::span<const Work> work) const {
    std::int64_t n_rows = 0;
    for (const Work& w : work) {
        w.session->impl_->check_room(static_cast<std::int64_t>(w.tokens.size()));
        n_rows += static_cast<std::int64_t>(w.tokens.size());
        for (const TokenId t : w.tokens) check_token(t);
    }
    if (n_rows > max_batch) {
        throw Error("a step of " + std::to_string(n_rows) + " rows is more than max_batch " +
                    std::to_string(max_batch));
    }
}

void Engine::Impl::collect(std::span<const Work> work) {
    tokens.clear();
    positions.clear();
    segments.clear();
    states.clear();
    for (const Work& w : work) {
        const std::int64_t start = w.session->n_tokens();
        const auto n = static_cast<std::int64_t>(w.tokens.size());
        segments.push_back({static_cast<std::int64_t>(tokens.size()), n, start, !w.is_generated});
        states.push_back(w.session->impl_->kv.get());
        tokens.insert(tokens.end(), w.tokens.begin(), w.tokens.end());
        for (std::int64_t i = 0; i < n; ++i) positions.push_back(static_cast<std::int32_t>(start + i));
    }
}

// The output matrix is the largest of all, so the sessions that want their last row only share one pass.
void Engine::Impl::finish(std::span<const Work> work) {
    clear_workspace(work);
    const bool can_stay = static_cast<std::int64_t>(work.size()) <= Workspace::kHeadRows;
    last_rows.clear();
    for (std::size_t i = 0; i < work.size(); ++i) {
        const Segment& segment = segments[i];
        if (segment.n_rows == 0) continue;
        Session::Impl& session = *work[i].session->impl_;
        std::vector<float>& logits = session.logits;
        logits.resize(static_cast<std::size_t>(config.vocab));
        if (work[i].on_logits == nullptr) {
            HeadRow last{segment.first_row + segment.n_rows - 1, logits.data(), nullptr};
            if (can_stay && work[i].wants_best) {
                session.far_logits =
                    running().forward.workspace().logits.row(static_cast<std::int64_t>(last_rows.size()));
                session.has_left_logits = true;
                far_sessions.push_back(&session);
                last.host = nullptr;
                last.best = &session.best.emplace();
            }
            last_rows.push_back(last);
            continue;
        }
        for (std::int64_t row = 0; row < segment.n_rows; ++row) {
            running().forward.logits(segment.first_row + row, 1, logits.data());
            (*work[i].on_logits)(segment.start + row, logits);
        }
    }
    running().forward.logits(last_rows);
    for (std::size_t i = 0; i < work.size(); ++i) {
        if (segments[i].n_rows != 0) work[i].session->impl_->mark_sometimes();
    }
}

void Engine::Impl::fetch_logits(Session::Impl& session) {
    if (session.far_logits == nullptr) return;
    running().backend->download(session.logits.data(), session.far_logits,
                                session.logits.size() * sizeof(float));
    session.far_logits = nullptr;
    std::erase(far_sessions, &session);
}

void Engine::Impl::clear_workspace(std::span<const Work> work) {
    for (const Work& w : work) {
        if (w.tokens.empty()) continue;
        Session::Impl& session = *w.session->impl_;
        session.best.reset();
        session.far_logits = nullptr;
        std::erase(far_sessions, &session);
    }
    while (!far_sessions.empty()) fetch_logits(*far_sessions.back());
}

void Engine::step(std::span<const Work> work) {
    const std::lock_guard lock(impl_->step_mutex);
    impl_->check(work);
    impl_->collect(work);
    if (impl_->tokens.empty()) return;
    Impl::Running& on = impl_->running();
    if (on.profiler != nullptr) on.profiler->enter("embedding");
    on.forward.run({impl_->tokens, impl_->positions, impl_->segments}, impl_->states);
    try {
        impl_->finish(work);
    } catch (const DeviceMemoryError& error) {
        throw DeviceError(error.what());  // the sessions are not what they were
    }
}

void Engine::restart() {
    const std::lock_guard lock(impl_->step_mutex);
    if (*impl_->meter != 0) throw Error("the engine cannot restart while there are sessions or checkpoints");
    impl_->running_or_null.reset();  // its memory is needed
    impl_->running_or_null = std::make_unique<Impl::Running>(*impl_);
}

}  // namespace ds4
