#include "kv/crash.h"

namespace ds4::test {
namespace {

TEST_F(Crashes, LeaveWholeFiles) {
    kill_while_saving(15);
}

TEST_F(Crashes, TwoServersKeepOneBudget) {
    stop_two_while_saving(150);
}

}  // namespace
}  // namespace ds4::test
