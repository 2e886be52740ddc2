// Two processes neither of which the other may read: not dumpable, and without the right to trace. Messages of all sizes and
// RDMA go by the link's own memory then, whether it was so from the beginning or has become so.
#include <arpa/inet.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ostream>

#include "tests/provider/child_process.hpp"
#include "tests/provider/rdma_fixture.hpp"

namespace sanpoll::test {
namespace {

constexpr std::size_t kMost = 1U << 20;
constexpr std::size_t kLengths[] = {0,    1,    8,    63,    64,    65,     200,
                                    1000, 4096, 4097, 20000, 65536, 100000, kMost};
constexpr std::size_t kRdmaLengths[] = {1, 64, 1000, 4096, 65536, 300000, kMost};

// Where the other process could be read, if it could be read.
struct Whereabouts {
    pid_t process = 0;
    std::uint64_t address = 0;
};

// Of this thread and those that it makes: root may read any process otherwise.
void give_up_tracing() {
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct data[2] = {};
    ASSERT_EQ(::syscall(SYS_capget, &header, data), 0);
    data[0].effective &= ~(1U << CAP_SYS_PTRACE);
    data[0].permitted &= ~(1U << CAP_SYS_PTRACE);
    data[0].inheritable &= ~(1U << CAP_SYS_PTRACE);
    ASSERT_EQ(::syscall(SYS_capset, &header, data), 0);
}

void expect_refusal(const Whereabouts& other) {
    char byte = 0;
    const iovec here{&byte, 1};
    const iovec there{reinterpret_cast<void*>(other.address), 1};
    errno = 0;
    EXPECT_EQ(::process_vm_readv(other.process, &here, 1, &there, 1, 0), -1);
    EXPECT_EQ(errno, EPERM);
}

/// One of the two. `late`: they may read each other until they have a link.
class Hidden : public RdmaFixture {
public:
    void TestBody() override {}

    int serve(bool late) {
        begin(late);
        const sockaddr_in address = fresh_address();
        const SOCKET listener = listening(address);
        say(std::to_string(ntohl(address.sin_addr.s_addr)) + " " +
            std::to_string(ntohs(address.sin_port)));
        EXPECT_TRUE(wait_for_request(listener, upcalls.create_event()));
        end_.s = san.accept(listener);
        give_memory(end_, 3 * kMost);
        meet(false);
        for (const std::size_t length : kLengths) {
            EXPECT_EQ(receive(), length);
            send(end_.at(0), length);
        }
        Exposed exposed = expose(end_, end_.at(kMost), kMost);
        send(&exposed, sizeof(exposed));
        for (std::size_t i = 0; i < std::size(kRdmaLengths); ++i) {
            EXPECT_EQ(receive(), 1U);  // it has written
            EXPECT_TRUE(holds(end_.at(kMost), kRdmaLengths[i], i));
            fill(end_.at(kMost), kRdmaLengths[i], 100 + i);
            send(end_.at(0), 1);  // it may read
        }
        EXPECT_EQ(receive(), 1U);
        EXPECT_EQ(conceal(end_, exposed), 0);
        return finish();
    }

