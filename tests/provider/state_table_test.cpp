// Every function in every state of a socket: the table of the interface's documentation.
#include <unistd.h>

#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

enum class In { kCreated, kBound, kListening, kConnecting, kConnected, kBroken, kSwappedOut };

constexpr In kStates[] = {In::kCreated,   In::kBound,  In::kListening, In::kConnecting,
                          In::kConnected, In::kBroken, In::kSwappedOut};

std::string name_of(const testing::TestParamInfo<In>& info) {
    static constexpr const char* names[] = {"Created",   "Bound",  "Listening", "Connecting",
                                            "Connected", "Broken", "SwappedOut"};
    return names[static_cast<int>(info.param)];
}

class StateTest : public ProviderTest, public testing::WithParamInterface<In> {
protected:
    void SetUp() override {
        ProviderTest::SetUp();
        peer_address = fresh_address();
        listener = listening(peer_address);
        switch (GetParam()) {
            case In::kCreated:
                end.s = socket();
                break;
            case In::kBound:
                end.s = bound();
                break;
            case In::kListening:
                end.s = listening(fresh_address());
                break;
            case In::kConnecting:
                end.s = connecting(peer_address);
                break;
            case In::kConnected:
                pair = connected();
                end = std::move(pair.client);
                break;
            case In::kBroken:
                end = broken();
                break;
            case In::kSwappedOut: {
                pair = connected();
                end = std::move(pair.client);
                WSAPROTOCOL_INFOW info{};
                ASSERT_EQ(san.duplicate(end.s, static_cast<DWORD>(::getpid()), &info), 0);
                break;
            }
        }
        if (end.memory.empty()) {
            end.memory.resize(64);
        }
    }
    [[nodiscard]] bool is(In state) const { return GetParam() == state; }
    /// What this state answers, in the order of kStates.
    [[nodiscard]] int expected(std::initializer_list<int> codes) const {
        return codes.begin()[static_cast<int>(GetParam())];
    }

    sockaddr_in peer_address{};
    SOCKET listener = INVALID_SOCKET;
    Pair pair;
    End end;
};

TEST_P(StateTest, Bind) {
    EXPECT_EQ(san.bind(end.s, fresh_address()),
              expected({0, WSAEINVAL, WSAEINVAL, WSAEINVAL, WSAEINVAL, WSAEINVAL, WSAEINVAL}));
}

TEST_P(StateTest, Listen) {
    EXPECT_EQ(san.listen(end.s, 5),
              expected({WSAEINVAL, 0, 0, WSAEINVAL, WSAEISCONN, WSAEINVAL, WSAEINVAL}));
}

TEST_P(StateTest, Connect) {  // unbound and broken: project decision
    EXPECT_EQ(san.connect(end.s, peer_address),
              expected({WSAEINVAL, WSAEWOULDBLOCK, WSAEINVAL, WSAEALREADY, WSAEISCONN, WSAEINVAL,
                        WSAEINVAL}));
}

TEST_P(StateTest, Accept) {
    int error = 0;
    (void)san.accept(end.s, &error);
    EXPECT_EQ(error, is(In::kListening) ? WSAEWOULDBLOCK : WSAEINVAL);
}

TEST_P(StateTest, EventSelect) {
    // swapped out: project decision
    EXPECT_EQ(san.event_select(end.s, upcalls.create_event(), FD_ACCEPT | FD_CONNECT),
              is(In::kSwappedOut) ? WSAEINVAL : 0);
}

TEST_P(StateTest, EnumNetworkEvents) {
    WSANETWORKEVENTS events{};
    EXPECT_EQ(san.enum_events(end.s, nullptr, &events), is(In::kSwappedOut) ? WSAEINVAL : 0);
}

TEST_P(StateTest, Send) {
    Polled operation;
    EXPECT_EQ(san.send(end.s, end.at(0), 8, &operation),
              expected({WSAENOTCONN, WSAENOTCONN, WSAENOTCONN, WSAENOTCONN, WSA_IO_PENDING,
                        WSAECONNRESET, WSAENOTCONN}));
    EXPECT_EQ(san.close(end.s), 0);
}

TEST_P(StateTest, Receive) {
    Polled operation;
    EXPECT_EQ(san.recv(end.s, end.at(0), 8, &operation),
              expected({WSAENOTCONN, WSAENOTCONN, WSAENOTCONN, WSAENOTCONN, WSA_IO_PENDING,
                        WSAECONNRESET, WSAENOTCONN}));
    EXPECT_EQ(san.close(end.s), 0);
}

TEST_P(StateTest, RegisterMemory) {  // broken: project decision
    int error = 0;
    (void)san.register_memory(end.s, end.at(0), 8, MEM_READ, &error);
    EXPECT_EQ(error, is(In::kConnected) ? 0 : WSAENOTCONN);
}

TEST_P(StateTest, DeregisterMemory) {
    const int error = san.deregister_memory(end.s, end.region);
    EXPECT_EQ(error, is(In::kConnected) || is(In::kBroken) ? 0 : WSAEINVAL);
}

TEST_P(StateTest, Ioctl) {
    char buffer[8192];
    DWORD returned = 0;
    EXPECT_EQ(
        san.ioctl(end.s, SIO_ADDRESS_LIST_QUERY, nullptr, 0, buffer, sizeof(buffer), &returned), 0);
}

TEST_P(StateTest, GetOverlappedResultOfAFinishedOperation) {
    Polled operation;
    operation.InternalHigh = 12;
    EXPECT_EQ(san.overlapped_result(end.s, &operation, 0).bytes, 12U);
    EXPECT_EQ(san.overlapped_result(end.s, &operation, 1).bytes, 12U);
}

TEST_P(StateTest, DuplicateSocket) {  // other than connected and listening: project decision
    WSAPROTOCOL_INFOW info{};
    EXPECT_EQ(san.duplicate(end.s, static_cast<DWORD>(::getpid()), &info),
              expected({WSAEINVAL, WSAEINVAL, 0, WSAEINVAL, 0, WSAENOTCONN, WSAEINVAL}));
}

TEST_P(StateTest, GetSockOpt) {
    char value[4] = {};
    INT length = sizeof(value);
    EXPECT_EQ(san.get_option(end.s, WSP_SOL_SOCKET, SO_MAX_MSG_SIZE, value, &length), 0);
}

TEST_P(StateTest, SetSockOpt) {
    const char value[4] = {};
    EXPECT_EQ(san.set_option(end.s, WSP_SOL_SOCKET, WSP_SO_DEBUG, value, 4), 0);
}

TEST_P(StateTest, GetQosByName) {
    EXPECT_EQ(san.qos_by_name(end.s, nullptr, nullptr), WSAEOPNOTSUPP);
}

TEST_P(StateTest, CloseSocket) { EXPECT_EQ(san.close(end.s), 0); }

INSTANTIATE_TEST_SUITE_P(States, StateTest, testing::ValuesIn(kStates), name_of);

}  // namespace
}  // namespace sanpoll::test
