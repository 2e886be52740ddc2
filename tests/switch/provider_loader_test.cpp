#include <dlfcn.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sanpoll/switch.hpp>
#include <string>

#include "tests/switch/fake_provider.hpp"

// Paths of the libraries built for this test: SANPOLL_FAKE_PROVIDER, SANPOLL_NO_PROVIDER.

namespace sanpoll_switch {
namespace {

// A variable of the environment for the time of a test.
class ScopedVariable {
public:
    ScopedVariable(const char* name, const char* value) : name_(name) { ::setenv(name, value, 1); }
    ~ScopedVariable() { ::unsetenv(name_); }
    ScopedVariable(const ScopedVariable&) = delete;
    ScopedVariable& operator=(const ScopedVariable&) = delete;

private:
    const char* name_;
};

class ProviderLoaderTest : public ::testing::Test {
protected:
    void SetUp() override {
        ::unsetenv("SANPOLL_LIBRARY");
        // Held open, so that the record outlives the providers under test.
        library_ = ::dlopen(SANPOLL_FAKE_PROVIDER, RTLD_NOW | RTLD_LOCAL);
        ASSERT_NE(library_, nullptr);
        record_ = static_cast<FakeProviderRecord*>(::dlsym(library_, "fake_provider_record"));
        ASSERT_NE(record_, nullptr);
        *record_ = {};
    }
    void TearDown() override { ::dlclose(library_); }

    static LoadResult load(const std::string& path = SANPOLL_FAKE_PROVIDER) {
        return Provider::load({.library = path});
    }

    // The load fails at this step; a provider that was started has been cleaned up. Returns the
    // message.
    std::string expect_failure(const LoadResult& result, LoadStep step, int wsa_error) {
        EXPECT_FALSE(result);
        EXPECT_EQ(result.provider, nullptr);
        EXPECT_EQ(result.error.step, step);
        EXPECT_EQ(result.error.wsa_error, wsa_error);
        EXPECT_FALSE(result.error.message.empty());
        EXPECT_EQ(result.error.message.find('\n'), std::string::npos);
        EXPECT_EQ(record_->starts, record_->cleanups);
        if (wsa_error != 0) {
            EXPECT_NE(result.error.message.find(wsa_error_name(wsa_error)), std::string::npos);
        }
        return result.error.message;
    }

