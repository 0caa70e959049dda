#include "ds4/checkpoint.h"

#include <string>

#include "ds4/error.h"
#include "engine/engine_impl.h"

namespace ds4 {

Checkpoint::Checkpoint(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Checkpoint::~Checkpoint() = default;

std::int64_t Checkpoint::n_tokens() const {
    return impl_->kv.n_tokens;
}
std::vector<TokenId> Checkpoint::tokens(std::int64_t from) const {
    return impl_->kv.tokens(from);
}
std::size_t Checkpoint::bytes() const {
    return impl_->kv.held.get() + impl_->held.get();
}
std::size_t Checkpoint::rows_bytes(std::int64_t from) const {
    return impl_->engine.layout.rows_bytes(from, n_tokens());
}
std::span<const std::byte> Checkpoint::state() const {
    return impl_->kv.state;
}
std::span<const float> Checkpoint::logits() const {
    return impl_->logits;
}

void Checkpoint::read_rows(std::int64_t from, std::span<std::byte> out) const {
    ds4::read_rows(impl_->engine.layout, *impl_->engine.running().backend, impl_->kv, from, out.data());
}

// ---- CheckpointLoader ----

struct CheckpointLoader::Impl {
    explicit Impl(Engine::Impl& e) : engine(e), builder(e.layout, *e.running().backend, e.meter) {}

    Engine::Impl& engine;
    KvBuilder builder;
};

CheckpointLoader::CheckpointLoader(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CheckpointLoader::~CheckpointLoader() = default;

std::int64_t CheckpointLoader::n_tokens() const {
    return impl_->builder.n_tokens();
}
std::size_t CheckpointLoader::rows_bytes(std::int64_t n_more) const {
    return impl_->engine.layout.rows_bytes(n_tokens(), n_tokens() + n_more);
}
std::size_t CheckpointLoader::state_bytes(std::int64_t n_more) const {
    return impl_->engine.layout.state_bytes(n_tokens() + n_more);
}

void CheckpointLoader::add(std::span<const TokenId> tokens, std::span<const std::byte> rows) {
    for (const TokenId token : tokens) impl_->engine.check_token(token);
    impl_->builder.add(tokens, rows);
}

CheckpointPtr CheckpointLoader::finish(std::span<const std::byte> state, std::span<const float> logits) {
    Engine::Impl& engine = impl_->engine;
    if (static_cast<std::int64_t>(logits.size()) != engine.config.vocab) {
        throw Error("a checkpoint has " + std::to_string(logits.size()) + " logits, the vocabulary " +
                    std::to_string(engine.config.vocab));
    }
    auto impl =
        std::make_unique<Checkpoint::Impl>(Checkpoint::Impl{engine,
                                                            impl_->builder.finish(state),
                                                            {logits.begin(), logits.end()},
                                                            KvBytes(engine.meter, logits.size_bytes())});
    return CheckpointPtr(new Checkpoint(std::move(impl)));
}

std::unique_ptr<CheckpointLoader> Engine::load_checkpoint() {
    auto impl = std::make_unique<CheckpointLoader::Impl>(*impl_);
    return std::unique_ptr<CheckpointLoader>(new CheckpointLoader(std::move(impl)));
}

}  // namespace ds4
