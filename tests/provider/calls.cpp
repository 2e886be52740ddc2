#include "tests/provider/calls.hpp"

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/provider/patience.hpp"
#include "tests/provider/recording_switch.hpp"

namespace sanpoll::test {
namespace {

constexpr INT kUntouched = -77;
LPWSPSTARTUPEX linked_startup = nullptr;

// The error of an `int` function. Writing 0 on success is a project decision.
int checked(int result, INT error) {
    if (result == 0) {
        EXPECT_EQ(error, 0) << "success, but *lpErrno says something else";
        return 0;
    }
    EXPECT_EQ(result, SOCKET_ERROR);
    EXPECT_NE(error, 0) << "failed without an error number";
    EXPECT_NE(error, kUntouched) << "failed without an error number";
    return error;
}

SOCKET checked_socket(SOCKET result, INT error, int* out) {
    if (result == INVALID_SOCKET) {
        EXPECT_NE(error, 0);
        EXPECT_NE(error, kUntouched);
    } else {
        EXPECT_EQ(error, 0);
    }
    if (out != nullptr) {
        *out = error;
    }
    return result;
}

}  // namespace

std::string Calls::library_path() {
    const char* path = std::getenv("SANPOLL_LIBRARY");
    return path != nullptr ? path : "libsanpoll.so";
}

void Calls::use(LPWSPSTARTUPEX linked) { linked_startup = linked; }

LPWSPSTARTUPEX Calls::startup() {
    if (linked_startup != nullptr) {
        return linked_startup;
    }
    static const auto function = [] {
        void* library = ::dlopen(library_path().c_str(), RTLD_NOW | RTLD_LOCAL);
        if (library == nullptr) {
            std::fprintf(stderr, "cannot load the provider: %s\n", ::dlerror());
            std::abort();
        }
        return reinterpret_cast<LPWSPSTARTUPEX>(::dlsym(library, "WSPStartupEx"));
    }();
    return function;
}

int Calls::start() {
    WSPUPCALLTABLEEX upcalls = RecordingSwitch::instance().table();
    WSPDATA data{};
    WSAPROTOCOL_INFOW info{};
    if (const int error = startup()(MAKEWORD(2, 2), &data, &info, &upcalls, &table); error != 0) {
        return error;
    }
    GUID guid = WSAID_REGISTERMEMORY;
    DWORD returned = 0;
    EXPECT_EQ(0, ioctl(INVALID_SOCKET, SIO_GET_EXTENSION_FUNCTION_POINTER, &guid, sizeof(guid),
                       &register_function, sizeof(register_function), &returned));
    guid = WSAID_DEREGISTERMEMORY;
    EXPECT_EQ(0, ioctl(INVALID_SOCKET, SIO_GET_EXTENSION_FUNCTION_POINTER, &guid, sizeof(guid),
                       &deregister_function, sizeof(deregister_function), &returned));
    const auto fetch = [this](GUID id, auto& function) {
        DWORD bytes = 0;
        EXPECT_EQ(0, ioctl(INVALID_SOCKET, SIO_GET_EXTENSION_FUNCTION_POINTER, &id, sizeof(id),
                           &function, sizeof(function), &bytes));
    };
    fetch(WSAID_REGISTERRDMAMEMORY, register_rdma_function);
    fetch(WSAID_DEREGISTERRDMAMEMORY, deregister_rdma_function);
    fetch(WSAID_RDMAWRITE, rdma_write_function);
    fetch(WSAID_RDMAREAD, rdma_read_function);
    // There while registrations are cached.
    guid = WSAID_MEMORYREGISTRATIONCACHECALLBACK;
    cache_callback_function = nullptr;
    if (const int error =
            ioctl(INVALID_SOCKET, SIO_GET_EXTENSION_FUNCTION_POINTER, &guid, sizeof(guid),
                  &cache_callback_function, sizeof(cache_callback_function), &returned);
        error != 0) {
        EXPECT_EQ(error, WSAEOPNOTSUPP);
        EXPECT_EQ(cache_callback_function, nullptr);
    }
    return 0;
}

int Calls::cleanup() const {
    INT error = kUntouched;
    const int result = table.lpWSPCleanup(&error);
    return checked(result, error);
}

SOCKET Calls::socket(int* error, int af, int type, int protocol, LPWSAPROTOCOL_INFOW info, GROUP g,
                     DWORD flags) const {
    INT code = kUntouched;
    const SOCKET s = table.lpWSPSocket(af, type, protocol, info, g, flags, &code);
    return checked_socket(s, code, error);
}

SOCKET Calls::accept(SOCKET s, int* error, LPCONDITIONPROC condition, DWORD_PTR data,
                     sockaddr_in* peer, INT* length) const {
    INT code = kUntouched;
    INT size = sizeof(sockaddr_in);
    const SOCKET accepted = table.lpWSPAccept(
        s, reinterpret_cast<sockaddr*>(peer),
        length != nullptr ? length : (peer != nullptr ? &size : nullptr), condition, data, &code);
    return checked_socket(accepted, code, error);
}

int Calls::bind(SOCKET s, const sockaddr_in& address, int length) const {
    INT error = kUntouched;
    const int result =
        table.lpWSPBind(s, reinterpret_cast<const sockaddr*>(&address), length, &error);
    return checked(result, error);
}

int Calls::listen(SOCKET s, int backlog) const {
    INT error = kUntouched;
    const int result = table.lpWSPListen(s, backlog, &error);
    return checked(result, error);
}

int Calls::connect(SOCKET s, const sockaddr_in& address, LPWSABUF caller, LPWSABUF callee) const {
    INT error = kUntouched;
    const int result =
        table.lpWSPConnect(s, reinterpret_cast<const sockaddr*>(&address), sizeof(address), caller,
                           callee, nullptr, nullptr, &error);
    return checked(result, error);
}

int Calls::event_select(SOCKET s, WSAEVENT event, LONG mask) const {
    INT error = kUntouched;
    const int result = table.lpWSPEventSelect(s, event, mask, &error);
    return checked(result, error);
}

int Calls::enum_events(SOCKET s, WSAEVENT event, LPWSANETWORKEVENTS events) const {
    INT error = kUntouched;
    const int result = table.lpWSPEnumNetworkEvents(s, event, events, &error);
    return checked(result, error);
}

int Calls::close(SOCKET s) const {
    INT error = kUntouched;
    const int result = table.lpWSPCloseSocket(s, &error);
    return checked(result, error);
}

int Calls::send(SOCKET s, const void* data, std::size_t length, LPWSAOVERLAPPED overlapped) const {
    WSABUF buffer{static_cast<ULONG>(length), static_cast<CHAR*>(const_cast<void*>(data))};
    return send_list(s, &buffer, 1, overlapped);
}

int Calls::send_list(SOCKET s, LPWSABUF buffers, DWORD count, LPWSAOVERLAPPED overlapped,
                     DWORD flags) const {
    INT error = kUntouched;
    DWORD sent = 0x5A5A5A5A;
    const int result =
        table.lpWSPSend(s, buffers, count, &sent, flags, overlapped, nullptr, nullptr, &error);
    EXPECT_EQ(sent, 0x5A5A5A5AU) << "the count is written only by a call that completes at once";
    return checked(result, error);
}

int Calls::recv(SOCKET s, void* data, std::size_t length, LPWSAOVERLAPPED overlapped) const {
    WSABUF buffer{static_cast<ULONG>(length), static_cast<CHAR*>(data)};
    return recv_list(s, &buffer, 1, overlapped);
}

int Calls::recv_list(SOCKET s, LPWSABUF buffers, DWORD count, LPWSAOVERLAPPED overlapped,
                     DWORD flags) const {
    INT error = kUntouched;
    DWORD received = 0x5A5A5A5A;
    DWORD in_out = flags;
    const int result = table.lpWSPRecv(s, buffers, count, &received, &in_out, overlapped, nullptr,
                                       nullptr, &error);
    EXPECT_EQ(received, 0x5A5A5A5AU)
        << "the count is written only by a call that completes at once";
    EXPECT_EQ(in_out, flags) << "a pending call does not update the flags";
    return checked(result, error);
}

Result Calls::overlapped_result(SOCKET s, LPWSAOVERLAPPED overlapped, BOOL wait) const {
    Result result{kUntouched, 0xBADBAD, 0xBADBAD};
    const BOOL done = table.lpWSPGetOverlappedResult(s, overlapped, &result.bytes, wait,
                                                     &result.flags, &result.error);
    if (done == 0) {
        EXPECT_NE(result.error, 0);
        EXPECT_EQ(result.bytes, 0xBADBADU) << "on FALSE the byte count is not updated";
    } else {
        EXPECT_EQ(done, 1);
        EXPECT_EQ(result.error, 0);
    }
    return result;
}

Result Calls::finish(SOCKET s, LPWSAOVERLAPPED overlapped) const {
    Result result;
    (void)eventually([&] {
        result = overlapped_result(s, overlapped, 0);
        return result.error != WSA_IO_INCOMPLETE;
    });
    return result;
}

HANDLE Calls::register_memory(SOCKET s, void* address, std::size_t length, DWORD flags,
                              int* error) const {
    INT code = kUntouched;
    HANDLE handle = register_function(s, address, static_cast<DWORD>(length), flags, &code);
    if (handle == nullptr) {
        EXPECT_NE(code, 0);
        EXPECT_NE(code, kUntouched);
    } else {
        EXPECT_EQ(code, 0);
    }
    if (error != nullptr) {
        *error = code;
    }
    return handle;
}

int Calls::deregister_memory(SOCKET s, HANDLE handle) const {
    INT error = kUntouched;
    const int result = deregister_function(s, handle, &error);
    return checked(result, error);
}

int Calls::register_rdma(SOCKET s, void* address, std::size_t bytes, DWORD flags, void* descriptor,
                         DWORD* length) const {
    INT error = kUntouched;
    const int result = register_rdma_function(s, address, static_cast<DWORD>(bytes), flags,
                                              descriptor, length, &error);
    return checked(result, error);
}

int Calls::deregister_rdma(SOCKET s, void* descriptor, std::size_t length) const {
    INT error = kUntouched;
    const int result = deregister_rdma_function(s, descriptor, static_cast<DWORD>(length), &error);
    return checked(result, error);
}

int Calls::rdma_write(SOCKET s, LPWSABUFEX buffers, DWORD count, void* descriptor,
                      std::size_t length, DWORD offset, LPWSAOVERLAPPED overlapped,
                      DWORD flags) const {
    INT error = kUntouched;
    DWORD written = 0x5A5A5A5A;
    const int result =
        rdma_write_function(s, buffers, count, descriptor, static_cast<DWORD>(length), offset,
                            &written, flags, overlapped, nullptr, nullptr, &error);
    EXPECT_EQ(written, 0x5A5A5A5AU) << "the count is written only by a call that completes at once";
    return checked(result, error);
}

int Calls::rdma_read(SOCKET s, LPWSABUFEX buffers, DWORD count, void* descriptor,
                     std::size_t length, DWORD offset, LPWSAOVERLAPPED overlapped,
                     DWORD flags) const {
    INT error = kUntouched;
    DWORD read = 0x5A5A5A5A;
    const int result =
        rdma_read_function(s, buffers, count, descriptor, static_cast<DWORD>(length), offset, &read,
                           flags, overlapped, nullptr, nullptr, &error);
    EXPECT_EQ(read, 0x5A5A5A5AU) << "the count is written only by a call that completes at once";
    return checked(result, error);
}

int Calls::cache_callback(void* address, std::size_t length) const {
    INT error = kUntouched;
    const int result = cache_callback_function(address, length, &error);
    return checked(result, error);
}

int Calls::ioctl(SOCKET s, DWORD code, void* in, std::size_t in_length, void* out,
                 std::size_t out_length, DWORD* returned) const {
    INT error = kUntouched;
    const int result = table.lpWSPIoctl(s, code, in, static_cast<DWORD>(in_length), out,
                                        static_cast<DWORD>(out_length), returned, nullptr, nullptr,
                                        nullptr, &error);
    return checked(result, error);
}

int Calls::get_option(SOCKET s, int level, int name, char* value, INT* length) const {
    INT error = kUntouched;
    const int result = table.lpWSPGetSockOpt(s, level, name, value, length, &error);
    return checked(result, error);
}

int Calls::set_option(SOCKET s, int level, int name, const char* value, INT length) const {
    INT error = kUntouched;
    const int result = table.lpWSPSetSockOpt(s, level, name, value, length, &error);
    return checked(result, error);
}

int Calls::duplicate(SOCKET s, DWORD process, LPWSAPROTOCOL_INFOW info) const {
    INT error = kUntouched;
    const int result = table.lpWSPDuplicateSocket(s, process, info, &error);
    return checked(result, error);
}

int Calls::qos_by_name(SOCKET s, LPWSABUF name, LPQOS qos) const {
    INT error = kUntouched;
    const BOOL result = table.lpWSPGetQOSByName(s, name, qos, &error);
    EXPECT_EQ(result, 0);  // FALSE, not SOCKET_ERROR
    return error;
}

}  // namespace sanpoll::test
