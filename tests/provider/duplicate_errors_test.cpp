// What WSPDuplicateSocket refuses, and the tokens that WSPSocket does.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <deque>
#include <set>

#include "tests/engine/sanitizers.hpp"
#include "tests/provider/child_process.hpp"
#include "tests/provider/duplicate_fixture.hpp"
#include "tests/provider/no_descriptors.hpp"

namespace sanpoll::test {
namespace {

// A process that gives a listener to the one that its argument names, says the token, and connects to it when told to.
class Giver : public DuplicateTest {
public:
    void TestBody() override {}
    int run(DWORD taker) {
        ProviderTest::SetUp();
        const sockaddr_in address = fresh_address();
        const SOCKET listener = listening(address);
        WSAPROTOCOL_INFOW info{};
        if (san.duplicate(listener, taker, &info) != 0) {
            return 1;
        }
        say(std::to_string(info.dwProviderReserved));
        if (hear() != "connect") {
            return 2;
        }
        WSAEVENT event = nullptr;
        const SOCKET client = connecting(address, &event);
        if (connect_result(client, event) != 0) {
            return 3;
        }
        say("connected");
        (void)hear();
        ProviderTest::TearDown();
        return HasFailure() ? 4 : 0;
    }
};

const Role giver("giver", [](const std::vector<std::string>& arguments) {
    return Giver().run(static_cast<DWORD>(std::stoul(arguments.at(0))));
});

// A process that connects, tries to give its end to the process that its argument names, and sends.
class Connector : public DuplicateTest {
public:
    void TestBody() override {}
    int run(const sockaddr_in& address, DWORD taker) {
        ProviderTest::SetUp();
        WSAEVENT event = nullptr;
        End end;
        end.s = connecting(address, &event);
        if (connect_result(end.s, event) != 0) {
            return 1;
        }
        give_memory(end, 1 << 16);
        say("connected");
        for (std::string order = hear(); order == "duplicate" || order == "send"; order = hear()) {
            if (order == "send") {
                send_text(end, "still here");
            } else {
                WSAPROTOCOL_INFOW info{};
                say(std::to_string(san.duplicate(end.s, taker, &info)));
            }
        }
        ProviderTest::TearDown();
        return HasFailure() ? 2 : 0;
    }
};

const Role connector("connector", [](const std::vector<std::string>& arguments) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = static_cast<in_addr_t>(std::stoul(arguments.at(0)));
    address.sin_port = static_cast<in_port_t>(std::stoul(arguments.at(1)));
    return Connector().run(address, static_cast<DWORD>(std::stoul(arguments.at(2))));
});

TEST_F(DuplicateTest, ParametersAreChecked) {
    Pair pair = connected();
    WSAPROTOCOL_INFOW info{};
    const auto self = static_cast<DWORD>(::getpid());
    EXPECT_EQ(san.duplicate(pair.client.s, self, nullptr), WSAEINVAL);
    EXPECT_EQ(san.duplicate(pair.client.s, 0, &info), WSAEINVAL);
    EXPECT_EQ(san.duplicate(pair.client.s, 0xFFFFFFFF, &info), WSAEINVAL);
    EXPECT_EQ(san.duplicate(INVALID_SOCKET, self, &info), WSAENOTSOCK);
    EXPECT_EQ(san.duplicate(INVALID_SOCKET, self, nullptr), WSAENOTSOCK);
    EXPECT_EQ(info.dwProviderReserved, 0U);
    expect_delivery(pair.client, pair.server, "still usable");
    expect_delivery(pair.server, pair.client, "both ways");
}

TEST_F(DuplicateTest, AProcessThatDoesNotExistIsRefused) {
    const pid_t gone = ::fork();
    if (gone == 0) {
        ::_exit(0);
    }
    (void)::waitpid(gone, nullptr, 0);
    Pair pair = connected();
    WSAPROTOCOL_INFOW info{};
    EXPECT_EQ(san.duplicate(pair.client.s, static_cast<DWORD>(gone), &info), WSAEINVAL);
    expect_delivery(pair.client, pair.server, "still usable");
}

TEST_F(DuplicateTest, PendingSendsAreRefusedAndTheSocketStaysUsable) {
    Pair pair = connected();
    std::deque<Polled> sends(40);
    for (Polled& operation : sends) {
        ASSERT_EQ(san.send(pair.client.s, pair.client.at(0), 100, &operation), WSA_IO_PENDING);
    }
    Polled receive;
    ASSERT_EQ(san.recv(pair.client.s, pair.client.at(0), 100, &receive), WSA_IO_PENDING);
    WSAPROTOCOL_INFOW info{};
    EXPECT_EQ(san.duplicate(pair.client.s, static_cast<DWORD>(::getpid()), &info), WSAEINVAL);
    EXPECT_EQ(san.overlapped_result(pair.client.s, &receive, 0).error, WSA_IO_INCOMPLETE);
    for (Polled& operation : sends) {
        EXPECT_EQ(this->receive(pair.server).bytes, 100U);
        EXPECT_EQ(san.finish(pair.client.s, &operation).error, 0);
    }
    Polled answer;
    ASSERT_EQ(san.send(pair.server.s, pair.server.at(0), 7, &answer), WSA_IO_PENDING);
    EXPECT_EQ(san.finish(pair.client.s, &receive).bytes, 7U);
}

TEST_F(DuplicateTest, InsideAnUpcallItIsRefused) {  // project decision
    Pair pair = connected();
    std::atomic<int> answer{-1};
    WSAPROTOCOL_INFOW info{};
    Notified receive;
    const ActionScope scope = upcalls.on_complete([&](const Upcall&) {
        answer = san.duplicate(pair.client.s, static_cast<DWORD>(::getpid()), &info);
    });
    ASSERT_EQ(san.recv(pair.client.s, pair.client.at(0), 16, &receive), WSA_IO_PENDING);
    send_text(pair.server, "x");
    ASSERT_TRUE(upcalls.wait_for(&receive));
    EXPECT_EQ(answer, WSAENETDOWN);
    expect_delivery(pair.server, pair.client, "still usable");
}

TEST_F(DuplicateTest, OtherStatesAreRefused) {
    WSAPROTOCOL_INFOW info{};
    const auto self = static_cast<DWORD>(::getpid());
    EXPECT_EQ(san.duplicate(socket(), self, &info), WSAEINVAL);
    EXPECT_EQ(san.duplicate(bound(), self, &info), WSAEINVAL);
    const sockaddr_in address = fresh_address();
    (void)listening(address);
    EXPECT_EQ(san.duplicate(connecting(address), self, &info), WSAEINVAL);
    EXPECT_EQ(san.duplicate(broken().s, self, &info), WSAENOTCONN);
}

TEST_F(DuplicateTest, AnUnknownTokenIsInvalid) {
    WSAPROTOCOL_INFOW info{};
    info.dwProviderReserved = 0x12345678;
    (void)arrive(info, WSAEINVAL);
    EXPECT_EQ(upcalls.count(UpcallKind::kCreateSocketHandle), 0U);
}

TEST_F(DuplicateTest, ATokenIsGoodOnce) {
    Pair pair = connected();
    const WSAPROTOCOL_INFOW info = leave(pair.client.s);
    pair.client.s = arrive(info);
    (void)arrive(info, WSAEINVAL);
    give_memory(pair.client, 1 << 16);
    expect_delivery(pair.client, pair.server, "the one that came first");
}

TEST_F(DuplicateTest, ATokenOfAnotherProcessIsInvalidHere) {
    const pid_t other = ::fork();
    if (other == 0) {
        ::pause();
        ::_exit(0);
    }
    Pair pair = connected();
    WSAPROTOCOL_INFOW info{};
    ASSERT_EQ(san.duplicate(pair.client.s, static_cast<DWORD>(other), &info), 0);
    (void)arrive(info, WSAEINVAL);
    (void)arrive(info, WSAEINVAL);
    ::kill(other, SIGKILL);
    (void)::waitpid(other, nullptr, 0);
}

// WSAEMFILE of WSPSocket with a token: a second try has the socket.
TEST_F(DuplicateTest, WithoutAPlaceForTheSocketItsTokenStaysGood) {
    Pair pair = connected();
    const WSAPROTOCOL_INFOW info = leave(pair.client.s);
    std::vector<SOCKET> all;
    int error = 0;
    for (SOCKET s = san.socket(&error); s != INVALID_SOCKET; s = san.socket(&error)) {
        all.push_back(s);
    }
    ASSERT_EQ(error, WSAEMFILE);
    (void)arrive(info, WSAEMFILE);
    (void)arrive(info, WSAEMFILE);
    for (const SOCKET s : all) {
        ASSERT_EQ(san.close(s), 0);
    }
    pair.client.s = arrive(info);
    give_memory(pair.client, 1 << 16);
    expect_delivery(pair.client, pair.server, "there");
    expect_delivery(pair.server, pair.client, "and back");
}

// The same without files, which the way there takes.
TEST_F(DuplicateTest, WithoutFilesTheTokenStaysGood) {
    if (tests::kSanitizerNeedsDescriptors) {
        GTEST_SKIP() << "the sanitizer finds every object invalid where it has no descriptors";
    }
    Pair pair = connected();
    const WSAPROTOCOL_INFOW info = leave(pair.client.s);
    const std::size_t handles = upcalls.open_handles();
    {
        const NoDescriptors none;
        (void)arrive(info, WSAEMFILE);
        (void)arrive(info, WSAEMFILE);
    }
    EXPECT_EQ(upcalls.open_handles(), handles);
    pair.client.s = arrive(info);
    give_memory(pair.client, 1 << 16);
    expect_delivery(pair.client, pair.server, "there");
    expect_delivery(pair.server, pair.client, "and back");
}

// As long as what the socket comes with could not be taken, the other process keeps it.
TEST_F(DuplicateTest, WithTooFewFilesTheTokenStaysGood) {
    if (tests::kSanitizerNeedsDescriptors) {
        GTEST_SKIP() << "the sanitizer finds every object invalid where it has no descriptors";
    }
    Child giver("giver", {std::to_string(::getpid())});
    WSAPROTOCOL_INFOW info{};
    info.dwProviderReserved = static_cast<DWORD>(std::stoul(giver.hear()));
    ASSERT_NE(info.dwProviderReserved, 0U);
    SOCKET taken = INVALID_SOCKET;
    int failures = 0;
    {
        NoDescriptors none;
        for (int given = 0; taken == INVALID_SOCKET && given < 16; ++given) {
            int error = 0;
            taken = san.socket(&error, AF_INET, SOCK_STREAM, IPPROTO_TCP, &info);
            if (taken == INVALID_SOCKET) {
                ASSERT_EQ(error, WSAEMFILE) << given;
                ++failures;
                none.give_one();
            }
        }
    }
    EXPECT_GE(failures, 3);
    ASSERT_NE(taken, INVALID_SOCKET);
    giver.say("connect");
    EXPECT_TRUE(wait_for_request(taken, upcalls.create_event()));
    EXPECT_NE(san.accept(taken), INVALID_SOCKET);
    EXPECT_EQ(giver.hear(), "connected");
    giver.say("end");
    EXPECT_EQ(giver.wait(), 0);
}

// WSAEMFILE of WSPDuplicateSocket: the socket goes on here, whichever of the two processes lacks them.
TEST_F(DuplicateTest, WithoutFilesAConnectionStays) {
    if (tests::kSanitizerNeedsDescriptors) {
        GTEST_SKIP() << "the sanitizer finds every object invalid where it has no descriptors";
    }
    Pair pair = connected();
    WSAPROTOCOL_INFOW info{};
    const auto self = static_cast<DWORD>(::getpid());
    int failures = 0;
    {
        NoDescriptors none;
        for (int error = WSAEMFILE; error != 0 && failures < 16;) {
            error = san.duplicate(pair.client.s, self, &info);
            if (error != 0) {
                ASSERT_EQ(error, WSAEMFILE) << failures << " given";
                ++failures;
                expect_delivery(pair.client, pair.server, "there");
                expect_delivery(pair.server, pair.client, "and back");
                none.give_one();
            }
        }
    }
    // Its peer's way to the next process takes two, and one of that comes here, and so does what is given away.
    EXPECT_GE(failures, 4);
    pair.client.s = arrive(info);
    give_memory(pair.client, 1 << 16);
    expect_delivery(pair.client, pair.server, "there");
}

TEST_F(DuplicateTest, WhereThePeerHasNoFilesTheConnectionStays) {
    if (tests::kSanitizerNeedsDescriptors) {
        GTEST_SKIP() << "the sanitizer finds every object invalid where it has no descriptors";
    }
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    Child giver("connector", {std::to_string(address.sin_addr.s_addr),
                              std::to_string(address.sin_port), std::to_string(::getpid())});
    ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
    End end;
    end.s = san.accept(listener);
    ASSERT_NE(end.s, INVALID_SOCKET);
    give_memory(end, 1 << 16);
    ASSERT_EQ(giver.hear(), "connected");
    {
        const NoDescriptors none;
        giver.say("duplicate");
        EXPECT_EQ(giver.hear(), std::to_string(WSAEMFILE));
    }
    giver.say("send");
    expect_text(end, "still here");
    giver.say("duplicate");
    EXPECT_EQ(giver.hear(), "0");
    giver.say("end");
    EXPECT_EQ(giver.wait(), 0);
}

// The answer to its suspension brings one too, for which there may be no number here.
TEST_F(DuplicateTest, WithoutFilesAConnectionToAnotherProcessStays) {
    if (tests::kSanitizerNeedsDescriptors) {
        GTEST_SKIP() << "the sanitizer finds every object invalid where it has no descriptors";
    }
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    Child stayer("connector", {std::to_string(address.sin_addr.s_addr),
                               std::to_string(address.sin_port), std::to_string(::getpid())});
    ASSERT_TRUE(wait_for_request(listener, upcalls.create_event()));
    End end;
    end.s = san.accept(listener);
    ASSERT_NE(end.s, INVALID_SOCKET);
    give_memory(end, 1 << 16);
    ASSERT_EQ(stayer.hear(), "connected");
    WSAPROTOCOL_INFOW info{};
    int failures = 0;
    {
        NoDescriptors none;
        for (int error = WSAEMFILE; error != 0 && failures < 16;) {
            error = san.duplicate(end.s, static_cast<DWORD>(::getpid()), &info);
            if (error != 0) {
                ASSERT_EQ(error, WSAEMFILE) << failures << " given";
                ++failures;
                stayer.say("send");
                expect_text(end, "still here");
                none.give_one();
            }
        }
    }
    EXPECT_GE(failures, 2);
    end.s = arrive(info);
    give_memory(end, 1 << 16);
    stayer.say("send");
    expect_text(end, "still here");
    stayer.say("end");
    EXPECT_EQ(stayer.wait(), 0);
}

// WSAEMFILE of WSPDuplicateSocket: the socket goes on here.
TEST_F(DuplicateTest, WithoutFilesAListenerStays) {
    if (tests::kSanitizerNeedsDescriptors) {
        GTEST_SKIP() << "the sanitizer finds every object invalid where it has no descriptors";
    }
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    WSAPROTOCOL_INFOW info{};
    const auto self = static_cast<DWORD>(::getpid());
    {
        NoDescriptors none;
        for (int given = 0; given < 4; ++given) {  // it takes more of them
            EXPECT_EQ(san.duplicate(listener, self, &info), WSAEMFILE) << given;
            EXPECT_EQ(info.dwProviderReserved, 0U);
            if (given != 3) {
                none.give_one();
            }
        }
    }
    const SOCKET client = connecting(address);
    EXPECT_TRUE(wait_for_request(listener, upcalls.create_event()));
    EXPECT_EQ(san.close(client), 0);
    const SOCKET next = arrive(leave(listener));
    const SOCKET second = connecting(address);
    EXPECT_TRUE(wait_for_request(next, upcalls.create_event()));
    EXPECT_EQ(san.close(second), 0);
}

TEST_F(DuplicateTest, TokensDiffer) {
    std::set<DWORD> tokens;
    for (int i = 0; i < 20; ++i) {
        Pair pair = connected(64);
        tokens.insert(leave(pair.client.s).dwProviderReserved);
    }
    EXPECT_EQ(tokens.size(), 20U);
}

}  // namespace
}  // namespace sanpoll::test
