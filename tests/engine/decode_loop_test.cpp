// A decoded token costs no allocation, and no system call but those by which threads wait for each other. The
// loop is taken between the growth steps of the state: a page of rows every 256 tokens, a point to go back to
// every 512 or so.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

#include "ds4/engine.h"
#include "synth/small_model.h"
#include "temporary_directory.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define DS4_SANITIZED 1
#else
#define DS4_SANITIZED 0
#endif

namespace {

std::atomic<bool> counting{false};
std::atomic<int> n_allocations{0};
std::atomic<std::size_t> first_size{0};  // for the message

void count(std::size_t bytes) {
    if (!counting.load(std::memory_order_relaxed)) return;
    if (n_allocations.fetch_add(1) == 0) first_size = bytes;
}

}  // namespace

#if DS4_SANITIZED
// Sanitizers have the C functions; the operators are ours to replace.
void* operator new(std::size_t bytes) {
    count(bytes);
    if (void* memory = std::malloc(bytes)) return memory;
    throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
    std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
    std::free(memory);
}
#else
// All memory comes from these, that of operator new as well.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t bytes) {
    count(bytes);
    return __libc_malloc(bytes);
}
void* calloc(std::size_t n, std::size_t bytes) {
    count(n * bytes);
    return __libc_calloc(n, bytes);
}
void* realloc(void* memory, std::size_t bytes) {
    count(bytes);
    return __libc_realloc(memory, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
    count(bytes);
    return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** memory, std::size_t alignment, std::size_t bytes) {
    count(bytes);
    *memory = __libc_memalign(alignment, bytes);
    return *memory == nullptr ? ENOMEM : 0;
}
}
#endif

namespace ds4 {
namespace {

constexpr std::int64_t kResumed = 257;  // one token into the second page
constexpr std::int64_t kPrefill = 240;  // on from there, nearly to the third
constexpr std::int64_t kWarmUp = 10;
constexpr std::int64_t kLonger = 640;

class DecodeLoop {
  public:
    DecodeLoop() {
        // Q8_0, Q2_K, IQ2_XXS, F16 and F32; all kinds of layers; an indexer that chooses.
        const synth::SynthOptions model = test::small_model(directory_ / "model.gguf");
        synth::write_model(model);
        EngineOptions o;
        o.model = model.out;
        o.threads = 2;
        engine_ = Engine::open(o);
        // Working memory lengthens with the context, by halves, and stays: an earlier conversation was
        // longer.
        session_ = engine_->new_session();
        append(kLonger);
        decode(1);
        session_ = engine_->new_session();
        append(kResumed);
        const CheckpointPtr point = session_->mark();
        session_ = engine_->resume({&point, 1});
        append(kPrefill);
        decode(kWarmUp);
    }

    std::int64_t n_tokens() const { return session_->n_tokens(); }

    // Greedy and drawn choices in turn.
    void decode(std::int64_t n) {
        Sampling sampling;
        for (std::int64_t i = 0; i < n; ++i) {
            sampling.temperature = n_tokens() % 2 == 0 ? 0.0F : 1.0F;
            sampling.top_p = n_tokens() % 4 == 1 ? 0.9F : 1.0F;
            const TokenId id = sample(session_->logits(), sampling, session_->n_tokens());
            session_->append({&id, 1});
        }
    }

  private:
    void append(std::int64_t n) {
        std::vector<TokenId> tokens(static_cast<std::size_t>(n));
        for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>(i * 31 % 1500);
        session_->append(tokens);
    }

    test::TemporaryDirectory directory_;
    std::unique_ptr<Engine> engine_;
    std::unique_ptr<Session> session_;
};

TEST(DecodeLoop, AllocatesOnlyWhereAPageIsFull) {
    DecodeLoop loop;
    std::vector<std::int64_t> allocating;  // tokens before the step
    allocating.reserve(16);
    while (loop.n_tokens() < 530 && allocating.size() < 16) {
        const std::int64_t before = loop.n_tokens();
        n_allocations = 0;
        counting = true;
        loop.decode(1);
        counting = false;
        if (n_allocations > 0) allocating.push_back(before);
    }
    EXPECT_THAT(allocating, testing::ElementsAre(512)) << "first of " << first_size << " bytes";
    n_allocations = 0;
}

// The counter itself works.
TEST(DecodeLoop, WouldSeeAnAllocation) {
    n_allocations = 0;
    counting = true;
    const std::vector<int> some(100);
    counting = false;
    EXPECT_EQ(n_allocations, 1);
    n_allocations = 0;
}

#if !DS4_SANITIZED  // their runtimes call the system for themselves

#if defined(__x86_64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr std::uint32_t kArchitecture = AUDIT_ARCH_AARCH64;
#endif

// Waiting and waking; the clock, where the kernel does not serve it without a call; the end; and for the
// message of the handler write() to standard error and the return from it.
constexpr std::array kAllowed = {SYS_futex,        SYS_sched_yield,     SYS_clock_gettime,
                                 SYS_rt_sigreturn, SYS_restart_syscall, SYS_exit_group};

void report_call(int, siginfo_t* info, void*) {
    std::array<char, 64> text{};
    const int n = std::snprintf(text.data(), text.size(), "system call %d\n", info->si_syscall);
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text.data(), static_cast<std::size_t>(n));
    ::_exit(1);
}

// From here on every other system call of any thread ends the process with a line that names it.
void forbid_calls() {
    struct sigaction action {};
    action.sa_sigaction = report_call;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGSYS, &action, nullptr);

    const auto load = [](std::size_t offset) {
        return sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(offset));
    };
    const auto end = [](std::uint32_t verdict) { return sock_filter BPF_STMT(BPF_RET | BPF_K, verdict); };
    // Skips the next statement unless the loaded word is `value`.
    const auto unless = [](std::uint32_t value) {
        return sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1);
    };
    std::vector<sock_filter> filter = {load(offsetof(seccomp_data, arch)),
                                       sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kArchitecture, 1, 0),
                                       end(SECCOMP_RET_KILL_PROCESS), load(offsetof(seccomp_data, nr))};
    for (const auto call : kAllowed) {
        filter.push_back(unless(static_cast<std::uint32_t>(call)));
        filter.push_back(end(SECCOMP_RET_ALLOW));
    }
    filter.push_back(sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 0, 3));
    filter.push_back(load(offsetof(seccomp_data, args)));
    filter.push_back(unless(STDERR_FILENO));
    filter.push_back(end(SECCOMP_RET_ALLOW));
    filter.push_back(end(SECCOMP_RET_TRAP));
    const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
    const bool done =
        ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
        ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0;
    if (!done) {
        std::perror("seccomp");
        ::_exit(2);
    }
}

TEST(DecodeLoopDeathTest, CallsNothingOfTheSystemButToWait) {
    const auto decode = [] {
        DecodeLoop loop;
        loop.decode(10);  // over the end of the page
        forbid_calls();
        loop.decode(150);
        ::_exit(0);
    };
    EXPECT_EXIT(decode(), testing::ExitedWithCode(0), "");
}

// The filter itself works, in every thread.
TEST(DecodeLoopDeathTest, WouldSeeACall) {
    const auto call = [] {
        forbid_calls();
        ::getppid();
        ::_exit(0);
    };
    EXPECT_EXIT(call(), testing::ExitedWithCode(1), "system call " + std::to_string(SYS_getppid));
}

#endif

}  // namespace
}  // namespace ds4
