// Listening, connecting and accepting in a thread that gets no memory: WSAENOBUFS, everything as it was before, and a
// later try succeeds. Each test denies the first piece of memory that the call asks for, then the second, and so on,
// either that one alone or all that follow as well.
#include <dirent.h>

#include <atomic>
#include <thread>

#include "tests/engine/denied_memory.hpp"
#include "tests/provider/provider_fixture.hpp"

namespace sanpoll::test {
namespace {

using tests::DeniedMemory;

constexpr int kMostPieces = 500;  // no call needs as many

// The switch's own needs are not denied.
WSPUPCALLTABLEEX recorded{};

int WSPAPI start_with_a_switch_that_has_memory(WORD version, LPWSPDATA data,
                                               LPWSAPROTOCOL_INFOW info, LPWSPUPCALLTABLEEX upcalls,
                                               LPWSPPROC_TABLE table) {
    recorded = *upcalls;
    WSPUPCALLTABLEEX paused = recorded;
    paused.lpWPUCreateSocketHandle = [](DWORD entry, DWORD_PTR context, LPINT error) {
        const DeniedMemory::Pause pause;
        return recorded.lpWPUCreateSocketHandle(entry, context, error);
    };
    paused.lpWPUCloseSocketHandle = [](SOCKET handle, LPINT error) {
        const DeniedMemory::Pause pause;
        return recorded.lpWPUCloseSocketHandle(handle, error);
    };
    paused.lpWPUSetEvent = [](WSAEVENT event, LPINT error) {
        const DeniedMemory::Pause pause;
        return recorded.lpWPUSetEvent(event, error);
    };
    paused.lpWPUResetEvent = [](WSAEVENT event, LPINT error) {
        const DeniedMemory::Pause pause;
        return recorded.lpWPUResetEvent(event, error);
    };
    return WSPStartupEx(version, data, info, &paused, table);
}

std::ptrdiff_t open_descriptors() {
    DIR* const directory = ::opendir("/proc/self/fd");
    std::ptrdiff_t count = 0;
    while (::readdir(directory) != nullptr) {
        ++count;
    }
    ::closedir(directory);
    return count;
}

class NoMemoryTest : public ProviderTest, public testing::WithParamInterface<const char*> {
protected:
    static void SetUpTestSuite() { Calls::use(start_with_a_switch_that_has_memory); }

    void SetUp() override {
        ProviderTest::SetUp();
        address = fresh_address();
    }

    /// `attempt` is made with ever more memory, until it gets all that it asks for. It gets a function that makes the
    /// denied call, and whose result is the error number.
    template <typename Attempt>
    void with_ever_more_memory(Attempt attempt) {
        bool denied = true;
        for (int granted = 0; denied && granted < kMostPieces; ++granted) {
            SCOPED_TRACE("pieces granted: " + std::to_string(granted));
            denied = false;
            attempt([&](auto call) {
                const DeniedMemory denial(granted, std::string(GetParam()) == "AllFurther");
                const int error = call();
                denied = DeniedMemory::was_denied();
                return error;
            });
            if (HasFatalFailure()) {
                return;
            }
        }
        EXPECT_FALSE(denied);
    }

    /// Accepts what comes, as long as nothing else has come of the connect that tells of its end by `event`.
    SOCKET accept_unless(WSAEVENT event) {
        SOCKET accepted = INVALID_SOCKET;
        EXPECT_TRUE(eventually([&] {
            accepted = san.accept(listener);
            return accepted != INVALID_SOCKET || upcalls.signaled(event);
        }));
        return accepted;
    }
    /// Both ways, from the beginning.
    void expect_that_a_connection_can_be_made() {
        WSAEVENT event = nullptr;
        const SOCKET client = connecting(address, &event);
        const SOCKET accepted = accept_unless(event);
        EXPECT_EQ(connect_result(client, event), 0);
        EXPECT_EQ(san.close(client), 0);
        EXPECT_EQ(san.close(accepted), 0);
    }
    /// No request may wait when a provider is looked at anew.
    void restart() {
        stop();
        ProviderTest::SetUp();
    }

