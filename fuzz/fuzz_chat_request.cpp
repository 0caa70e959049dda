// Bodies of POST /v1/chat/completions.
#include "request_fuzzer.h"
#include "server/chat_completions.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    ds4::server::fuzz_request(data, size, ds4::server::parse_chat_completions);
    return 0;
}
