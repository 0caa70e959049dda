#pragma once

#include <string_view>

namespace ds4::server {

// page.html, the chat page at "/", as it was when this was built.
std::string_view web_page();

}  // namespace ds4::server
