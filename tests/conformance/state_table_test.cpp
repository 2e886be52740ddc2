// Every function in every state: the table of states, cell by cell. A cell is the test
// Cells/StateCellTest.Answers/<function>_<state>, which covers the rule S.<function>.<state>.
#include <unistd.h>

#include <algorithm>
#include <ostream>

#include "tests/conformance/conformance_fixture.hpp"

namespace sanpoll::conformance {
namespace {

enum class In { kCreated, kBound, kListening, kConnecting, kConnected, kBroken, kSwappedOut };
constexpr const char* kStateNames[] = {"Created",   "Bound",  "Listening", "Connecting",
                                       "Connected", "Broken", "SwappedOut"};

// What a call finds: a socket in the state, memory (registered where the state allows it), and somebody
// who listens.
struct Subject {
    Calls& san;
    RecordingSwitch& upcalls;
    End& end;
    sockaddr_in peer;
    End* peer_end;              // of a standing connection
    std::vector<char> exposed;  // an RDMA descriptor of the socket's own memory, if it could be had
    Polled operation{};
};

using Answers = std::vector<int>;  // any of them
struct Row {
    const char* function;
    int (*call)(Subject& subject);
    Answers answers[std::size(kStateNames)];
};

const Answers kOk{0};
const Answers kInvalid{WSAEINVAL};
const Answers kNotConnected{WSAENOTCONN};
const Answers kPending{WSA_IO_PENDING};
const Answers kEnded{WSAECONNRESET, WSAECONNABORTED};
const Answers kEither{0, WSAEINVAL};

int get_option(Subject& subject) {
    char value[4] = {};
    INT length = sizeof(value);
    return subject.san.get_option(subject.end.s, WSP_SOL_SOCKET, SO_MAX_MSG_SIZE, value, &length);
}

int set_option(Subject& subject) {
    const INT value = 1;
    return subject.san.set_option(subject.end.s, WSP_SOL_SOCKET, WSP_SO_DEBUG,
                                  reinterpret_cast<const char*>(&value), sizeof(value));
}

int duplicate(Subject& subject) {
    WSAPROTOCOL_INFOW info{};
    return subject.san.duplicate(subject.end.s, static_cast<DWORD>(::getpid()), &info);
}

// Exposed by the peer for it, or what looks like a descriptor.
std::vector<char> rdma_target(Subject& subject) {
    if (subject.peer_end != nullptr) {
        DWORD length = 0;
        (void)subject.san.register_rdma(subject.peer_end->s, subject.peer_end->at(0), 8,
                                        MEM_READWRITE, nullptr, &length);
        std::vector<char> descriptor(length);
        EXPECT_EQ(subject.san.register_rdma(subject.peer_end->s, subject.peer_end->at(0), 8,
                                            MEM_READWRITE, descriptor.data(), &length),
                  0);
        return descriptor;
    }
    return std::vector<char>(64);
}

int rdma(Subject& subject, bool writes) {
    std::vector<char> target = rdma_target(subject);
    WSABUFEX buffer{8, subject.end.at(0), subject.end.region};
    return writes ? subject.san.rdma_write(subject.end.s, &buffer, 1, target.data(), target.size(),
                                           0, &subject.operation)
                  : subject.san.rdma_read(subject.end.s, &buffer, 1, target.data(), target.size(),
                                          0, &subject.operation);
}

int register_rdma(Subject& subject) {
    char descriptor[64];
    DWORD length = sizeof(descriptor);
    return subject.san.register_rdma(subject.end.s, subject.end.at(0), 8, MEM_READ, descriptor,
                                     &length);
}

int deregister_rdma(Subject& subject) {
    std::vector<char> descriptor = subject.exposed;
    descriptor.resize(subject.exposed.empty() ? 32 : subject.exposed.size());
    return subject.san.deregister_rdma(subject.end.s, descriptor.data(), descriptor.size());
}

int register_memory(Subject& subject) {
    int error = 0;
    (void)subject.san.register_memory(subject.end.s, subject.end.at(0), 8, MEM_READ, &error);
    return error;
}

int accept(Subject& subject) {
    int error = 0;
    (void)subject.san.accept(subject.end.s, &error);
    return error;
}

int address_list(Subject& subject) {
    char buffer[8192];
    DWORD returned = 0;
    return subject.san.ioctl(subject.end.s, SIO_ADDRESS_LIST_QUERY, nullptr, 0, buffer,
                             sizeof(buffer), &returned);
}

int enumerate(Subject& subject) {
    WSANETWORKEVENTS events{};
    return subject.san.enum_events(subject.end.s, nullptr, &events);
}

// The order of the answers is that of the states. A recommendation where the documents are silent: project
// decision.
const Row kRows[] = {
    {"WSPBind",
     [](Subject& in) { return in.san.bind(in.end.s, fresh_address()); },
     {kOk, kInvalid, kInvalid, kInvalid, kInvalid, kInvalid, kInvalid}},
    {"WSPListen",
     [](Subject& in) { return in.san.listen(in.end.s, 5); },
     {kInvalid, kOk, kOk, kInvalid, {WSAEISCONN}, kInvalid, kInvalid}},
    {"WSPConnect",  // Created, Broken: project decision
     [](Subject& in) { return in.san.connect(in.end.s, in.peer); },
     {kInvalid, {WSAEWOULDBLOCK}, kInvalid, {WSAEALREADY}, {WSAEISCONN}, kInvalid, kInvalid}},
    {"WSPAccept",
     accept,  // nobody has called the listener
     {kInvalid, kInvalid, {WSAEWOULDBLOCK}, kInvalid, kInvalid, kInvalid, kInvalid}},
    {"WSPEventSelect",
     [](Subject& in) {
         return in.san.event_select(in.end.s, in.upcalls.create_event(), FD_ACCEPT | FD_CONNECT);
     },
     {kOk, kOk, kOk, kOk, kOk, kOk, kInvalid}},
    {"WSPEnumNetworkEvents", enumerate, {kOk, kOk, kOk, kOk, kOk, kOk, kInvalid}},
    {"WSPSend",
     [](Subject& in) { return in.san.send(in.end.s, in.end.at(0), 8, &in.operation); },
     {kNotConnected, kNotConnected, kNotConnected, kNotConnected, kPending, kEnded, kNotConnected}},
    {"WSPRecv",
     [](Subject& in) { return in.san.recv(in.end.s, in.end.at(0), 8, &in.operation); },
     {kNotConnected, kNotConnected, kNotConnected, kNotConnected, kPending, kEnded, kNotConnected}},
    {"WSPRdmaWrite",
     [](Subject& in) { return rdma(in, true); },
     {kNotConnected, kNotConnected, kNotConnected, kNotConnected, kPending, kEnded, kNotConnected}},
    {"WSPRdmaRead",
     [](Subject& in) { return rdma(in, false); },
     {kNotConnected, kNotConnected, kNotConnected, kNotConnected, kPending, kEnded, kNotConnected}},
    {"WSPRegisterRdmaMemory",
     register_rdma,
     {kNotConnected, kNotConnected, kNotConnected, kNotConnected, kOk, kNotConnected,
      kNotConnected}},
    {"WSPDeregisterRdmaMemory",
     deregister_rdma,
     {kInvalid, kInvalid, kInvalid, kInvalid, kOk, kOk, kEither}},
    {"WSPRegisterMemory",  // Broken: project decision
     register_memory,
     {kNotConnected, kNotConnected, kNotConnected, kNotConnected, kOk, kNotConnected,
      kNotConnected}},
    {"WSPDeregisterMemory",
     [](Subject& in) { return in.san.deregister_memory(in.end.s, in.end.region); },
     {kInvalid, kInvalid, kInvalid, kInvalid, kOk, kOk, kEither}},
    {"WSPDuplicateSocket",  // all but Listening and Connected: project decision
     duplicate,
     {kInvalid, kInvalid, kOk, kInvalid, kOk, kNotConnected, kInvalid}},
    {"WSPGetSockOpt", get_option, {kOk, kOk, kOk, kOk, kOk, kOk, kOk}},
    {"WSPSetSockOpt", set_option, {kOk, kOk, kOk, kOk, kOk, kOk, kOk}},
    {"WSPIoctl", address_list, {kOk, kOk, kOk, kOk, kOk, kOk, kOk}},
    {"WSPGetOverlappedResult",
     [](Subject& in) {
         in.operation.InternalHigh = 12;  // of an operation that is over
         const Result result = in.san.overlapped_result(in.end.s, &in.operation, 0);
         return result.error != 0 || result.bytes == 12 ? result.error : -1;
     },
     {kOk, kOk, kOk, kOk, kOk, kOk, kOk}},
    {"WSPCloseSocket",
     [](Subject& in) { return in.san.close(in.end.s); },
     {kOk, kOk, kOk, kOk, kOk, kOk, kOk}},
};

struct Cell {
    const Row* row;
    In state;

