#pragma once

namespace ds4::app {

// Makes this process a new one of the same program, with these arguments (argv of main(), nullptr at the end)
// and the same environment, directory, id and standard streams; all other files are closed. Nothing that must
// end well may still be running. Throws Error if the system does not do it.
[[noreturn]] void start_anew(char** argv);

}  // namespace ds4::app