    sockaddr_in address{};
    SOCKET listener = INVALID_SOCKET;
};

TEST_P(NoMemoryTest, Listen) {
    int failures = 0;
    std::ptrdiff_t descriptors = 0;
    with_ever_more_memory([&](auto denied) {
        listener = bound(address);
        descriptors = open_descriptors();
        const int error = denied([&] { return san.listen(listener, 5); });
        if (error != 0) {
            ++failures;
            ASSERT_EQ(error, WSAENOBUFS);
            EXPECT_EQ(open_descriptors(), descriptors);
            EXPECT_EQ(try_connect(address), WSAECONNRESET) << "nobody listens";
            int none = 0;
            EXPECT_EQ(san.accept(listener, &none), INVALID_SOCKET);
            EXPECT_EQ(none, WSAEINVAL) << "it is bound, and no listener";
            ASSERT_EQ(san.listen(listener, 5), 0);
        }
        expect_that_a_connection_can_be_made();
        EXPECT_EQ(san.close(listener), 0);
    });
    EXPECT_GT(failures, 0);
}

TEST_P(NoMemoryTest, AListenBesideOneThatFailsListens) {
    for (int i = 0; i < 200; ++i) {
        listener = bound(address);
        std::atomic<bool> begun{false};
        std::thread other([&] {
            begun.store(true);
            EXPECT_EQ(san.listen(listener, 5), 0);
        });
        (void)eventually([&] { return begun.load(); });
        int error = 0;
        {
            const DeniedMemory denial(i % 4, std::string(GetParam()) == "AllFurther");
            error = san.listen(listener, 5);
        }
        EXPECT_TRUE(error == 0 || error == WSAENOBUFS) << error;
        other.join();
        expect_that_a_connection_can_be_made();
        EXPECT_EQ(san.close(listener), 0);
    }
}

TEST_P(NoMemoryTest, ASmallerBacklog) {
    listener = listening(address, 4);
    with_ever_more_memory([&](auto denied) {
        WSAEVENT events[3] = {};
        SOCKET clients[3] = {};
        for (int i = 0; i < 3; ++i) {
            clients[i] = connecting(address, &events[i]);
        }
        const WSAEVENT event = upcalls.create_event();
        ASSERT_TRUE(wait_for_request(listener, event));
        const int error = denied([&] { return san.listen(listener, 1); });
        EXPECT_TRUE(error == 0 || error == WSAENOBUFS) << error;
        EXPECT_EQ(san.listen(listener, 4), 0);
        // Each of the three is refused, or heard.
        for (int i = 0; i < 3; ++i) {
            const SOCKET accepted = accept_unless(events[i]);
            if (accepted != INVALID_SOCKET) {
                EXPECT_EQ(san.close(accepted), 0);
            }
        }
        for (int i = 0; i < 3; ++i) {
            const SOCKET accepted = accept_unless(events[i]);
            if (accepted != INVALID_SOCKET) {
                EXPECT_EQ(san.close(accepted), 0);
            }
            const int result = connect_result(clients[i], events[i]);
            EXPECT_TRUE(result == 0 || result == WSAECONNREFUSED) << result;
            EXPECT_EQ(san.close(clients[i]), 0);
        }
    });
}

TEST_P(NoMemoryTest, ConnectByALinkThatIsThere) {
    listener = listening(address);
    expect_that_a_connection_can_be_made();
    int failures = 0;
    with_ever_more_memory([&](auto denied) {
        const SOCKET s = bound();
        const WSAEVENT event = upcalls.create_event();
        ASSERT_EQ(san.event_select(s, event, FD_CONNECT), 0);
        const int error = denied([&] { return san.connect(s, address); });
        int result = error;
        SOCKET accepted = INVALID_SOCKET;
        if (error == WSAEWOULDBLOCK) {
            accepted = accept_unless(event);
            result = connect_result(s, event);
        }
        if (result != 0) {
            ++failures;
            ASSERT_EQ(result, WSAENOBUFS);
            EXPECT_EQ(san.event_select(s, event, FD_CONNECT), 0);
            ASSERT_EQ(san.connect(s, address), WSAEWOULDBLOCK) << "a later try";
            if (accepted != INVALID_SOCKET) {
                EXPECT_EQ(san.close(accepted), 0);  // that was of the first one
            }
            accepted = accept_unless(event);
            EXPECT_EQ(connect_result(s, event), 0);
        }
        EXPECT_EQ(san.close(s), 0);
        EXPECT_EQ(san.close(accepted), 0);
    });
    EXPECT_GT(failures, 0);
}

TEST_P(NoMemoryTest, ConnectThatMakesALink) {
    int failures = 0;
    with_ever_more_memory([&](auto denied) {
        listener = listening(address);
        const std::ptrdiff_t descriptors = open_descriptors();
        const SOCKET s = bound();
        const WSAEVENT event = upcalls.create_event();
        ASSERT_EQ(san.event_select(s, event, FD_CONNECT), 0);
        const int error = denied([&] { return san.connect(s, address); });
        if (error == WSAENOBUFS) {
            ++failures;
            EXPECT_EQ(open_descriptors(), descriptors);
        } else {
            ASSERT_EQ(error, WSAEWOULDBLOCK);
            const SOCKET accepted = accept_unless(event);
            const int result = connect_result(s, event);
            if (result == 0) {
                EXPECT_EQ(san.close(accepted), 0);
            } else {
                ++failures;
                ASSERT_EQ(result, WSAENOBUFS);
                EXPECT_EQ(accepted, INVALID_SOCKET);
            }
        }
        EXPECT_EQ(san.close(s), 0);
        expect_that_a_connection_can_be_made();
        restart();  // without its links
    });
    EXPECT_GT(failures, 0);
}

TEST_P(NoMemoryTest, Accept) {
    listener = listening(address);
    int failures = 0;
    with_ever_more_memory([&](auto denied) {
        WSAEVENT client_event = nullptr;
        const SOCKET client = connecting(address, &client_event);
        const WSAEVENT event = upcalls.create_event();
        ASSERT_TRUE(wait_for_request(listener, event));
        upcalls.reset_event(event);
        const std::size_t handles = upcalls.open_handles();
        SOCKET accepted = INVALID_SOCKET;
        const int error = denied([&] {
            int code = 0;
            accepted = san.accept(listener, &code);
            return code;
        });
        if (error != 0) {
            ++failures;
            ASSERT_EQ(error, WSAENOBUFS);
            EXPECT_EQ(upcalls.open_handles(), handles);
            // The request has been refused, or it waits still and is indicated again.
            const bool waits = eventually([&] {
                                   return upcalls.signaled(client_event) || upcalls.signaled(event);
                               }) &&
                               !upcalls.signaled(client_event);
            if (waits) {
                accepted = san.accept(listener);
                EXPECT_NE(accepted, INVALID_SOCKET);
            }
            EXPECT_EQ(connect_result(client, client_event), waits ? 0 : WSAECONNREFUSED);
        } else {
            EXPECT_EQ(connect_result(client, client_event), 0);
        }
        EXPECT_EQ(san.close(client), 0);
        if (accepted != INVALID_SOCKET) {
            EXPECT_EQ(san.close(accepted), 0);
        }
        // The next request is indicated.
        const WSAEVENT next = upcalls.create_event();
        ASSERT_EQ(san.event_select(listener, next, FD_ACCEPT), 0);
        expect_that_a_connection_can_be_made();
    });
    EXPECT_GT(failures, 0);
}

INSTANTIATE_TEST_SUITE_P(Denied, NoMemoryTest, testing::Values("OneAlone", "AllFurther"),
                         [](const auto& which) { return std::string(which.param); });

}  // namespace
}  // namespace sanpoll::test
