// The provider's table as functions that return the error number, 0 for success. Each checks that the
// return value and *lpErrno tell the same.
#pragma once

#include <ws2san.h>

#include <string>

#include "tests/provider/patience.hpp"

namespace sanpoll::test {

/// Of an operation that was waited for.
struct Result {
    int error = 0;
    DWORD bytes = 0;
    DWORD flags = 0;
};

class Calls {
public:
    /// Loads the library that SANPOLL_LIBRARY names, once, and keeps it.
    static LPWSPSTARTUPEX startup();
    /// Before the first start(): the provider is linked into the program, which may then look inside it.
    static void use(LPWSPSTARTUPEX linked);
    static std::string library_path();

    WSPPROC_TABLE table{};
    LPFN_WSPREGISTERMEMORY register_function = nullptr;
    LPFN_WSPDEREGISTERMEMORY deregister_function = nullptr;
    LPFN_WSPREGISTERRDMAMEMORY register_rdma_function = nullptr;
    LPFN_WSPDEREGISTERRDMAMEMORY deregister_rdma_function = nullptr;
    LPFN_WSPRDMAWRITE rdma_write_function = nullptr;
    LPFN_WSPRDMAREAD rdma_read_function = nullptr;
    /// nullptr: nothing is cached.
    LPFN_WSPMEMORYREGISTRATIONCACHECALLBACK cache_callback_function = nullptr;

    /// WSPStartupEx 2.2 with the recording switch's table, and the extension functions.
    [[nodiscard]] int start();
    [[nodiscard]] int cleanup() const;

    // ---- sockets: INVALID_SOCKET on failure, with the error in *error
    [[nodiscard]] SOCKET socket(int* error = nullptr, int af = AF_INET, int type = SOCK_STREAM,
                                int protocol = IPPROTO_TCP, LPWSAPROTOCOL_INFOW info = nullptr,
                                GROUP g = 0, DWORD flags = WSA_FLAG_OVERLAPPED) const;
    [[nodiscard]] SOCKET accept(SOCKET s, int* error = nullptr, LPCONDITIONPROC condition = nullptr,
                                DWORD_PTR data = 0, sockaddr_in* peer = nullptr,
                                INT* length = nullptr) const;

    // ---- error numbers
    [[nodiscard]] int bind(SOCKET s, const sockaddr_in& address, int length = 16) const;
    [[nodiscard]] int listen(SOCKET s, int backlog) const;
    [[nodiscard]] int connect(SOCKET s, const sockaddr_in& address, LPWSABUF caller = nullptr,
                              LPWSABUF callee = nullptr) const;
    [[nodiscard]] int event_select(SOCKET s, WSAEVENT event, LONG mask) const;
    [[nodiscard]] int enum_events(SOCKET s, WSAEVENT event, LPWSANETWORKEVENTS events) const;
    [[nodiscard]] int close(SOCKET s) const;
    [[nodiscard]] int send(SOCKET s, const void* data, std::size_t length,
                           LPWSAOVERLAPPED overlapped) const;
    [[nodiscard]] int send_list(SOCKET s, LPWSABUF buffers, DWORD count, LPWSAOVERLAPPED overlapped,
                                DWORD flags = 0) const;
    [[nodiscard]] int recv(SOCKET s, void* data, std::size_t length,
                           LPWSAOVERLAPPED overlapped) const;
    [[nodiscard]] int recv_list(SOCKET s, LPWSABUF buffers, DWORD count, LPWSAOVERLAPPED overlapped,
                                DWORD flags = 0) const;
    [[nodiscard]] Result overlapped_result(SOCKET s, LPWSAOVERLAPPED overlapped, BOOL wait) const;
    /// Polls until the operation is finished; WSA_IO_INCOMPLETE when patience ends.
    [[nodiscard]] Result finish(SOCKET s, LPWSAOVERLAPPED overlapped) const;
    [[nodiscard]] HANDLE register_memory(SOCKET s, void* address, std::size_t length, DWORD flags,
                                         int* error = nullptr) const;
    [[nodiscard]] int deregister_memory(SOCKET s, HANDLE handle) const;
    /// The descriptor block of `*length` bytes is `descriptor`.
    [[nodiscard]] int register_rdma(SOCKET s, void* address, std::size_t bytes, DWORD flags,
                                    void* descriptor, DWORD* length) const;
    [[nodiscard]] int deregister_rdma(SOCKET s, void* descriptor, std::size_t length) const;
    [[nodiscard]] int rdma_write(SOCKET s, LPWSABUFEX buffers, DWORD count, void* descriptor,
                                 std::size_t length, DWORD offset, LPWSAOVERLAPPED overlapped,
                                 DWORD flags = 0) const;
    [[nodiscard]] int rdma_read(SOCKET s, LPWSABUFEX buffers, DWORD count, void* descriptor,
                                std::size_t length, DWORD offset, LPWSAOVERLAPPED overlapped,
                                DWORD flags = 0) const;
    /// If there is one.
    [[nodiscard]] int cache_callback(void* address, std::size_t length) const;
    [[nodiscard]] int ioctl(SOCKET s, DWORD code, void* in, std::size_t in_length, void* out,
                            std::size_t out_length, DWORD* returned) const;
    [[nodiscard]] int get_option(SOCKET s, int level, int name, char* value, INT* length) const;
    [[nodiscard]] int set_option(SOCKET s, int level, int name, const char* value,
                                 INT length) const;
    [[nodiscard]] int duplicate(SOCKET s, DWORD process, LPWSAPROTOCOL_INFOW info) const;
    [[nodiscard]] int qos_by_name(SOCKET s, LPWSABUF name, LPQOS qos) const;
};

/// An overlapped operation of which nobody is told: hEvent's low bit is set.
struct Polled : WSAOVERLAPPED {
    Polled() : WSAOVERLAPPED{} { hEvent = reinterpret_cast<WSAEVENT>(1); }
};
/// One that ends with an upcall.
struct Notified : WSAOVERLAPPED {
    explicit Notified(WSAEVENT event = nullptr) : WSAOVERLAPPED{} { hEvent = event; }
};

/// Repeats a post as long as it would block: on a busy machine a dedicated core, or whoever turns the core just then, the
/// control thread perhaps, may not run for a while, and then there is no room for many posts.
template <typename Post>
[[nodiscard]] int patiently(Post post) {
    int error = WSAEWOULDBLOCK;
    (void)eventually([&] {
        error = post();
        return error != WSAEWOULDBLOCK;
    });
    return error;
}

}  // namespace sanpoll::test
