// WSPStartupEx, WSPCleanup, and what holds for all functions: sections 2, 17 and the common rules.
#include <dlfcn.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "tests/conformance/conformance_fixture.hpp"

namespace sanpoll::conformance {
namespace {

// Starts by hand, each argument its own.
class StartupTest : public testing::Test {
protected:
    void SetUp() override {
        test::use_address(fabric_under_test().address);
        upcalls.reset();
        table = upcalls.table();
        std::memset(&san.table, 0x5A, sizeof(san.table));  // what the provider must overwrite
        std::memset(&data, 0x5A, sizeof(data));
    }
    void TearDown() override {
        while (started > 0) {
            EXPECT_EQ(cleanup(), 0);
        }
        EXPECT_EQ(upcalls.open_handles(), 0U);
        EXPECT_EQ(upcalls.violations(), std::vector<std::string>{});
    }
    int start(WORD version = MAKEWORD(2, 2)) {
        WSAPROTOCOL_INFOW info{};
        info.iAddressFamily = AF_INET;
        info.iSocketType = SOCK_STREAM;
        info.iProtocol = IPPROTO_TCP;
        test::set_knobs(fabric_under_test().knobs);
        const int error = Calls::startup()(version, &data, &info, &table, &san.table);
        test::unset_knobs(fabric_under_test().knobs);
        started += error == 0 ? 1 : 0;
        return error;
    }
    int cleanup() {
        const int error = san.cleanup();
        started -= error == 0 ? 1 : 0;
        return error;
    }

