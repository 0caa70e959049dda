#include "kv/corrupt_bytes.h"

namespace ds4::test {
namespace {

TEST_F(CorruptBytes, AreSeen) {
    change_every(97);
}

}  // namespace
}  // namespace ds4::test
