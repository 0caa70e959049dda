#pragma once

#include <functional>
#include <span>

#include "ds4/engine.h"

namespace ds4::test {

// Called for every step of every scripted engine before it is taken. Empty: nobody is.
using StepListener = std::function<void(std::span<const Engine::Work>)>;
void set_step_listener(StepListener listener);

}  // namespace ds4::test