    int call(const sockaddr_in& address, bool late) {
        begin(late);
        WSAEVENT event = nullptr;
        end_.s = connecting(address, &event);
        EXPECT_EQ(connect_result(end_.s, event), 0);
        give_memory(end_, 3 * kMost);
        meet(true);
        for (const std::size_t length : kLengths) {
            fill(end_.at(2 * kMost), length, length);
            send(end_.at(2 * kMost), length);
            EXPECT_EQ(receive(), length);
            EXPECT_TRUE(holds(end_.at(0), length, length)) << length;
        }
        Exposed exposed;
        EXPECT_EQ(receive(), sizeof(exposed));
        std::memcpy(&exposed, end_.at(0), sizeof(exposed));
        for (std::size_t i = 0; i < std::size(kRdmaLengths); ++i) {
            const std::size_t length = kRdmaLengths[i];
            fill(end_.at(kMost), length, i);
            EXPECT_EQ(write_now(end_, end_.at(kMost), length, exposed), 0) << length;
            send(end_.at(0), 1);
            EXPECT_EQ(receive(), 1U);
            EXPECT_EQ(read_now(end_, end_.at(kMost), length, exposed), 0) << length;
            EXPECT_TRUE(holds(end_.at(kMost), length, 100 + i)) << length;
        }
        send(end_.at(0), 1);
        return finish();
    }

private:
    void begin(bool late) {
        give_up_tracing();
        EXPECT_EQ(::prctl(PR_SET_DUMPABLE, late ? 1 : 0), 0);
        ProviderTest::SetUp();
    }
    // Both say where they are, and make sure that it is of no use.
    void meet(bool first) {
        EXPECT_EQ(::prctl(PR_SET_DUMPABLE, 0), 0);
        const Whereabouts ours{::getpid(), reinterpret_cast<std::uint64_t>(end_.at(0))};
        if (first) {
            send(&ours, sizeof(ours));
        }
        Whereabouts theirs;
        EXPECT_EQ(receive(), sizeof(theirs));
        std::memcpy(&theirs, end_.at(0), sizeof(theirs));
        expect_refusal(theirs);
        if (!first) {
            send(&ours, sizeof(ours));
        }
    }
    int finish() {
        EXPECT_EQ(san.close(end_.s), 0);
        ProviderTest::TearDown();
        (void)::prctl(PR_SET_DUMPABLE, 1);  // a sanitizer looks at the process as it ends
        return HasFailure() ? 1 : 0;
    }
    [[nodiscard]] std::size_t receive() {
        Polled operation;
        EXPECT_EQ(san.recv(end_.s, end_.at(0), kMost, &operation), WSA_IO_PENDING);
        const Result result = san.finish(end_.s, &operation);
        EXPECT_EQ(result.error, 0);
        return result.bytes;
    }
    void send(const void* from, std::size_t bytes) {
        char* at = end_.at(0);
        if (bytes <= 100 && from != at) {
            std::memcpy(at, from, bytes);
        } else {
            at = static_cast<char*>(const_cast<void*>(from));
        }
        Polled operation;
        EXPECT_EQ(san.send(end_.s, at, bytes, &operation), WSA_IO_PENDING);
        EXPECT_EQ(san.finish(end_.s, &operation).error, 0);
    }

    End end_;
};

const Role server("hidden_server", [](const std::vector<std::string>& arguments) {
    return Hidden().serve(arguments.at(0) == "late");
});

const Role client("hidden_client", [](const std::vector<std::string>& arguments) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(static_cast<std::uint32_t>(std::stoul(arguments.at(1))));
    address.sin_port = htons(static_cast<std::uint16_t>(std::stoul(arguments.at(2))));
    return Hidden().call(address, arguments.at(0) == "late");
});

struct Case {
    const char* name;
    const char* when;
    Knobs knobs;
};
void PrintTo(const Case& one, std::ostream* out) { *out << one.name; }

class NotDumpableTest : public testing::TestWithParam<Case> {};

TEST_P(NotDumpableTest, MessagesAndRdmaOfAllSizesGoBothWays) {
    const Case& one = GetParam();
    Child server_process("hidden_server", {one.when}, one.knobs);
    char ip[32] = {};
    char port[32] = {};
    const std::string line = server_process.hear();
    ASSERT_EQ(std::sscanf(line.c_str(), "%31s %31s", ip, port), 2) << server_process.errors();
    Child client_process("hidden_client", {one.when, ip, port}, one.knobs);
    EXPECT_EQ(client_process.wait(), 0) << client_process.errors();
    EXPECT_EQ(server_process.wait(), 0) << server_process.errors();
}

INSTANTIATE_TEST_SUITE_P(
    Processes, NotDumpableTest,
    testing::Values(Case{"FromTheBeginning", "early", {}},
                    Case{"FromTheBeginningThoughToBeCopied", "early", {{"copy", "direct"}}},
                    Case{"SinceTheyAreConnected", "late", {}},
                    Case{"SinceTheyAreConnectedThoughToBeCopied", "late", {{"copy", "direct"}}}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace sanpoll::test
