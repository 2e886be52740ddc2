// What the tests can see of fake_provider.cpp, a library with the provider's interface and nothing
// behind it.
#pragma once

#include <ws2san.h>

// Exported as `fake_provider_record`.
struct FakeProviderRecord {
    int starts = 0;
    int cleanups = 0;
    int sockets = 0;  // open ones
    WORD requested_version = 0;
    WSAPROTOCOL_INFOW protocol_info{};
    WSPUPCALLTABLEEX upcalls{};
};

// Read by the library from the environment variable FAKE_PROVIDER_FAULT: the step that goes wrong.
inline constexpr const char* kFaultVariable = "FAKE_PROVIDER_FAULT";
