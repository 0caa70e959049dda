#pragma once

#include "apps/chat/options.h"
#include "ds4/engine.h"

// What ds4 can be asked to do, one function each. All return the exit status and throw ds4::Error.
namespace ds4::chat_app {

int run_once(Engine& engine, const Options& options);
int run_interactive(Engine& engine, const Options& options);
int run_dump_tokens(Engine& engine, const Options& options);
int run_perplexity(Engine& engine, const Options& options);

}  // namespace ds4::chat_app