    RecordingSwitch& upcalls = RecordingSwitch::instance();
    WSPUPCALLTABLEEX table{};
    WSPDATA data{};
    Calls san;
    int started = 0;
};

// [F.WSPStartupEx.WSAVERNOTSUPPORTED R20.1]
TEST_F(StartupTest, AVersionBelow22IsNotSupported) {
    for (const WORD version : {0, MAKEWORD(1, 0), MAKEWORD(1, 1), MAKEWORD(1, 9), MAKEWORD(2, 0),
                               MAKEWORD(2, 1), MAKEWORD(0, 255)}) {
        EXPECT_EQ(start(version), WSAVERNOTSUPPORTED) << version;
    }
}

// [F.WSPStartupEx.4 R2.1 R20.1]
TEST_F(StartupTest, Version22AndHigherAreAnsweredWith22) {
    for (const WORD version :
         {MAKEWORD(2, 2), MAKEWORD(2, 3), MAKEWORD(3, 0), MAKEWORD(255, 255)}) {
        ASSERT_EQ(start(version), 0) << version;
        EXPECT_EQ(data.wVersion, MAKEWORD(2, 2));
        EXPECT_EQ(data.wHighVersion, MAKEWORD(2, 2));
    }
}

// [F.WSPStartupEx.WSAEFAULT R20.1]
TEST_F(StartupTest, NullOutputsAreAFault) {
    WSAPROTOCOL_INFOW info{};
    const auto startup = Calls::startup();
    EXPECT_EQ(startup(MAKEWORD(2, 2), nullptr, &info, &table, &san.table), WSAEFAULT);
    EXPECT_EQ(startup(MAKEWORD(2, 2), &data, &info, &table, nullptr), WSAEFAULT);
    // No upcalls: project decision.
    EXPECT_EQ(startup(MAKEWORD(2, 2), &data, &info, nullptr, &san.table), WSAEFAULT);
}

// [F.WSPStartupEx.3 F.WSPStartupEx.5 F.absent.1 R15.1 R20.1]
TEST_F(StartupTest, TheTableHas17FunctionsInTheirSlotsAndNullElsewhere) {
    for (int round = 0; round < 2; ++round) {  // at every call
        std::memset(&san.table, 0x5A, sizeof(san.table));
        ASSERT_EQ(start(), 0);
        void* slots[30];
        static_assert(sizeof(slots) == sizeof(san.table));
        std::memcpy(slots, &san.table, sizeof(slots));
        const std::vector<int> needed{1, 4, 6, 7, 8, 9, 10, 11, 12, 15, 16, 17, 19, 20, 24, 27, 29};
        for (int slot = 1; slot <= 30; ++slot) {
            EXPECT_EQ(slots[slot - 1] != nullptr,
                      std::find(needed.begin(), needed.end(), slot) != needed.end())
                << "slot " << slot;
        }
        EXPECT_EQ(san.table.lpWSPCancelBlockingCall, nullptr);
    }
}

// [F.WSPStartupEx.6]
TEST_F(StartupTest, TheEntryPointIsFoundByName) {
    void* library = ::dlopen(Calls::library_path().c_str(), RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library, nullptr) << ::dlerror();
    EXPECT_EQ(reinterpret_cast<LPWSPSTARTUPEX>(::dlsym(library, "WSPStartupEx")), Calls::startup());
    EXPECT_EQ(::dlsym(library, "WSPStartup"), nullptr);
    ::dlclose(library);
}

// [F.WSPStartupEx.1 F.WSPCleanup.1 R17.1 R20.1]
TEST_F(StartupTest, StartsAndCleanupsAreCounted) {
    ASSERT_EQ(start(), 0);
    ASSERT_EQ(start(), 0);
    ASSERT_EQ(start(MAKEWORD(1, 1)), WSAVERNOTSUPPORTED);  // no start, so not counted
    EXPECT_EQ(cleanup(), 0);
    const SOCKET s = san.socket();
    EXPECT_NE(s, INVALID_SOCKET);
    EXPECT_EQ(cleanup(), 0);
    EXPECT_EQ(san.close(s), WSANOTINITIALISED);
}

// [F.WSPCleanup.WSANOTINITIALISED R17.3 R20.1]
TEST_F(StartupTest, OneCleanupTooManyIsNotInitialised) {
    ASSERT_EQ(start(), 0);
    EXPECT_EQ(cleanup(), 0);
    EXPECT_EQ(cleanup(), WSANOTINITIALISED);
}

// [F.WSPCleanup.4 R17.4]
TEST_F(StartupTest, ItStartsAgainAfterTheLastCleanup) {
    for (int round = 0; round < 5; ++round) {
        ASSERT_EQ(start(), 0);
        EXPECT_EQ(san.close(san.socket()), 0);
        ASSERT_EQ(cleanup(), 0);
    }
}

// [R17.5]
TEST_F(StartupTest, TheLastCleanupEndsTheProvidersThreads) {
    const auto threads = [] {
        const std::filesystem::directory_iterator tasks("/proc/self/task");
        return std::distance(begin(tasks), end(tasks));
    };
    ASSERT_EQ(start(), 0);  // the first one may bring threads of others, a sanitizer's for example
    ASSERT_EQ(cleanup(), 0);
    const auto before = threads();
    ASSERT_EQ(start(), 0);
    EXPECT_NE(san.socket(), INVALID_SOCKET);
    EXPECT_EQ(cleanup(), 0);
    // The kernel removes a thread that was joined a moment later.
    EXPECT_TRUE(eventually([&] { return threads() <= before; }));
}

// [F.WSPStartupEx.2]
TEST_F(StartupTest, TheUpcallTableIsCopied) {
    ASSERT_EQ(start(), 0);
    table = {};
    EXPECT_NE(san.socket(), INVALID_SOCKET);
}

LPWPUCREATESOCKETHANDLE original_create = nullptr;
int calls_of_the_second_table = 0;

// [F.WSPStartupEx.2]
TEST_F(StartupTest, TheLatestUpcallTableIsUsed) {
    ASSERT_EQ(start(), 0);
    original_create = table.lpWPUCreateSocketHandle;
    calls_of_the_second_table = 0;
    table.lpWPUCreateSocketHandle = [](DWORD entry, DWORD_PTR context, LPINT error) {
        ++calls_of_the_second_table;
        return original_create(entry, context, error);
    };
    ASSERT_EQ(start(), 0);
    EXPECT_NE(san.socket(), INVALID_SOCKET);
    EXPECT_EQ(calls_of_the_second_table, 1);
}

DWORD catalogue_entry = 1;

// [C17]
TEST_F(StartupTest, TheCatalogueEntryOfAHandleIsZero) {  // project decision
    original_create = table.lpWPUCreateSocketHandle;
    table.lpWPUCreateSocketHandle = [](DWORD entry, DWORD_PTR context, LPINT error) {
        catalogue_entry = entry;
        return original_create(entry, context, error);
    };
    ASSERT_EQ(start(), 0);
    EXPECT_NE(san.socket(), INVALID_SOCKET);
    EXPECT_EQ(catalogue_entry, 0U);
}

// [F.WSPStartupEx.WSAEPROVIDERFAILEDINIT]
TEST_F(StartupTest, WhatCannotBeInitialisedFailsAndCanBeTriedAgain) {
    const Knobs wrong{{"mode", "turbo"}};
    test::set_knobs(wrong);
    EXPECT_EQ(start(), WSAEPROVIDERFAILEDINIT);
    test::unset_knobs(wrong);
    EXPECT_EQ(start(), 0);
}

// [P4]
TEST_F(StartupTest, OutsideStartAndCleanupNothingIsInitialised) {  // project decision
    ASSERT_EQ(san.start(), 0);                                     // with the extension functions
    ASSERT_EQ(san.cleanup(), 0);
    int error = 0;
    (void)san.socket(&error);
    EXPECT_EQ(error, WSANOTINITIALISED);
    (void)san.accept(1, &error);
    EXPECT_EQ(error, WSANOTINITIALISED);
    (void)san.register_memory(1, &error, sizeof(error), MEM_READ, &error);
    EXPECT_EQ(error, WSANOTINITIALISED);
    Polled operation;
    char value[4] = {};
    INT length = 4;
    WSANETWORKEVENTS events{};
    WSAPROTOCOL_INFOW info{};
    DWORD returned = 0;
    EXPECT_EQ(san.bind(1, fresh_address()), WSANOTINITIALISED);
    EXPECT_EQ(san.listen(1, 1), WSANOTINITIALISED);
    EXPECT_EQ(san.connect(1, fresh_address()), WSANOTINITIALISED);
    EXPECT_EQ(san.event_select(1, nullptr, 0), WSANOTINITIALISED);
    EXPECT_EQ(san.enum_events(1, nullptr, &events), WSANOTINITIALISED);
    EXPECT_EQ(san.close(1), WSANOTINITIALISED);
    EXPECT_EQ(san.send(1, value, 1, &operation), WSANOTINITIALISED);
    EXPECT_EQ(san.recv(1, value, 1, &operation), WSANOTINITIALISED);
    EXPECT_EQ(san.overlapped_result(1, &operation, 0).error, WSANOTINITIALISED);
    EXPECT_EQ(san.deregister_memory(1, value), WSANOTINITIALISED);
    EXPECT_EQ(san.ioctl(1, SIO_ADDRESS_LIST_QUERY, nullptr, 0, nullptr, 0, &returned),
              WSANOTINITIALISED);
    EXPECT_EQ(san.get_option(1, WSP_SOL_SOCKET, SO_MAX_MSG_SIZE, value, &length),
              WSANOTINITIALISED);
    EXPECT_EQ(san.set_option(1, WSP_SOL_SOCKET, WSP_SO_DEBUG, value, 4), WSANOTINITIALISED);
    EXPECT_EQ(san.duplicate(1, 1, &info), WSANOTINITIALISED);
    EXPECT_EQ(san.qos_by_name(1, nullptr, nullptr), WSANOTINITIALISED);
    EXPECT_EQ(san.register_rdma(1, value, 4, MEM_READ, value, &returned), WSANOTINITIALISED);
    EXPECT_EQ(san.deregister_rdma(1, value, 4), WSANOTINITIALISED);
    WSABUFEX piece{4, value, nullptr};
    EXPECT_EQ(san.rdma_write(1, &piece, 1, value, 4, 0, &operation), WSANOTINITIALISED);
    EXPECT_EQ(san.rdma_read(1, &piece, 1, value, 4, 0, &operation), WSANOTINITIALISED);
    if (san.cache_callback_function != nullptr) {
        EXPECT_EQ(san.cache_callback(value, 4), WSANOTINITIALISED);
    }
}

// ---- the last cleanup with work left --------------------------------------------------------------------

class CleanupTest : public PairTest {};

// [F.WSPCleanup.2 F.WSPCleanup.3 R17.2 B31]
TEST_F(CleanupTest, TheLastCleanupAbortsWhatIsPendingAndClosesTheHandles) {
    Notified told;
    Polled polled;
    ASSERT_EQ(recv(pair.client, &told), WSA_IO_PENDING);
    ASSERT_EQ(recv(pair.client, &polled), WSA_IO_PENDING);
    (void)listening(fresh_address());
    (void)connecting(fresh_address());
    stop();
    ASSERT_EQ(upcalls.completions(&told).size(), 1U);
    // The other end is closed by the same call, perhaps first.
    const DWORD error = upcalls.completions(&told)[0].error;
    EXPECT_TRUE(error == WSA_OPERATION_ABORTED || error == WSAECONNRESET) << error;
    EXPECT_NE(polled.Internal, kInProgress);
    EXPECT_TRUE(polled.OffsetHigh == WSA_OPERATION_ABORTED || polled.OffsetHigh == WSAECONNRESET);
    EXPECT_EQ(upcalls.open_handles(), 0U);
    EXPECT_EQ(closes_of(pair.client.handle), 1U);
    EXPECT_EQ(closes_of(pair.server.handle), 1U);
    EXPECT_EQ(upcalls.upcalls().back().kind, UpcallKind::kCloseSocketHandle);
}

// [F.WSPCleanup.3]
TEST_F(CleanupTest, ListenersAndConnectorsAreReleasedToo) {
    const sockaddr_in address = fresh_address();
    const SOCKET listener = listening(address);
    const SOCKET s = connecting(address);
    stop();
    EXPECT_EQ(san.close(listener), WSANOTINITIALISED);
    EXPECT_EQ(san.close(s), WSANOTINITIALISED);
    EXPECT_EQ(upcalls.open_handles(), 0U);
}

}  // namespace
}  // namespace sanpoll::conformance
