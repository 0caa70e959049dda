#pragma once

#include <string>
#include <string_view>

namespace ds4 {

// Text of unknown origin for a one-line message: everything but printable ASCII becomes \xNN, long text is
// cut.
std::string printable(std::string_view text);

}  // namespace ds4
