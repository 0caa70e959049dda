#pragma once

#include <map>
#include <string>
#include <vector>

#include "chat/messages.h"
#include "server/fields.h"
#include "server/responses.h"

namespace ds4::server {

// The tools of a request and of the tool searches in its history.
class ResponsesTools {
  public:
    // Adds what a list of tools declares and returns their names in the prompt; types that run on the
    // vendor's servers are left out. A name that collides gets underscores.
    std::vector<std::string> add(const Field& list, const std::string& name_space = "");
    // The name that the prompt has for a tool. One that was never declared keeps its name.
    std::string prompt_name(const ResponsesTool& tool) const;

    const std::vector<std::string>& schemas() const { return schemas_; }
    const std::map<std::string, ResponsesTool>& by_prompt_name() const { return by_prompt_name_; }

  private:
    std::string add_tool(ResponsesTool tool, const Field& declaration);

    std::vector<std::string> schemas_;  // as Conversation::tools
    std::map<std::string, ResponsesTool> by_prompt_name_;
};

// The items of `input` as messages. Tool searches in it add to `tools`. Throws ApiError.
std::vector<chat::Message> read_items(const Field& input, ResponsesTools& tools);

}  // namespace ds4::server
