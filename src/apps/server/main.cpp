// ds4-server: the model behind the APIs that coding agents speak.
#include "apps/server/serve.h"

int main(int argc, char** argv) {
    return ds4::server_app::run(argc, argv);
}
