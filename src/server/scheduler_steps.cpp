// What goes into a step of the model, and what comes of it.
#include <algorithm>
#include <limits>
#include <utility>

#include "server/log.h"
#include "server/scheduler.h"

namespace ds4::server {
namespace {

using Clock = std::chrono::steady_clock;

// Before anything was measured: small enough for a slow machine's first step.
constexpr std::int64_t kFirstChunk = 64;
constexpr std::int64_t kSmallestChunk = 16;
// Weight of the newest step in the measured rate.
constexpr double kRateWeight = 0.3;
// States there are a fraction of the size of others (Session::Impl::kCheapPoint).
constexpr std::int64_t kGoodChunkEnd = 128;

}  // namespace

std::int64_t Scheduler::prefill_chunk() const {
    if (prefill_rate_ <= 0) return std::min(kFirstChunk, engine_.max_batch());
    const double rows = prefill_rate_ * std::chrono::duration<double>(options_.max_step).count();
    if (rows >= static_cast<double>(engine_.max_batch())) return engine_.max_batch();
    return std::max(std::min(kSmallestChunk, engine_.max_batch()), static_cast<std::int64_t>(rows));
}

std::span<const TokenId> Scheduler::decode_token(Slot& slot) {
    while (slot.job != nullptr && !slot.is_prefilling()) {
        Session& session = *slot.session;
        const std::int64_t room = session.context() - session.n_tokens();
        const auto drawn = std::exchange(slot.drawn, {});  // for this answer, not for the next one
        const auto tokens = room > 0 ? slot.job->next(session, drawn) : std::span<const TokenId>{};
        if (room <= 0 || static_cast<std::int64_t>(tokens.size()) > room) {
            slot.job->on_context_full();
        } else if (tokens.size() == 1) {
            return tokens;
        } else if (!tokens.empty()) {
            // Forced text goes in as a prompt does.
            slot.prompt_observer = nullptr;
            slot.target.assign(session.tokens().begin(), session.tokens().end());
            slot.target.insert(slot.target.end(), tokens.begin(), tokens.end());
            return {};
        }
        finish(slot, nullptr);
    }
    return {};
}

// Nothing but the draws is done on several threads: what a token means to its answer is told to the client in
// order.
void Scheduler::draw_tokens() {
    draws_.clear();
    for (Slot& slot : slots_) {
        slot.drawn.reset();
        if (!slot.is_active() || slot.is_prefilling()) continue;
        guarded(slot, [&] {
            if (const auto sampling = slot.job->sampling())
                draws_.push_back({&slot, *sampling, slot.session->logits()});
        });
    }
    sampling_pool_.parallel_for(draws_.size(), [this](std::size_t begin, std::size_t end) {
        for (const Draw& draw : std::span(draws_).subspan(begin, end - begin))
            draw.slot->drawn = sample(draw.logits, draw.sampling, draw.slot->session->n_tokens());
    });
}

void Scheduler::add_decode(std::vector<Engine::Work>& work) {
    draw_tokens();
    for (Slot& slot : slots_) {
        if (!slot.is_active() || slot.is_prefilling()) continue;
        guarded(slot, [&] {
            const auto token = decode_token(slot);
            if (!token.empty())
                work.push_back({slot.session.get(), token, nullptr, true, slot.job->wants_best()});
        });
    }
}

// The next place where a chunk has to end.
std::int64_t Scheduler::next_stop(const Slot& slot) const {
    const std::int64_t n = slot.session->n_tokens();
    const auto stop = std::upper_bound(slot.stops.begin(), slot.stops.end(), n);
    const std::int64_t end = static_cast<std::int64_t>(slot.target.size());
    return std::min({end, stop == slot.stops.end() ? end : *stop,
                     checkpointer_.has_disk() ? checkpointer_.policy().next_continued(n) : end});
}

// Prompts share a chunk, so that a short one need not wait for a long one.
void Scheduler::add_prefill(std::vector<Engine::Work>& work, std::int64_t room) {
    std::int64_t chunk = std::min(prefill_chunk(), room);
    std::vector<Slot*> waiting;
    for (Slot& slot : slots_) {
        if (slot.is_active() && slot.is_prefilling()) waiting.push_back(&slot);
    }
    std::sort(waiting.begin(), waiting.end(), [](const Slot* a, const Slot* b) {
        return static_cast<std::int64_t>(a->target.size()) - a->session->n_tokens() <
               static_cast<std::int64_t>(b->target.size()) - b->session->n_tokens();
    });
    for (std::size_t i = 0; i < waiting.size() && chunk > 0; ++i) {
        Slot& slot = *waiting[i];
        const std::int64_t share =
            std::max<std::int64_t>(1, chunk / static_cast<std::int64_t>(waiting.size() - i));
        const std::int64_t done = slot.session->n_tokens();
        std::int64_t n = std::min(next_stop(slot) - done, share);
        const std::int64_t good = (done + n) / kGoodChunkEnd * kGoodChunkEnd;
        if (done + n < static_cast<std::int64_t>(slot.target.size()) && n == share && good > done)
            n = good - done;
        // What follows the prompt is the answer's, also where it is forced or computed again.
        const bool is_generated = done >= slot.n_prompt;
        if (!is_generated) n = std::min(n, slot.n_prompt - done);
        work.push_back(
            {slot.session.get(),
             std::span(slot.target).subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(n)),
             slot.prompt_observer ? &slot.prompt_observer : nullptr, is_generated});
        chunk -= n;
    }
}