    void* library_ = nullptr;
    FakeProviderRecord* record_ = nullptr;
};

TEST_F(ProviderLoaderTest, StartsAndCleansUp) {
    {
        const auto loaded = load();
        ASSERT_TRUE(loaded) << loaded.error.message;
        EXPECT_EQ(loaded.error.step, LoadStep::kNone);
        EXPECT_EQ(record_->starts, 1);
        EXPECT_EQ(record_->requested_version, 0x0202);
        EXPECT_EQ(loaded.provider->path(), SANPOLL_FAKE_PROVIDER);
        EXPECT_EQ(loaded.provider->data().wVersion, 0x0202);
        EXPECT_NE(loaded.provider->table().lpWSPListen, nullptr);
        EXPECT_EQ(record_->upcalls.lpWPUCompleteOverlappedRequest,
                  upcall_table().lpWPUCompleteOverlappedRequest);
        EXPECT_EQ(record_->cleanups, 0);
    }
    EXPECT_EQ(record_->cleanups, 1);
}

TEST_F(ProviderLoaderTest, PassesTheProtocolInformationOfTcp) {
    const auto loaded = load();
    ASSERT_TRUE(loaded);
    const WSAPROTOCOL_INFOW& info = record_->protocol_info;
    EXPECT_EQ(info.iAddressFamily, AF_INET);
    EXPECT_EQ(info.iSocketType, SOCK_STREAM);
    EXPECT_EQ(info.iProtocol, IPPROTO_TCP);
    EXPECT_EQ(info.iMaxSockAddr, 16);
    EXPECT_EQ(info.iVersion, 2);
    EXPECT_EQ(info.ProtocolChain.ChainLen, BASE_PROTOCOL);
    EXPECT_EQ(info.dwServiceFlags1 & XP1_CONNECTIONLESS, 0u);
    EXPECT_EQ(info.dwServiceFlags1 & XP1_MESSAGE_ORIENTED, 0u);
    EXPECT_EQ(info.dwProviderReserved, 0u);
    EXPECT_EQ(std::u16string(info.szProtocol), u"TCP/IP");
}

TEST_F(ProviderLoaderTest, FetchesExtensionsAndLeavesUnsupportedOnesNull) {
    const auto loaded = load();
    ASSERT_TRUE(loaded);
    const ExtensionFunctions& functions = loaded.provider->extensions();
    ASSERT_NE(functions.register_memory, nullptr);
    EXPECT_NE(functions.deregister_memory, nullptr);
    EXPECT_EQ(functions.register_rdma_memory, nullptr);
    EXPECT_EQ(functions.deregister_rdma_memory, nullptr);
    EXPECT_EQ(functions.rdma_write, nullptr);
    EXPECT_EQ(functions.rdma_read, nullptr);
    EXPECT_EQ(functions.memory_registration_cache_callback, nullptr);
    int error = 0;
    EXPECT_EQ(functions.register_memory(1000, this, 8, MEM_READ, &error), this);
}

TEST_F(ProviderLoaderTest, TwoStartsAreTwoCleanups) {
    {
        const auto first = load();
        const auto second = load();
        ASSERT_TRUE(first && second);
    }
    EXPECT_EQ(record_->starts, 2);
    EXPECT_EQ(record_->cleanups, 2);
}

TEST_F(ProviderLoaderTest, FindsTheLibraryNamedByTheEnvironment) {
    const ScopedVariable library("SANPOLL_LIBRARY", SANPOLL_FAKE_PROVIDER);
    EXPECT_EQ(default_library(), SANPOLL_FAKE_PROVIDER);
    const auto loaded = Provider::load();
    ASSERT_TRUE(loaded) << loaded.error.message;
}

TEST_F(ProviderLoaderTest, FallsBackToTheLibrariesName) {
    const std::filesystem::path library = default_library();
    EXPECT_EQ(library.filename(), "libsanpoll.so");
    EXPECT_TRUE(library.is_relative() || library.parent_path().filename() == "lib");
}

TEST_F(ProviderLoaderTest, MissingFile) {
    const auto message = expect_failure(load("/nowhere/libsanpoll.so"), LoadStep::kFindLibrary, 0);
    EXPECT_NE(message.find("/nowhere/libsanpoll.so"), std::string::npos);
    EXPECT_NE(message.find("SANPOLL_LIBRARY"), std::string::npos);
}

TEST_F(ProviderLoaderTest, MissingLibraryOnTheLoadersPath) {
    expect_failure(load("libsanpoll-that-nobody-has.so"), LoadStep::kOpenLibrary, 0);
}

TEST_F(ProviderLoaderTest, FileThatIsNoLibrary) {
    const auto path = std::filesystem::temp_directory_path() /
                      ("sanpoll-no-library-" + std::to_string(::getpid()));
    std::ofstream(path) << "text";
    expect_failure(load(path), LoadStep::kOpenLibrary, 0);
    std::filesystem::remove(path);
}

TEST_F(ProviderLoaderTest, LibraryWithoutTheEntryPoint) {
    const auto message = expect_failure(load(SANPOLL_NO_PROVIDER), LoadStep::kFindEntryPoint, 0);
    EXPECT_NE(message.find("WSPStartupEx"), std::string::npos);
}

TEST_F(ProviderLoaderTest, FailingStartup) {
    const ScopedVariable fault(kFaultVariable, "startup");
    expect_failure(load(), LoadStep::kStartup, WSASYSNOTREADY);
    EXPECT_EQ(record_->cleanups, 0);
}

TEST_F(ProviderLoaderTest, WrongVersion) {
    const ScopedVariable fault(kFaultVariable, "version");
    const auto message = expect_failure(load(), LoadStep::kStartup, WSAVERNOTSUPPORTED);
    EXPECT_NE(message.find("1.1"), std::string::npos);
    EXPECT_EQ(record_->cleanups, 1);
}

TEST_F(ProviderLoaderTest, IncompleteTable) {
    const ScopedVariable fault(kFaultVariable, "table");
    const auto message = expect_failure(load(), LoadStep::kProcTable, WSAEINVALIDPROCTABLE);
    EXPECT_NE(message.find("WSPListen"), std::string::npos);
}

TEST_F(ProviderLoaderTest, FailingExtension) {
    const ScopedVariable fault(kFaultVariable, "extension");
    const auto message = expect_failure(load(), LoadStep::kExtensionFunction, WSAENETDOWN);
    EXPECT_NE(message.find("WSPRegisterMemory"), std::string::npos);
}

TEST_F(ProviderLoaderTest, ExtensionThatIsNoFunction) {
    const ScopedVariable fault(kFaultVariable, "null extension");
    expect_failure(load(), LoadStep::kExtensionFunction, WSAEINVALIDPROVIDER);
}

TEST_F(ProviderLoaderTest, ProviderThatRefusesCleanupStaysMapped) {
    {
        const ScopedVariable fault(kFaultVariable, "cleanup");
        ASSERT_TRUE(load());
    }
    EXPECT_EQ(record_->cleanups, 0);
    ::dlclose(library_);
    library_ = ::dlopen(SANPOLL_FAKE_PROVIDER, RTLD_NOW | RTLD_NOLOAD);
    ASSERT_NE(library_, nullptr);
    // Ours, and the reference that the provider has kept: later tests begin without it.
    ::dlclose(library_);
    ::dlclose(library_);
    library_ = ::dlopen(SANPOLL_FAKE_PROVIDER, RTLD_NOW | RTLD_LOCAL);
}

TEST_F(ProviderLoaderTest, LibraryIsUnmappedAfterTheLastCleanup) {
    ::dlclose(library_);
    { ASSERT_TRUE(load()); }
    EXPECT_EQ(::dlopen(SANPOLL_FAKE_PROVIDER, RTLD_NOW | RTLD_NOLOAD), nullptr);
    { ASSERT_TRUE(Provider::load({.library = SANPOLL_FAKE_PROVIDER, .unload = false})); }
    library_ = ::dlopen(SANPOLL_FAKE_PROVIDER, RTLD_NOW | RTLD_NOLOAD);
    EXPECT_NE(library_, nullptr);
    ::dlclose(library_);
}

TEST_F(ProviderLoaderTest, PathIsKnownUnderTheIdentity) {
    GUID id = {0xABCDEF01, 2, 3, {1, 2, 3, 4, 5, 6, 7, 8}};
    std::array<WCHAR, 4096> path{};
    INT length = 4096;
    INT error = 0;
    {
        const auto loaded = Provider::load({.library = SANPOLL_FAKE_PROVIDER, .provider_id = id});
        ASSERT_TRUE(loaded);
        EXPECT_EQ(record_->upcalls.lpWPUGetProviderPath(&id, path.data(), &length, &error), 0);
        EXPECT_EQ(std::string(path.data(), path.data() + length - 1), SANPOLL_FAKE_PROVIDER);
    }
    EXPECT_EQ(upcall_table().lpWPUGetProviderPath(&id, path.data(), &length, &error), SOCKET_ERROR);
    EXPECT_EQ(error, WSAEINVAL);
}

// -------------------------------------------------------------------------------------- sockets --

TEST_F(ProviderLoaderTest, SocketComesWithItsSwitchHandle) {
    const auto loaded = load();
    ASSERT_TRUE(loaded);
    const auto first = loaded.provider->socket();
    const auto second = loaded.provider->socket();
    ASSERT_TRUE(first && second);
    EXPECT_NE(first.switch_handle, second.switch_handle);
    DWORD_PTR context = 0;
    int error = 0;
    EXPECT_EQ(upcall_table().lpWPUQuerySocketHandleContext(second.switch_handle, &context, &error),
              0);
    EXPECT_EQ(context, second.descriptor - 1000);

    EXPECT_EQ(loaded.provider->close(first.descriptor), 0);
    EXPECT_EQ(loaded.provider->close(first.descriptor), WSAENOTSOCK);
    EXPECT_EQ(upcall_table().lpWPUQuerySocketHandleContext(first.switch_handle, &context, &error),
              SOCKET_ERROR);
}

TEST_F(ProviderLoaderTest, CleanupClosesWhatIsOpen) {
    auto loaded = load();
    ASSERT_TRUE(loaded);
    const auto socket = loaded.provider->socket();
    loaded.provider.reset();
    EXPECT_EQ(record_->sockets, 0);
    DWORD_PTR context = 0;
    int error = 0;
    EXPECT_EQ(upcall_table().lpWPUQuerySocketHandleContext(socket.switch_handle, &context, &error),
              SOCKET_ERROR);
}

TEST_F(ProviderLoaderTest, DuplicateOfAnOwnSocketHasNoNewHandle) {
    const auto loaded = load();
    ASSERT_TRUE(loaded);
    WSAPROTOCOL_INFOW info = tcpip_protocol_info();
    info.dwProviderReserved = 1003;
    const auto socket = loaded.provider->socket(&info);
    EXPECT_EQ(socket.descriptor, 1003u);
    EXPECT_EQ(socket.switch_handle, INVALID_SOCKET);
}

TEST_F(ProviderLoaderTest, AcceptComesWithHandleAndPeer) {
    const auto loaded = load();
    ASSERT_TRUE(loaded);
    const auto listener = loaded.provider->socket();
    sockaddr_in peer{};
    const auto accepted = loaded.provider->accept(listener.descriptor, &peer);
    ASSERT_TRUE(accepted);
    EXPECT_NE(accepted.switch_handle, INVALID_SOCKET);
    EXPECT_NE(accepted.switch_handle, listener.switch_handle);
    EXPECT_EQ(ntohs(peer.sin_port), 99);
    EXPECT_TRUE(loaded.provider->accept(listener.descriptor));
}

TEST_F(ProviderLoaderTest, RefusedAcceptIsAnError) {
    const auto loaded = load();
    ASSERT_TRUE(loaded);
    const auto listener = loaded.provider->socket();
    const auto refused =
        loaded.provider->accept(listener.descriptor, nullptr,
                                [](LPWSABUF, LPWSABUF, LPQOS, LPQOS, LPWSABUF, LPWSABUF, GROUP*,
                                   DWORD_PTR) { return CF_REJECT; });
    EXPECT_FALSE(refused);
    EXPECT_EQ(refused.error, WSAECONNREFUSED);
    EXPECT_EQ(refused.switch_handle, INVALID_SOCKET);
    EXPECT_EQ(loaded.provider->accept(5).error, WSAENOTSOCK);
}

struct Nested {
    const Provider* provider;
    ProviderSocket made;
};

TEST_F(ProviderLoaderTest, SocketMadeInsideTheConditionFunctionKeepsItsOwnHandle) {
    const auto loaded = load();
    ASSERT_TRUE(loaded);
    const auto listener = loaded.provider->socket();
    Nested nested{loaded.provider.get(), {}};
    const auto accepted = loaded.provider->accept(
        listener.descriptor, nullptr,
        [](LPWSABUF, LPWSABUF, LPQOS, LPQOS, LPWSABUF, LPWSABUF, GROUP*, DWORD_PTR data) -> int {
            auto* inner = reinterpret_cast<Nested*>(data);
            inner->made = inner->provider->socket();
            return CF_ACCEPT;
        },
        reinterpret_cast<DWORD_PTR>(&nested));
    ASSERT_TRUE(accepted && nested.made);
    EXPECT_NE(accepted.switch_handle, nested.made.switch_handle);
    DWORD_PTR context = 0;
    int error = 0;
    EXPECT_EQ(
        upcall_table().lpWPUQuerySocketHandleContext(accepted.switch_handle, &context, &error), 0);
    EXPECT_EQ(context, accepted.descriptor - 1000);
}

TEST_F(ProviderLoaderTest, CompletionOfASendArrivesAtThePort) {
    const auto loaded = load();
    ASSERT_TRUE(loaded);
    const auto socket = loaded.provider->socket();
    const HANDLE port = CreateIoCompletionPort(as_handle(socket.switch_handle), nullptr, 6, 0);
    ASSERT_NE(port, nullptr);
    WSAOVERLAPPED overlapped{};
    WSABUF buffer{64, nullptr};
    int error = 0;
    EXPECT_EQ(loaded.provider->table().lpWSPSend(socket.descriptor, &buffer, 1, nullptr, 0,
                                                 &overlapped, nullptr, nullptr, &error),
              SOCKET_ERROR);
    EXPECT_EQ(error, WSA_IO_PENDING);
    OVERLAPPED_ENTRY entry{};
    ULONG removed = 0;
    ASSERT_TRUE(GetQueuedCompletionStatusEx(port, &entry, 1, &removed, WSA_INFINITE, FALSE));
    EXPECT_EQ(entry.lpCompletionKey, 6u);
    EXPECT_EQ(entry.lpOverlapped, &overlapped);
    EXPECT_EQ(entry.dwNumberOfBytesTransferred, 64u);
    CloseHandle(port);
}

}  // namespace
}  // namespace sanpoll_switch
