#pragma once

#include <string>
#include <vector>

namespace ds4::test {

struct ProgramResult {
    int status;  // exit status, or 128 + signal
    std::string out, err;
};

struct ProgramOptions {
    std::string input;                // standard input
    std::string directory;            // to run in; empty: here
    std::size_t file_size_limit = 0;  // bytes a file may grow to, as a full disk would stop it; 0: none
};

// Runs a program of the build with these arguments to its end.
ProgramResult run_program(const std::string& name, const std::vector<std::string>& arguments,
                          const ProgramOptions& options = {});

}  // namespace ds4::test
