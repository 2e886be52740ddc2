// The upcall table as a provider sees it.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <sanpoll/switch.hpp>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "switch/provider_paths.hpp"
#include "tests/switch/no_system_calls.hpp"

namespace sanpoll_switch {
namespace {

const WSPUPCALLTABLEEX& up = upcall_table();

bool signaled(WSAEVENT event) {
    return WSAWaitForMultipleEvents(1, &event, FALSE, 0, FALSE) == WSA_WAIT_EVENT_0;
}

WSAOVERLAPPED pending(WSAEVENT event = WSA_INVALID_EVENT) {
    WSAOVERLAPPED overlapped{};
    overlapped.Internal = WSS_OPERATION_IN_PROGRESS;
    overlapped.hEvent = event;
    return overlapped;
}

class UpcallsTest : public ::testing::Test {
protected:
    void SetUp() override {
        socket_ = up.lpWPUCreateSocketHandle(0, 4711, &error_);
        ASSERT_NE(socket_, INVALID_SOCKET);
        error_ = -1;  // so that a success is seen to write 0
    }
    void TearDown() override { up.lpWPUCloseSocketHandle(socket_, &error_); }

    SOCKET socket_ = INVALID_SOCKET;
    INT error_ = -1;
};

TEST(UpcallTable, IsComplete) {
    std::array<void*, 16> entries{};
    static_assert(sizeof entries == sizeof(WSPUPCALLTABLEEX));
    std::memcpy(entries.data(), &up, sizeof entries);
    EXPECT_EQ(std::set<void*>(entries.begin(), entries.end()).size(), entries.size());
    for (void* entry : entries)
        EXPECT_NE(entry, nullptr);
}

// ------------------------------------------------------------------------------- socket handles --

TEST_F(UpcallsTest, SocketHandleCarriesItsContext) {
    DWORD_PTR context = 0;
    EXPECT_EQ(up.lpWPUQuerySocketHandleContext(socket_, &context, &error_), 0);
    EXPECT_EQ(error_, 0);
    EXPECT_EQ(context, 4711u);
    EXPECT_EQ(up.lpWPUQuerySocketHandleContext(socket_, nullptr, &error_), SOCKET_ERROR);
    EXPECT_EQ(error_, WSAEFAULT);
}

TEST_F(UpcallsTest, ClosedSocketHandleIsNoSocket) {
    const SOCKET closed = up.lpWPUCreateSocketHandle(7, 1, &error_);
    EXPECT_EQ(up.lpWPUCloseSocketHandle(closed, &error_), 0);
    EXPECT_EQ(error_, 0);
    const SOCKET successor = up.lpWPUCreateSocketHandle(7, 2, &error_);  // in the same slot
    EXPECT_NE(successor, closed);
    for (const SOCKET bad : {closed, SOCKET{0}, SOCKET{INVALID_SOCKET}, SOCKET{3}}) {
        DWORD_PTR context = 99;
        EXPECT_EQ(up.lpWPUQuerySocketHandleContext(bad, &context, &error_), SOCKET_ERROR);
        EXPECT_EQ(error_, WSAENOTSOCK);
        EXPECT_EQ(context, 99u);
        EXPECT_EQ(up.lpWPUCloseSocketHandle(bad, &error_), SOCKET_ERROR);
        EXPECT_EQ(error_, WSAENOTSOCK);
    }
    EXPECT_EQ(up.lpWPUCloseSocketHandle(successor, &error_), 0);
}

TEST_F(UpcallsTest, EventIsNoSocket) {
    const WSAEVENT event = up.lpWPUCreateEvent(&error_);
    EXPECT_EQ(up.lpWPUCloseSocketHandle(reinterpret_cast<SOCKET>(event), &error_), SOCKET_ERROR);
    EXPECT_EQ(error_, WSAENOTSOCK);
    EXPECT_FALSE(up.lpWPUCloseEvent(as_handle(socket_), &error_));
    EXPECT_EQ(error_, WSA_INVALID_HANDLE);
    EXPECT_TRUE(up.lpWPUCloseEvent(event, &error_));
}

TEST_F(UpcallsTest, NullErrnoIsNoCrash) {
    EXPECT_EQ(up.lpWPUCloseSocketHandle(0, nullptr), SOCKET_ERROR);
    EXPECT_FALSE(up.lpWPUSetEvent(nullptr, nullptr));
}

// --------------------------------------------------------------------------------------- events --

TEST_F(UpcallsTest, EventsAreThoseOfTheCaller) {
    const WSAEVENT event = up.lpWPUCreateEvent(&error_);
    ASSERT_NE(event, WSAEVENT{WSA_INVALID_EVENT});
    EXPECT_EQ(error_, 0);
    EXPECT_FALSE(signaled(event));
    error_ = -1;
    EXPECT_TRUE(up.lpWPUSetEvent(event, &error_));
    EXPECT_EQ(error_, 0);
    EXPECT_TRUE(signaled(event));
    EXPECT_TRUE(up.lpWPUResetEvent(event, &error_));
    EXPECT_FALSE(signaled(event));
    EXPECT_TRUE(up.lpWPUCloseEvent(event, &error_));

    EXPECT_FALSE(up.lpWPUSetEvent(event, &error_));
    EXPECT_EQ(error_, WSA_INVALID_HANDLE);
    EXPECT_FALSE(up.lpWPUResetEvent(event, &error_));
    EXPECT_EQ(error_, WSA_INVALID_HANDLE);
    EXPECT_FALSE(up.lpWPUCloseEvent(event, &error_));
    EXPECT_EQ(error_, WSA_INVALID_HANDLE);
}

// ----------------------------------------------------------------------------------- completion --

TEST_F(UpcallsTest, CompletionSetsTheFields) {
    WSAOVERLAPPED overlapped = pending();
    overlapped.Offset = 5;
    overlapped.OffsetHigh = 6;
    EXPECT_EQ(up.lpWPUCompleteOverlappedRequest(socket_, &overlapped, 0, 100, &error_), 0);
    EXPECT_EQ(error_, 0);
    EXPECT_NE(overlapped.Internal, ULONG_PTR{WSS_OPERATION_IN_PROGRESS});
    EXPECT_EQ(overlapped.InternalHigh, 100u);
    EXPECT_EQ(overlapped.Offset, 5u);  // the provider's
    EXPECT_EQ(overlapped.OffsetHigh, 6u);
}

TEST_F(UpcallsTest, NoErrorLooksLikeAnOperationInProgress) {
    for (const DWORD error :
         {DWORD{0}, DWORD{WSAECONNRESET}, DWORD{WSS_OPERATION_IN_PROGRESS}, DWORD{0xFFFFFFFF}}) {
        WSAOVERLAPPED overlapped = pending();
        EXPECT_EQ(up.lpWPUCompleteOverlappedRequest(socket_, &overlapped, error, 0, &error_), 0);
        EXPECT_NE(overlapped.Internal, ULONG_PTR{WSS_OPERATION_IN_PROGRESS});
    }
}

TEST_F(UpcallsTest, CompletionSignalsTheEvent) {
    const WSAEVENT event = WSACreateEvent();
    WSAOVERLAPPED overlapped = pending(event);
    EXPECT_EQ(up.lpWPUCompleteOverlappedRequest(socket_, &overlapped, 0, 1, &error_), 0);
    EXPECT_TRUE(signaled(event));
    WSAResetEvent(event);
    // The control bit is not part of the handle.
    overlapped = pending(reinterpret_cast<WSAEVENT>(reinterpret_cast<std::uintptr_t>(event) | 1));
    EXPECT_EQ(up.lpWPUCompleteOverlappedRequest(socket_, &overlapped, 0, 1, &error_), 0);
    EXPECT_TRUE(signaled(event));
    WSACloseEvent(event);
}

TEST_F(UpcallsTest, CompletionWithADeadEventStillCompletes) {
    const WSAEVENT event = WSACreateEvent();
    WSACloseEvent(event);
    WSAOVERLAPPED overlapped = pending(event);
    EXPECT_EQ(up.lpWPUCompleteOverlappedRequest(socket_, &overlapped, 0, 1, &error_), SOCKET_ERROR);
    EXPECT_EQ(error_, WSA_INVALID_HANDLE);
    EXPECT_EQ(overlapped.Internal, 0u);
    EXPECT_EQ(overlapped.InternalHigh, 1u);
}

TEST_F(UpcallsTest, CompletionNeedsALivingSwitchHandle) {
    const SOCKET closed = up.lpWPUCreateSocketHandle(0, 0, &error_);
    up.lpWPUCloseSocketHandle(closed, &error_);
    for (const SOCKET bad : {closed, SOCKET{0}, SOCKET{INVALID_SOCKET}}) {
        WSAOVERLAPPED overlapped = pending();
        EXPECT_EQ(up.lpWPUCompleteOverlappedRequest(bad, &overlapped, 0, 1, &error_), SOCKET_ERROR);
        EXPECT_EQ(error_, WSAEINVAL);
        EXPECT_EQ(overlapped.Internal, ULONG_PTR{WSS_OPERATION_IN_PROGRESS});
    }
    EXPECT_EQ(up.lpWPUCompleteOverlappedRequest(socket_, nullptr, 0, 1, &error_), SOCKET_ERROR);
    EXPECT_EQ(error_, WSAEINVAL);
}

TEST_F(UpcallsTest, CompletionGoesToTheSocketsPort) {
    const HANDLE port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, nullptr, 0, 0);
    ASSERT_EQ(CreateIoCompletionPort(as_handle(socket_), port, 77, 0), port);
    EXPECT_EQ(CreateIoCompletionPort(as_handle(socket_), port, 78, 0), nullptr);
    EXPECT_EQ(WSAGetLastError(), WSA_INVALID_PARAMETER);  // once is enough
    EXPECT_EQ(CreateIoCompletionPort(as_handle(socket_), nullptr, 78, 0), nullptr);
    EXPECT_EQ(WSAGetLastError(), WSA_INVALID_PARAMETER);

