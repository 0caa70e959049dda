#include "kv/crash.h"

namespace ds4::test {
namespace {

TEST_F(Crashes, TwoHundredTimes) {
    kill_while_saving(200);
}

}  // namespace
}  // namespace ds4::test
