#include "chat/render.h"

#include <filesystem>
#include <iostream>
#include <memory>

#include "apps/app.h"
#include "apps/debug/commands.h"
#include "chat/messages.h"

namespace ds4::debug {
namespace {

struct Options {
    std::filesystem::path input;
    bool no_think = false;
    bool vendor_exact = false;
};

int render(const Options& options) {
    chat::Conversation conversation = chat::parse_request(app::read_text(options.input));
    if (options.no_think) conversation.options.thinking = chat::ThinkingMode::chat;
    if (options.vendor_exact) conversation.options.behaviour = chat::Behaviour::vendor_exact;
    std::cout << chat::to_text(chat::render(conversation));
    return 0;
}

}  // namespace

void add_render(CLI::App& app, Run& run) {
    CLI::App* command = app.add_subcommand("render", "The prompt text of a chat request");
    auto options = std::make_shared<Options>();
    command
        ->add_option("--in", options->input,
                     "Request as JSON: messages, tools, thinking mode; - is standard input")
        ->required();
    command->add_flag("--nothink", options->no_think, "Render for an answer without thinking");
    command->add_flag("--vendor-exact", options->vendor_exact,
                      "Byte for byte what the vendor's encoder gives, quirks included");
    command->callback([options, &run] { run = [options] { return render(*options); }; });
}

}  // namespace ds4::debug
