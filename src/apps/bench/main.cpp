// ds4-bench: how fast things are on this machine.
#include "apps/app.h"
#include "apps/bench/commands.h"

int main(int argc, char** argv) {
    CLI::App app("Speeds of prefill and decode as the context grows; or what a command measures",
                 "ds4-bench");
    app.require_subcommand(0, 1);
    ds4::bench::Run run;
    ds4::bench::add_sweep(app, run);
    ds4::bench::add_kv(app, run);
    ds4::bench::add_replay(app, run);
    ds4::bench::add_serve(app, run);
    ds4::bench::add_roofline(app, run);
    return ds4::app::main_with(app, argc, argv, [&] { return run(); });
}
