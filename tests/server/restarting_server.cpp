#include "apps/server/serve.h"

int main(int argc, char** argv) {
    return ds4::server_app::run(argc, argv, std::chrono::milliseconds(0));
}
