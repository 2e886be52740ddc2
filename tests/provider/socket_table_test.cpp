// Descriptors that are none: each function answers WSAENOTSOCK, and nothing crashes.
#include <random>
#include <set>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

class DescriptorTest : public ProviderTest {
protected:
    /// Calls every function that takes a descriptor.
    void expect_no_socket(SOCKET s) {
        int error = 0;
        Polled operation;
        char byte = 0;
        INT length = sizeof(sockaddr_in);
        DWORD returned = 0;
        WSANETWORKEVENTS events{};
        WSAPROTOCOL_INFOW info{};
        sockaddr_in peer{};
        EXPECT_EQ(san.accept(s, &error, nullptr, 0, &peer, &length), INVALID_SOCKET);
        EXPECT_EQ(error, WSAENOTSOCK);
        EXPECT_EQ(san.bind(s, address), WSAENOTSOCK);
        EXPECT_EQ(san.close(s), WSAENOTSOCK);
        EXPECT_EQ(san.connect(s, address), WSAENOTSOCK);
        EXPECT_EQ(san.duplicate(s, 1, &info), WSAENOTSOCK);
        EXPECT_EQ(san.enum_events(s, nullptr, &events), WSAENOTSOCK);
        EXPECT_EQ(san.event_select(s, nullptr, 0), WSAENOTSOCK);
        EXPECT_EQ(san.overlapped_result(s, &operation, 0).error, WSAENOTSOCK);
        EXPECT_EQ(san.overlapped_result(s, &operation, 1).error, WSAENOTSOCK);
        EXPECT_EQ(san.get_option(s, WSP_SOL_SOCKET, SO_MAX_MSG_SIZE, &byte, &length), WSAENOTSOCK);
        EXPECT_EQ(san.qos_by_name(s, nullptr, nullptr), WSAENOTSOCK);
        EXPECT_EQ(san.ioctl(s, SIO_ADDRESS_LIST_QUERY, nullptr, 0, nullptr, 0, &returned),
                  WSAENOTSOCK);
        EXPECT_EQ(san.listen(s, 5), WSAENOTSOCK);
        EXPECT_EQ(san.recv(s, &byte, 1, &operation), WSAENOTSOCK);
        EXPECT_EQ(san.send(s, &byte, 1, &operation), WSAENOTSOCK);
        EXPECT_EQ(san.set_option(s, WSP_SOL_SOCKET, WSP_SO_DEBUG, &byte, 4), WSAENOTSOCK);
        EXPECT_EQ(san.register_memory(s, &byte, 1, MEM_READ, &error), nullptr);
        EXPECT_EQ(error, WSAENOTSOCK);
        EXPECT_EQ(san.deregister_memory(s, &byte), WSAENOTSOCK);
        EXPECT_EQ(operation.Internal, 0U);
    }

    const sockaddr_in address = fresh_address();
};

// Whatever the descriptors are cut to, there is nothing as yet. By itself, as each test is run by ctest: a table that has
// had records has them for good.
TEST_F(DescriptorTest, BeforeTheFirstSocketThereIsNone) {
    char byte = 0;
    WSABUF buffer{1, &byte};
    for (std::uint64_t upper = 0; upper < 4; ++upper) {
        for (std::uint64_t bit = 1; bit < 1ULL << 32; bit <<= 1) {
            for (const std::uint64_t lower : {bit, bit + 1, bit - 1}) {
                const SOCKET s = upper << 32 | lower;
                Polled operation;
                EXPECT_EQ(san.send_list(s, &buffer, 1, &operation), WSAENOTSOCK) << s;
                EXPECT_EQ(san.recv_list(s, &buffer, 1, &operation), WSAENOTSOCK) << s;
                operation.Internal = WSS_OPERATION_IN_PROGRESS;
                EXPECT_EQ(san.overlapped_result(s, &operation, FALSE).error, WSAENOTSOCK) << s;
            }
        }
    }
}

TEST_F(DescriptorTest, InvalidSocket) { expect_no_socket(INVALID_SOCKET); }

TEST_F(DescriptorTest, Zero) { expect_no_socket(0); }

TEST_F(DescriptorTest, NeverIssued) {
    expect_no_socket(1);
    expect_no_socket(4711);
    expect_no_socket(SOCKET{1} << 32);
    expect_no_socket((SOCKET{1} << 32) | 1U);
    expect_no_socket(INVALID_SOCKET - 1);
    expect_no_socket(reinterpret_cast<SOCKET>(this));
}

// Descriptors are cut to the places in use: around each power of two, while there are some sockets and then more.
TEST_F(DescriptorTest, CutToAnyPlace) {
    std::set<SOCKET> live;
    for (int i = 0; i < 3; ++i) {
        live.insert(socket());
        for (int bit = 0; bit < 64; ++bit) {
            for (const SOCKET near : {(SOCKET{1} << bit) - 1, SOCKET{1} << bit,
                                      (SOCKET{1} << bit) | 1U, (SOCKET{3} << bit) | 1U}) {
                if (live.count(near) != 0) {
                    continue;
                }
                Polled operation;
                ASSERT_EQ(san.send(near, &operation, 1, &operation), WSAENOTSOCK) << near;
                ASSERT_EQ(san.recv(near, &operation, 1, &operation), WSAENOTSOCK) << near;
                ASSERT_EQ(san.overlapped_result(near, &operation, 0).error, WSAENOTSOCK) << near;
            }
        }
        for (int more = 0; more < 200; ++more) {
            live.insert(socket());
        }
    }
}

TEST_F(DescriptorTest, TheSwitchsHandle) {
    (void)socket();
    expect_no_socket(upcalls.latest_handle());
}

TEST_F(DescriptorTest, Closed) {
    const SOCKET s = socket();
    EXPECT_EQ(san.close(s), 0);
    expect_no_socket(s);
}

TEST_F(DescriptorTest, ClosedAfterEveryState) {
    Pair pair = connected();
    End end = broken();
    for (const SOCKET s : {bound(), listening(fresh_address()), connecting(fresh_address()),
                           pair.client.s, pair.server.s, end.s}) {
        EXPECT_EQ(san.close(s), 0);
        expect_no_socket(s);
    }
}

TEST_F(DescriptorTest, ClosedAndItsRecordReused) {
    const SOCKET s = socket();
    EXPECT_EQ(san.close(s), 0);
    std::vector<SOCKET> more;
    for (int i = 0; i < 600; ++i) {
        more.push_back(socket());
    }
    expect_no_socket(s);
}

TEST_F(DescriptorTest, OneBitFlipped) {
    const SOCKET s = socket();
    for (int bit = 0; bit < 64; ++bit) {
        expect_no_socket(s ^ (SOCKET{1} << bit));
    }
    EXPECT_EQ(san.close(s), 0);
}

TEST_F(DescriptorTest, AHundredThousandRandomOnes) {
    Pair pair = connected();
    const std::vector<SOCKET> live{socket(), bound(), pair.client.s, pair.server.s};
    std::mt19937_64 random(19991231);
    for (int i = 0; i < 100000; ++i) {
        // Half of them close to real ones: only some of the bits are changed.
        const SOCKET s =
            i % 2 == 0 ? random() : live[random() % 4] ^ (random() & random() & random());
        if (std::find(live.begin(), live.end(), s) == live.end()) {
            Polled operation;
            ASSERT_EQ(san.send(s, &operation, 1, &operation), WSAENOTSOCK) << s;
            ASSERT_EQ(san.close(s), WSAENOTSOCK) << s;
        }
    }
    expect_delivery(pair.client, pair.server, "unharmed");
}

}  // namespace
}  // namespace sanpoll::test
