// A decoded token allocates nothing and calls the kernel for nothing but to wait for other threads. The
// limits that grow with the text (pages of the state, points, working memory) are passed by: the steps looked
// at lie between them. Not for sanitizer builds, which allocate and call on their own.
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <vector>

#include "ds4/engine.h"

namespace {
std::atomic<bool> counting{false};
std::atomic<int> allocations{0};

void count() {
    if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1, std::memory_order_relaxed);
}
}  // namespace

// The C library's allocator under its own names, counted; operator new ends here, too.
extern "C" {
void* __libc_malloc(std::size_t n);
void* __libc_calloc(std::size_t n, std::size_t size);
void* __libc_realloc(void* p, std::size_t n);
void* __libc_memalign(std::size_t alignment, std::size_t n);

void* malloc(std::size_t n) {
    count();
    return __libc_malloc(n);
}
void* calloc(std::size_t n, std::size_t size) {
    count();
    return __libc_calloc(n, size);
}
void* realloc(void* p, std::size_t n) {
    count();
    return __libc_realloc(p, n);
}
void* aligned_alloc(std::size_t alignment, std::size_t n) {
    count();
    return __libc_memalign(alignment, n);
}
}

namespace ds4 {
namespace {

void print_and_exit(int /*signal*/, siginfo_t* info, void* /*context*/) {
    std::fprintf(stderr, "system call %d in the decode loop\n", info->si_syscall);
    ::_exit(1);
}

// From now on every thread may only wait, wake, print and end; another call raises SIGSYS.
void forbid_system_calls() {
    struct sigaction action {};
    action.sa_sigaction = print_and_exit;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGSYS, &action, nullptr);
    const auto allow = [](unsigned number) {
        return sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
    };
    const sock_filter yes = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    const sock_filter no = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    sock_filter filter[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                            allow(SYS_futex),
                            yes,
                            allow(SYS_sched_yield),
                            yes,
                            allow(SYS_write),
                            yes,
                            allow(SYS_exit_group),
                            yes,
                            no};
    const sock_fprog program{static_cast<unsigned short>(std::size(filter)), filter};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0) {
        std::perror("seccomp");
        ::_exit(2);
    }
}

void decode() {
    EngineOptions options;
    options.model = DS4_TEST_DATA "/../../models/ds4-tiny.gguf";
    options.threads = 2;
    const std::unique_ptr<Engine> engine = Engine::open(options);
    const std::unique_ptr<Session> session = engine->new_session(1024);
    std::vector<TokenId> prompt(300);
    std::iota(prompt.begin(), prompt.end(), 100);
    session->append(prompt);
    const auto step = [&](TokenId token) { session->append({&token, 1}); };
    for (int i = 0; i < 20; ++i) step(7);
    forbid_system_calls();
    counting = true;
    // Closes windows of both ratios and selects rows.
    while (session->n_tokens() < 387) step(static_cast<TokenId>(session->n_tokens()));
    counting = false;
    if (allocations != 0) std::fprintf(stderr, "%d allocations in the decode loop\n", allocations.load());
    ::_exit(allocations == 0 ? 0 : 1);
}

TEST(DecodeCalls, NoAllocationAndNoSystemCall) {
    EXPECT_EXIT(decode(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace ds4
