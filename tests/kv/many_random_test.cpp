#include "kv/random_operations.h"

namespace ds4::test {
namespace {

TEST_F(RandomOperations, TenThousand) {
    run(10'000, 2);
}

}  // namespace
}  // namespace ds4::test
