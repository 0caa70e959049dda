#include "kv/random_operations.h"

namespace ds4::test {
namespace {

TEST_F(RandomOperations, FiveHundred) {
    run(500, 1);
}

}  // namespace
}  // namespace ds4::test
