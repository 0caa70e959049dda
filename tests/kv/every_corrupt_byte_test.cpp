#include "kv/corrupt_bytes.h"

namespace ds4::test {
namespace {

TEST_F(CorruptBytes, EveryOneIsSeen) {
    change_every(1);
}

}  // namespace
}  // namespace ds4::test
