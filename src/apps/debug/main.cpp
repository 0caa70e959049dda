#include "apps/app.h"
#include "apps/debug/commands.h"

int main(int argc, char** argv) {
    CLI::App app("For tests and for people who chase numbers.", "ds4-debug");
    app.require_subcommand(1);
    ds4::debug::Run run;
    ds4::debug::add_logits(app, run);
    ds4::debug::add_tokenize(app, run);
    ds4::debug::add_render(app, run);
    ds4::debug::add_inspect(app, run);
    ds4::debug::add_kv(app, run);
    return ds4::app::main_with(app, argc, argv, [&] { return run(); });
}