    friend std::ostream& operator<<(std::ostream& out, const Cell& cell) {
        return out << cell.row->function << " in " << kStateNames[static_cast<int>(cell.state)];
    }
};

std::vector<Cell> cells() {
    std::vector<Cell> all;
    for (const Row& row : kRows) {
        for (int state = 0; state < static_cast<int>(std::size(kStateNames)); ++state) {
            all.push_back({&row, static_cast<In>(state)});
        }
    }
    return all;
}

class StateCellTest : public ConformanceTest, public testing::WithParamInterface<Cell> {
protected:
    void SetUp() override {
        const Cell& cell = GetParam();
        const bool moves = cell.state == In::kSwappedOut ||
                           (cell.row->function == std::string_view("WSPDuplicateSocket") &&
                            (cell.state == In::kConnected || cell.state == In::kListening));
        if (moves && !fabric_under_test().moves_sockets) {
            GTEST_SKIP() << "a socket of this fabric stays in its process";
        }
        ConformanceTest::SetUp();
        peer_address = fresh_address();
        (void)listening(peer_address);
        switch (GetParam().state) {
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
                exposed = expose(end);
                break;
            case In::kBroken:
                break_connection();
                break;
            case In::kSwappedOut: {
                pair = connected();
                end = std::move(pair.client);
                exposed = expose(end);
                WSAPROTOCOL_INFOW info{};
                ASSERT_EQ(san.duplicate(end.s, static_cast<DWORD>(::getpid()), &info), 0);
                break;
            }
        }
        if (end.memory.empty()) {
            end.memory.resize(64);
        }
    }

