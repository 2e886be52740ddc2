// The provider over a device and an RDMA CM that are not real: the errors of WSPConnect and WSPAccept that only another
// host can be the reason of.
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>

#include <cerrno>
#include <functional>
#include <thread>

#include "engine/fabric/verbs/api.hpp"
#include "provider/provider.hpp"
#include "tests/engine/fabric/verbs/verbs_bench.hpp"
#include "tests/provider/provider_fixture.hpp"

namespace {

constexpr std::uint32_t kHere = 0x0A000001;     // 10.0.0.1
constexpr std::uint32_t kAnother = 0x0A000002;  // 10.0.0.2

sanpoll::engine::verbs::Api fake_api{};

sockaddr_in here_address = sanpoll::test::address_of(kHere, 0);
sockaddr_in here_mask = sanpoll::test::address_of(0xFFFFFF00, 0);
char here_name[] = "fake0";
ifaddrs here_interface{};

}  // namespace

// The host's addresses, in place of the C library's: one, of a network that the device is in.
extern "C" int getifaddrs(ifaddrs** list) noexcept {
    here_interface.ifa_name = here_name;
    here_interface.ifa_flags = IFF_UP;
    here_interface.ifa_addr = reinterpret_cast<sockaddr*>(&here_address);
    here_interface.ifa_netmask = reinterpret_cast<sockaddr*>(&here_mask);
    *list = &here_interface;
    return 0;
}
extern "C" void freeifaddrs(ifaddrs*) noexcept {}

// In place of the engine's, which opens the libraries.
const sanpoll::engine::verbs::Api* sanpoll::engine::verbs::Api::load(std::string&) {
    return &fake_api;
}

namespace sanpoll::test {
namespace {

class OverVerbsTest : public ProviderTest {
protected:
    OverVerbsTest() {
        fake_api = tests::SharedDevice::calls();
        const engine::verbs::Api devices = fake_api;
        cm_.make_queue_pair = [devices](rdma_cm_id& id, ibv_pd* pd, ibv_qp_init_attr& wanted) {
            return devices.cm.create_qp(&id, pd, &wanted);
        };
        cm_.destroy_queue_pair = [devices](rdma_cm_id& id) { devices.cm.destroy_qp(&id); };
        cm_.join_queue_pairs = [this](rdma_cm_id& one, rdma_cm_id& other) {
            const std::lock_guard lock(tests::the_device_mutex());
            device_.device().join(&one, &other);
        };
        tests::FakeCm::fill(fake_api.cm);
        fake_api.verbs.get_async_event = [](ibv_context*, ibv_async_event*) {
            errno = EAGAIN;
            return -1;
        };
        cm_.add_address(kHere, device_.context());
    }
    static void SetUpTestSuite() {
        Calls::use(WSPStartupEx);
        use_address(kHere);
    }
    static void TearDownTestSuite() { use_address(0); }
    Knobs knobs() const override { return {{"fabric", "verbs"}}; }

    int error_of_a_connect_with(const tests::Fate& fate) {
        cm_.set_fate(kAnother, fate);
        return try_connect(address_of(kAnother, 7000));
    }

    tests::SharedDevice device_;
    tests::FakeCm cm_;
};

class ImpatientOverVerbsTest : public OverVerbsTest {
protected:
    Knobs knobs() const override { return {{"fabric", "verbs"}, {"connect_timeout_ms", "500"}}; }
};

// WSAEHOSTUNREACH: a switch does not ask TCP/IP.
TEST_F(OverVerbsTest, AHostThatCannotBeReached) {
    EXPECT_EQ(error_of_a_connect_with({.address_error = EHOSTUNREACH}), WSAEHOSTUNREACH);
}

// WSAENETUNREACH: it does.
TEST_F(OverVerbsTest, ANetworkThatCannotBeReached) {
    EXPECT_EQ(error_of_a_connect_with({.address_error = ENETUNREACH}), WSAENETUNREACH);
}

TEST_F(ImpatientOverVerbsTest, AHostThatDoesNotAnswer) {
    EXPECT_EQ(error_of_a_connect_with({.silent_connect = true}), WSAETIMEDOUT);
}

// WSAEACCES
TEST_F(ImpatientOverVerbsTest, AnOriginatorThatDoesNotConfirm) {
    cm_.lose_confirmations(true);
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    const WSAEVENT event = upcalls.create_event();
    int error = 0;
    // On a slow machine the originator may have given up before it is accepted.
    ASSERT_TRUE(eventually([&] {
        const SOCKET client = connecting(address);
        const std::size_t handles = upcalls.open_handles();
        EXPECT_TRUE(wait_for_request(listener, event));
        EXPECT_EQ(san.accept(listener, &error), INVALID_SOCKET);
        EXPECT_EQ(upcalls.open_handles(), handles);
        EXPECT_EQ(san.close(client), 0);
        return (error != WSAECONNRESET && error != WSAEWOULDBLOCK) || HasFailure();
    }));
    EXPECT_EQ(error, WSAEACCES);
}

TEST_F(OverVerbsTest, ASocketInTheMakingIsNobodysToClose) {
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    WSAEVENT event = nullptr;
    const SOCKET client = connecting(address, &event);
    ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
    const std::size_t handles = upcalls.open_handles();
    cm_.hold_calls(true);
    int error = 0;
    SOCKET accepted = INVALID_SOCKET;
    std::thread accepting([&] { accepted = san.accept(listener, &error); });
    // It has its socket, and is in the middle of RDMA CM's part.
    EXPECT_TRUE(
        eventually([&] { return cm_.held_calls() == 1 && upcalls.open_handles() == handles + 1; }));
    std::vector<SOCKET> in_the_making;
    for (const SOCKET s : provider::common().sockets.live()) {
        if (s != listener && s != client) {
            in_the_making.push_back(s);
            EXPECT_EQ(san.close(s), WSAENOTSOCK);
        }
    }
    cm_.hold_calls(false);
    accepting.join();
    EXPECT_EQ(in_the_making.size(), 1U);
    EXPECT_EQ(in_the_making.front(), accepted);
    EXPECT_EQ(error, 0);
    EXPECT_EQ(connect_result(client, event), 0);
    EXPECT_EQ(san.close(accepted), 0);
    EXPECT_EQ(san.close(client), 0);
}

// WSAECONNRESET
TEST_F(OverVerbsTest, AnOriginatorThatHasGone) {
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    const WSAEVENT event = upcalls.create_event();
    std::function<void()> go = [this, client = connecting(address)] {
        EXPECT_EQ(san.close(client), 0);
    };
    ASSERT_TRUE(wait_for_request(listener, event));
    const auto after_it_has_gone = [](LPWSABUF, LPWSABUF, LPQOS, LPQOS, LPWSABUF, LPWSABUF, GROUP*,
                                      DWORD_PTR data) {
        (*reinterpret_cast<std::function<void()>*>(data))();
        return CF_ACCEPT;
    };
    int error = 0;
    EXPECT_EQ(san.accept(listener, &error, after_it_has_gone, reinterpret_cast<DWORD_PTR>(&go)),
              INVALID_SOCKET);
    EXPECT_EQ(error, WSAECONNRESET);
}

// What the errors above stand in the way of.
TEST_F(OverVerbsTest, MessagesTravel) {
    Pair pair = connected();
    expect_delivery(pair.client, pair.server, "there");
    expect_delivery(pair.server, pair.client, "and back");
}

}  // namespace
}  // namespace sanpoll::test
