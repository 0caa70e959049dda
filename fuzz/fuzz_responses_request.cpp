// Bodies of POST /v1/responses.
#include "request_fuzzer.h"
#include "server/responses.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    ds4::server::fuzz_request(data, size, ds4::server::parse_responses);
    return 0;
}
