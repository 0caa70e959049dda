# Writes OUTPUT, a source file that holds the bytes of INPUT. Run with cmake -P.
file(READ "${INPUT}" bytes HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
file(WRITE "${OUTPUT}" "#include \"server/page.h\"

namespace ds4::server {
namespace {
const unsigned char kPage[] = {${bytes}};
}  // namespace

std::string_view web_page() {
    return {reinterpret_cast<const char*>(kPage), sizeof kPage};
}

}  // namespace ds4::server
")
