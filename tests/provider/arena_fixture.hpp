// Buffers of shareable arenas, and what is said of them.
#pragma once

#include <sanpoll.h>

#include <string>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {

/// Whoever uses memory of the provider's.
class ArenaUser : public ProviderTest {
protected:
    void ask_for_functions() {
        GUID id = WSAID_SANPOLL_MEMORY;
        DWORD returned = 0;
        ASSERT_EQ(san.ioctl(INVALID_SOCKET, SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER, &id,
                            sizeof(id), &functions, sizeof(functions), &returned),
                  0);
    }
    // nullptr where the host has no libmimalloc.
    [[nodiscard]] char* allocate(std::size_t bytes) {
        DWORD reason = 0;
        auto* const buffer = static_cast<char*>(functions.lpAllocate(bytes, 0, 0, &reason));
        EXPECT_TRUE(buffer != nullptr || reason == SANPOLL_MEMORY_NO_LIBRARY)
            << functions.lpReasonText(reason);
        return buffer;
    }
    void give_back(char* buffer) { EXPECT_TRUE(functions.lpFree(buffer, nullptr)); }
    std::string arenas_of(SOCKET s) {
        SANPOLL_FABRIC fabric{};
        DWORD returned = 0;
        EXPECT_EQ(san.ioctl(s, SIO_SANPOLL_FABRIC, nullptr, 0, &fabric, sizeof(fabric), &returned),
                  0);
        return fabric.arenas;
    }

    SANPOLL_MEMORY_FUNCTIONS functions{};
};

}  // namespace sanpoll::test