bool Scheduler::step() {
    std::vector<Engine::Work> work;
    add_decode(work);
    add_prefill(work, engine_.max_batch() - static_cast<std::int64_t>(work.size()));
    if (work.empty()) return false;
    fit_into_memory(work);
    run_step(work);
    return true;
}

void Scheduler::run_step(std::vector<Engine::Work>& work) {
    StepReport report;
    for (const Slot& slot : slots_) {
        for (const Engine::Work& w : work) {
            if (w.session != slot.session.get()) continue;
            (slot.is_prefilling() ? report.n_prefill_rows : report.n_decode_rows) +=
                static_cast<std::int64_t>(w.tokens.size());
        }
    }
    const auto begin = Clock::now();
    try {
        step_in_memory(work);
    } catch (const DeviceMemoryError& error) {
        return fail_step(work, {ErrorKind::unavailable, error.what()});
    } catch (const DeviceError&) {
        throw;  // of everybody
    } catch (const std::exception& error) {
        return fail_step(work, {ErrorKind::internal, error.what()});
    }
    report.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    if (report.n_prefill_rows > 0 && report.seconds > 0) {
        const double rate = static_cast<double>(report.n_prefill_rows) / report.seconds;
        prefill_rate_ = prefill_rate_ <= 0 ? rate : (1 - kRateWeight) * prefill_rate_ + kRateWeight * rate;
    }
    for (Slot& slot : slots_) {
        const bool took_part = std::any_of(
            work.begin(), work.end(), [&](const Engine::Work& w) { return w.session == slot.session.get(); });
        if (took_part) after_step(slot);
    }
    on_step_(report);
}

void Scheduler::after_step(Slot& slot) {
    slot.restored.reset();
    const std::int64_t n = slot.session->n_tokens();
    const bool is_stop = std::binary_search(slot.stops.begin(), slot.stops.end(), n);
    // The end of a prompt is where a second answer, or another question about it, will start.
    if (is_stop || n == slot.n_prompt) slot.session->mark();
    checkpointer_.after_step(slot);
    if (n <= slot.n_prompt) guarded(slot, [&] { slot.job->on_prefill(n); });
}

// What the sessions of a step that failed inside hold is not known, so they start anew. One that came from a
// file may fail for what was in it: that file goes, and its job gets another try.
void Scheduler::fail_step(std::span<const Engine::Work> work, const ApiError& failure) {
    for (Slot& slot : slots_) {
        const bool took_part = std::any_of(
            work.begin(), work.end(), [&](const Engine::Work& w) { return w.session == slot.session.get(); });
        if (!took_part) continue;
        if (failure.kind == ErrorKind::internal) {
            slot.session = make_session({});
            slot.n_saved = 0;
        }
        if (slot.restored && failure.kind == ErrorKind::internal) {
            checkpointer_.disk().reject(*std::exchange(slot.restored, std::nullopt), failure.what());
            slot.target = slot.job->prompt({}).tokens;
            slot.n_prompt = static_cast<std::int64_t>(slot.target.size());
        } else {
            finish(slot, &failure);
        }
    }
}

}  // namespace ds4::server
