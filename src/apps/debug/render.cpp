#include "chat/render.h"

#include <filesystem>
#include <iostream>
#include <memory>

#include "apps/app.h"
#include "apps/debug/commands.h"
#include "chat/messages.h"

namespace ds4::debug {

void add_render(CLI::App& app, Run& run) {
    CLI::App* command = app.add_subcommand("render", "The prompt text of a chat request");
    auto input = std::make_shared<std::filesystem::path>();
    command
        ->add_option("--in", *input, "Request as JSON: messages, tools, thinking mode; - is standard input")
        ->required();
    command->callback([input, &run] {
        run = [input] {
            std::cout << chat::to_text(chat::render(chat::parse_request(app::read_text(*input))));
            return 0;
        };
    });
}

}  // namespace ds4::debug
