// A C++20 program that loads the provider through the switch: consumer_cpp LIBRARY.
#include <cstdio>
#include <sanpoll/switch.hpp>

int main(int argc, char** argv) {
    if (argc != 2) {
        return 2;
    }
    sanpoll_switch::LoadOptions options;
    options.library = argv[1];
    const auto loaded = sanpoll_switch::Provider::load(options);
    if (!loaded) {
        std::fprintf(stderr, "%s\n", loaded.error.message.c_str());
        return 1;
    }
    const auto socket = loaded.provider->socket();
    return socket ? 0 : 1;
}
