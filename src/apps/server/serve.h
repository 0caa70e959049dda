#pragma once

#include <chrono>

namespace ds4::server_app {

// What main() does. Returns the exit status. A server that loses its GPU (DeviceLostError) becomes a new one
// with the same arguments. One that loses it sooner than `least_uptime` after its start ends with 1 instead:
// a machine that is broken should not be busy with that.
int run(int argc, char** argv, std::chrono::milliseconds least_uptime = std::chrono::seconds(30));

}  // namespace ds4::server_app
