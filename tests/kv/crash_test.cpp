#include "kv/crash.h"

namespace ds4::test {
namespace {

TEST_F(Crashes, LeaveWholeFiles) {
    kill_while_saving(15);
}

}  // namespace
}  // namespace ds4::test
