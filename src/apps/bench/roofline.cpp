// ds4-bench roofline: what this machine can do at best, and how fast that lets a model be.
#include <cstdio>
#include <memory>

#include "apps/app.h"
#include "apps/bench/ceiling.h"
#include "apps/bench/commands.h"
#include "ds4/error.h"
#include "gguf/gguf.h"
#include "gguf/printable.h"

namespace ds4::bench {
namespace {

struct Options {
    std::filesystem::path model;
    int threads = 0;
    std::int64_t context = 2048;
    std::int64_t chunk = 512;
    std::size_t read_mb = 1024;
};

void print_machine(const MachineLimits& m) {
    std::printf("this machine, %d threads at the same time\n", m.threads);
    std::printf("  reading memory     %9.2f GB/s\n", m.read_bytes / 1e9);
    std::printf("  int8 products      %9.1f GOP/s  (%s; a product and its sum are two)\n", m.int8_ops / 1e9,
                m.instructions.c_str());
    std::printf("  f32 products       %9.1f GOP/s\n", m.f32_ops / 1e9);
}

void print_costs(const std::vector<ClassCost>& costs, const MachineLimits& machine) {
    std::printf("  %-28s %12s %12s %12s %10s %10s\n", "class", "MB", "int8 MOP", "f32 MOP", "memory ms",
                "compute ms");
    const auto print = [&](std::string_view title, const Cost& cost) {
        const Ceiling ceiling(machine, cost);
        std::printf("  %-28.*s %12.3f %12.3f %12.3f %10.3f %10.3f\n", static_cast<int>(title.size()),
                    title.data(), cost.bytes / 1e6, cost.int8_ops / 1e6, cost.f32_ops / 1e6,
                    ceiling.memory * 1e3, ceiling.arithmetic * 1e3);
    };
    for (const ClassCost& c : costs) print(c.title, c.cost);
    print("total", total_cost(costs));
}

void print_ceiling(const Ceiling& ceiling, double n_tokens) {
    std::printf("  ceiling %.2f tokens/s: memory allows %.2f, arithmetic %.2f\n",
                n_tokens / ceiling.seconds(), n_tokens / ceiling.memory, n_tokens / ceiling.arithmetic);
}

int run(const Options& o) {
    const gguf::File file = gguf::File::open(app::find_model(o.model));
    const Config config = Config::from_gguf(file);
    if (o.context + o.chunk > config.max_context) {
        throw ContextError("--ctx " + std::to_string(o.context) + " and --chunk " + std::to_string(o.chunk) +
                           " are more than the model's " + std::to_string(config.max_context) + " tokens");
    }
    const MachineLimits machine = measure_machine(o.threads, o.read_mb << 20);
    print_machine(machine);

    std::printf("\n%s: %s of weights\n", printable(file.path().string()).c_str(),
                app::human_bytes(static_cast<double>(file.data_bytes())).c_str());
    std::printf("\ndecode of one token after %lld\n", static_cast<long long>(o.context));
    const auto decode = step_costs(file.tensors(), config, {o.context, 1});
    print_costs(decode, machine);
    print_ceiling(Ceiling(machine, total_cost(decode)), 1);

    std::printf("\nprefill of %lld tokens after %lld\n", static_cast<long long>(o.chunk),
                static_cast<long long>(o.context));
    const auto prefill = step_costs(file.tensors(), config, {o.context, o.chunk});
    print_costs(prefill, machine);
    print_ceiling(Ceiling(machine, total_cost(prefill)), static_cast<double>(o.chunk));
    return 0;
}

}  // namespace

void add_roofline(CLI::App& app, Run& run_command) {
    CLI::App* command =
        app.add_subcommand("roofline", "What this machine can do at best, and how fast that lets a model be");
    auto o = std::make_shared<Options>();
    command->add_option("-m,--model", o->model, "GGUF file (default: as ds4)");
    command->add_option("-t,--threads", o->threads, "Threads; 0 is one per core (0)")
        ->check(CLI::Range(0, 4096));
    command->add_option("--ctx", o->context, "Tokens before the decoded one and before the chunk (2048)")
        ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 31));
    command->add_option("--chunk", o->chunk, "Tokens of a prefill step (512)")->check(CLI::Range(1, 65536));
    command
        ->add_option("--read-mb", o->read_mb, "Memory that is read, in MiB; more than all caches hold (1024)")
        ->check(CLI::Range(16, 1 << 20));
    command->callback([&run_command, o] { run_command = [o] { return run(*o); }; });
}

}  // namespace ds4::bench