    WSAOVERLAPPED overlapped = pending();
    up.lpWPUCompleteOverlappedRequest(socket_, &overlapped, WSAECONNRESET, 12, &error_);
    std::array<OVERLAPPED_ENTRY, 2> entries{};
    ULONG removed = 0;
    ASSERT_TRUE(GetQueuedCompletionStatusEx(port, entries.data(), 2, &removed, 0, FALSE));
    ASSERT_EQ(removed, 1u);
    EXPECT_EQ(entries[0].lpCompletionKey, 77u);
    EXPECT_EQ(entries[0].lpOverlapped, &overlapped);
    EXPECT_EQ(entries[0].Internal, ULONG_PTR{WSAECONNRESET});
    EXPECT_EQ(entries[0].dwNumberOfBytesTransferred, 12u);

    // A port that is gone before its sockets swallows what comes.
    EXPECT_TRUE(CloseHandle(port));
    overlapped = pending();
    EXPECT_EQ(up.lpWPUCompleteOverlappedRequest(socket_, &overlapped, 0, 1, &error_), 0);
    EXPECT_EQ(overlapped.Internal, 0u);
}

TEST_F(UpcallsTest, AssociationWithANewPortInOneCall) {
    const HANDLE port = CreateIoCompletionPort(as_handle(socket_), nullptr, 5, 0);
    ASSERT_NE(port, nullptr);
    WSAOVERLAPPED overlapped = pending();
    up.lpWPUCompleteOverlappedRequest(socket_, &overlapped, 0, 1, &error_);
    OVERLAPPED_ENTRY entry{};
    ULONG removed = 0;
    EXPECT_TRUE(GetQueuedCompletionStatusEx(port, &entry, 1, &removed, 0, FALSE));
    EXPECT_EQ(entry.lpCompletionKey, 5u);
    CloseHandle(port);
}

TEST_F(UpcallsTest, NewSocketInAnOldSlotHasNoPort) {
    const HANDLE port = CreateIoCompletionPort(INVALID_HANDLE_VALUE, nullptr, 0, 0);
    const SOCKET first = up.lpWPUCreateSocketHandle(0, 0, &error_);
    ASSERT_EQ(CreateIoCompletionPort(as_handle(first), port, 1, 0), port);
    up.lpWPUCloseSocketHandle(first, &error_);
    const SOCKET second = up.lpWPUCreateSocketHandle(0, 0, &error_);
    WSAOVERLAPPED overlapped = pending();
    up.lpWPUCompleteOverlappedRequest(second, &overlapped, 0, 1, &error_);
    OVERLAPPED_ENTRY entry{};
    ULONG removed = 0;
    EXPECT_FALSE(GetQueuedCompletionStatusEx(port, &entry, 1, &removed, 0, FALSE));
    EXPECT_EQ(CreateIoCompletionPort(as_handle(second), port, 2, 0), port);
    up.lpWPUCloseSocketHandle(second, &error_);
    CloseHandle(port);
}

// The caller frees the structure as soon as it sees the completion; the address sanitizer watches.
TEST_F(UpcallsTest, WriteToInternalIsTheLastTouch) {
    for (int round = 0; round < 500; ++round) {
        auto overlapped = std::make_unique<WSAOVERLAPPED>(pending());
        WSAOVERLAPPED* const raw = overlapped.get();
        std::thread provider([this, raw] {
            INT error = 0;
            EXPECT_EQ(up.lpWPUCompleteOverlappedRequest(socket_, raw, 0, 64, &error), 0);
        });
        while (std::atomic_ref(raw->Internal).load(std::memory_order_acquire) ==
               WSS_OPERATION_IN_PROGRESS) {
            std::this_thread::yield();
        }
        EXPECT_EQ(std::atomic_ref(raw->InternalHigh).load(std::memory_order_relaxed), 64u);
        overlapped.reset();
        provider.join();
    }
}

TEST_F(UpcallsTest, CompletionsFromManyThreadsAllArrive) {
    constexpr std::size_t kThreads = 3;
    constexpr std::size_t kEach = 3000;
    const HANDLE port = CreateIoCompletionPort(as_handle(socket_), nullptr, 9, 0);
    std::vector<WSAOVERLAPPED> operations(kThreads * kEach, pending());
    std::vector<std::thread> providers;
    providers.reserve(4);
    for (std::size_t thread = 0; thread < kThreads; ++thread) {
        providers.emplace_back([&, thread] {
            for (std::size_t i = 0; i < kEach; ++i) {
                INT error = 0;
                EXPECT_EQ(
                    up.lpWPUCompleteOverlappedRequest(socket_, &operations[thread * kEach + i], 0,
                                                      static_cast<DWORD>(i), &error),
                    0);
            }
        });
    }
    std::vector<int> seen(operations.size(), 0);
    for (std::size_t total = 0; total < operations.size();) {
        std::array<OVERLAPPED_ENTRY, 32> entries{};
        ULONG removed = 0;
        ASSERT_TRUE(
            GetQueuedCompletionStatusEx(port, entries.data(), 32, &removed, WSA_INFINITE, FALSE));
        for (ULONG i = 0; i < removed; ++i)
            ++seen[static_cast<std::size_t>(entries[i].lpOverlapped - operations.data())];
        total += removed;
    }
    for (std::thread& provider : providers)
        provider.join();
    for (const int count : seen)
        ASSERT_EQ(count, 1);
    CloseHandle(port);
}

TEST_F(UpcallsTest, CompletionMakesNoSystemCallWhereNobodySleeps) {
    if (!kCanForbidSystemCalls) GTEST_SKIP() << "not with this sanitizer";
    const HANDLE port = CreateIoCompletionPort(as_handle(socket_), nullptr, 9, 0);
    const WSAEVENT event = WSACreateEvent();
    EXPECT_TRUE(runs_without_system_calls(
        [] {},
        [&] {
            for (int i = 0; i < 1000; ++i) {
                WSAOVERLAPPED overlapped = pending(event);
                OVERLAPPED_ENTRY entry;
                ULONG removed = 0;
                INT error = 0;
                if (up.lpWPUCompleteOverlappedRequest(socket_, &overlapped, 0, 1, &error) != 0)
                    return false;
                if (!signaled(event) || !WSAResetEvent(event)) return false;
                if (!GetQueuedCompletionStatusEx(port, &entry, 1, &removed, WSA_INFINITE, FALSE))
                    return false;
            }
            return true;
        }));
    WSACloseEvent(event);
    CloseHandle(port);
}

// --------------------------------------------------------------------------------------- others --

TEST_F(UpcallsTest, FdIsSetLooksForTheHandle) {
    wsp_fd_set set{};
    set.fd_count = 2;
    set.fd_array[0] = 10;
    set.fd_array[1] = 20;
    set.fd_array[2] = 30;
    EXPECT_NE(up.lpWPUFDIsSet(20, &set), 0);
    EXPECT_EQ(up.lpWPUFDIsSet(30, &set), 0);
    EXPECT_EQ(up.lpWPUFDIsSet(20, nullptr), 0);
    set.fd_count = 0xFFFFFFFF;  // more than there is room for
    EXPECT_EQ(up.lpWPUFDIsSet(40, &set), 0);
}

TEST_F(UpcallsTest, ProviderPathIsFoundByIdentity) {
    GUID id = {1, 2, 3, {4, 5, 6, 7, 8, 9, 10, 11}};
    std::array<WCHAR, 64> path{};
    INT length = 64;
    EXPECT_EQ(up.lpWPUGetProviderPath(&id, path.data(), &length, &error_), SOCKET_ERROR);
    EXPECT_EQ(error_, WSAEINVAL);

    detail::add_provider_path(id, "/a/b.so");
    length = 7;
    EXPECT_EQ(up.lpWPUGetProviderPath(&id, path.data(), &length, &error_), SOCKET_ERROR);
    EXPECT_EQ(error_, WSAEFAULT);
    EXPECT_EQ(length, 8);
    EXPECT_EQ(up.lpWPUGetProviderPath(&id, path.data(), &length, &error_), 0);
    EXPECT_EQ(std::u16string(path.data()), u"/a/b.so");
    EXPECT_EQ(up.lpWPUGetProviderPath(nullptr, path.data(), &length, &error_), SOCKET_ERROR);
    EXPECT_EQ(error_, WSAEFAULT);
    EXPECT_EQ(up.lpWPUGetProviderPath(&id, nullptr, &length, &error_), SOCKET_ERROR);
    EXPECT_EQ(up.lpWPUGetProviderPath(&id, path.data(), nullptr, &error_), SOCKET_ERROR);
    detail::remove_provider_path(id);
}

TEST_F(UpcallsTest, NoFileHandles) {
    EXPECT_EQ(up.lpWPUModifyIFSHandle(1, 5, &error_), INVALID_SOCKET);
    EXPECT_EQ(error_, WSAEINVAL);
}

TEST_F(UpcallsTest, NoWindows) { EXPECT_FALSE(up.lpWPUPostMessage(nullptr, 1, 2, 3)); }

TEST_F(UpcallsTest, NoBlockingCallback) {
    auto callback = reinterpret_cast<LPBLOCKINGCALLBACK>(1);
    DWORD_PTR context = 1;
    EXPECT_EQ(up.lpWPUQueryBlockingCallback(0, &callback, &context, &error_), 0);
    EXPECT_EQ(callback, nullptr);
    EXPECT_EQ(context, 0u);
    EXPECT_EQ(up.lpWPUQueryBlockingCallback(0, nullptr, &context, &error_), SOCKET_ERROR);
    EXPECT_EQ(error_, WSAEFAULT);
    EXPECT_EQ(up.lpWPUQueryBlockingCallback(0, &callback, nullptr, &error_), SOCKET_ERROR);
    EXPECT_EQ(error_, WSAEFAULT);
}

TEST_F(UpcallsTest, NoApcs) {
    WSATHREADID thread{};
    EXPECT_EQ(up.lpWPUQueueApc(
                  &thread, [](DWORD_PTR) {}, 0, &error_),
              SOCKET_ERROR);
    EXPECT_EQ(error_, WSAEOPNOTSUPP);
    EXPECT_EQ(up.lpWPUQueueApc(
                  nullptr, [](DWORD_PTR) {}, 0, &error_),
              SOCKET_ERROR);
    EXPECT_EQ(error_, WSAEFAULT);
    EXPECT_EQ(up.lpWPUQueueApc(&thread, nullptr, 0, &error_), SOCKET_ERROR);
    EXPECT_EQ(error_, WSAEFAULT);
}

TEST_F(UpcallsTest, ThreadIsOpenedAndClosed) {
    WSATHREADID thread{};
    EXPECT_EQ(up.lpWPUOpenCurrentThread(&thread, &error_), 0);
    EXPECT_NE(thread.ThreadHandle, nullptr);
    EXPECT_EQ(up.lpWPUCloseThread(&thread, &error_), 0);
    EXPECT_EQ(thread.ThreadHandle, nullptr);
    EXPECT_EQ(up.lpWPUOpenCurrentThread(nullptr, &error_), SOCKET_ERROR);
    EXPECT_EQ(error_, WSAEFAULT);
    EXPECT_EQ(up.lpWPUCloseThread(nullptr, &error_), SOCKET_ERROR);
    EXPECT_EQ(error_, WSAEFAULT);
}

}  // namespace
}  // namespace sanpoll_switch
