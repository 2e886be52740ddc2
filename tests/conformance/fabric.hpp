// The fabric that the suite runs on. All that a test may know of a fabric is here; another one needs an
// entry in fabric.cpp and a line in CMakeLists.txt.
#pragma once

#include <cstdint>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::conformance {

struct FabricUnderTest {
    const char* name;
    test::Knobs knobs;         // settings of a provider that uses it
    std::uint32_t address;     // of this host, served by the fabric; 0: loopback, by process id
    std::uint32_t foreign;     // an address that is not this host's
    bool knows_missing_hosts;  // whether it can say of a foreign address that nobody is there
    bool has_devices;          // whether a connection is a device's
    bool moves_sockets;        // whether WSPDuplicateSocket may succeed
    bool iwarp;                // whether a connection is a TCP stream of an iWARP device's
};

/// The one that SANPOLL_TEST_FABRIC names; shm if it names none. SANPOLL_TEST_ADDRESS: an address of this host that
/// an RDMA device has, for verbs.
[[nodiscard]] const FabricUnderTest& fabric_under_test();

}  // namespace sanpoll::conformance
