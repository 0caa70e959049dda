#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <exception>
#include <iostream>

namespace ds4::test {

// Runs a check in a process of its own, which may give up rights or mount things. The check says what is
// wrong; nothing: all is well.
template <class Check>
void in_child(Check check) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        int status = 1;
        try {
            const std::string wrong = check();
            status = wrong.empty() ? 0 : 1;
            if (status != 0) std::cerr << wrong << std::endl;
        } catch (const std::exception& error) {
            std::cerr << error.what() << std::endl;
        }
        ::_exit(status);
    }
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "the child ended with " << status;
}

}  // namespace ds4::test