    /// An RDMA descriptor of its memory.
    std::vector<char> expose(End& of) {
        std::vector<char> descriptor(64);
        auto length = static_cast<DWORD>(descriptor.size());
        EXPECT_EQ(san.register_rdma(of.s, of.at(0), 8, MEM_READ, descriptor.data(), &length), 0);
        descriptor.resize(length);
        return descriptor;
    }
    void break_connection() {
        pair = connected();
        end = std::move(pair.client);
        exposed = expose(end);
        Polled receive;
        ASSERT_EQ(recv(end, &receive), WSA_IO_PENDING);
        EXPECT_EQ(san.close(pair.server.s), 0);
        EXPECT_EQ(san.finish(end.s, &receive).error, WSAECONNRESET);
    }

    sockaddr_in peer_address{};
    Pair pair;
    End end;
    std::vector<char> exposed;
};

// [R20.2 P1 R15.4 P6 F.WSPSend.WSAENOTCONN F.WSPRecv.WSAENOTCONN]
TEST_P(StateCellTest, Answers) {
    const Answers& allowed = GetParam().row->answers[static_cast<int>(GetParam().state)];
    Subject subject{san,
                    upcalls,
                    end,
                    peer_address,
                    GetParam().state == In::kConnected ? &pair.server : nullptr,
                    exposed};
    const int answer = GetParam().row->call(subject);
    EXPECT_TRUE(answer != WSAEINTR && answer != WSAEINPROGRESS) << "never used";
    EXPECT_NE(std::find(allowed.begin(), allowed.end(), answer), allowed.end())
        << GetParam() << " answers " << answer << ", not " << testing::PrintToString(allowed);
    const int closed = san.close(end.s);  // ends what was started
    EXPECT_TRUE(closed == 0 || closed == WSAENOTSOCK) << closed;
}

INSTANTIATE_TEST_SUITE_P(Cells, StateCellTest, testing::ValuesIn(cells()),
                         [](const testing::TestParamInfo<Cell>& info) {
                             return std::string(info.param.row->function) + "_" +
                                    kStateNames[static_cast<int>(info.param.state)];
                         });

}  // namespace
}  // namespace sanpoll::conformance
