// Bodies of POST /v1/messages.
#include "request_fuzzer.h"
#include "server/anthropic_messages.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    ds4::server::fuzz_request(data, size, ds4::server::parse_anthropic_messages);
    return 0;
}
