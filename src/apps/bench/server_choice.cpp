#include "apps/bench/server_choice.h"

#include <utility>

namespace ds4::bench {

void ServerChoice::add_options(CLI::App& command) {
    CLI::Option* running = command.add_option("--url", url, "Running server (default: starts ds4-server)");
    command.add_option("--api-key", key, "Its key")->needs(running);
    command.add_option("-m,--model", model, "GGUF file of the server that is started")->excludes(running);
    command.add_option("server", options, "After --: more options of the server that is started")
        ->excludes(running);
}

ChosenServer::ChosenServer(const ServerChoice& choice, std::vector<std::string> own_options) {
    if (!choice.url.empty()) {
        address_ = parse_url(choice.url);
        address_.key = choice.key;
        return;
    }
    std::vector<std::string> arguments = std::move(own_options);
    if (!choice.model.empty()) arguments.insert(arguments.end(), {"-m", choice.model});
    arguments.insert(arguments.end(), choice.options.begin(), choice.options.end());
    child_ = std::make_unique<ChildServer>(std::move(arguments));
    address_ = child_->address();
}

}  // namespace ds4::bench
