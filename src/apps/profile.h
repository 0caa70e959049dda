#pragma once

#include <string>
#include <vector>

#include "ds4/profile.h"

namespace ds4::app {

// Joins profiles of several stretches.
void add_profile(std::vector<OpProfile>& sum, const std::vector<OpProfile>& more);

// Two tables, by operation and by part of the model, with achieved GB/s and GOP/s, of what took `seconds` in
// all. What is outside of operations has a line of its own.
std::string profile_text(const std::string& title, const std::vector<OpProfile>& profile, double seconds);

}  // namespace ds4::app
