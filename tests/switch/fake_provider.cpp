#include "tests/switch/fake_provider.hpp"

#include <array>
#include <cstdlib>
#include <cstring>

extern "C" {
__attribute__((visibility("default"))) FakeProviderRecord fake_provider_record;
}

namespace {

FakeProviderRecord& record = fake_provider_record;

bool fault_is(const char* fault) {
    const char* wanted = std::getenv(kFaultVariable);
    return wanted != nullptr && std::strcmp(wanted, fault) == 0;
}

// A descriptor is 1000 + the index here, so that it differs from every switch handle.
std::array<SOCKET, 16> switch_handles{};

SOCKET new_socket(LPINT error) {
    for (std::size_t i = 0; i < switch_handles.size(); ++i) {
        if (switch_handles[i] != 0) continue;
        const SOCKET handle = record.upcalls.lpWPUCreateSocketHandle(0, i, error);
        if (handle == INVALID_SOCKET) return INVALID_SOCKET;
        switch_handles[i] = handle;
        ++record.sockets;
        return 1000 + i;
    }
    *error = WSAEMFILE;
    return INVALID_SOCKET;
}

bool is_open(SOCKET s) {
    return s >= 1000 && s < 1000 + switch_handles.size() && switch_handles[s - 1000] != 0;
}

SOCKET WSPAPI fake_socket(int, int, int, LPWSAPROTOCOL_INFOW info, GROUP, DWORD flags,
                          LPINT error) {
    if (flags != WSA_FLAG_OVERLAPPED) {
        *error = WSAEINVAL;
        return INVALID_SOCKET;
    }
    // A duplicate that comes back to its old descriptor makes no switch handle.
    if (info != nullptr && info->dwProviderReserved != 0) return info->dwProviderReserved;
    return new_socket(error);
}

SOCKET WSPAPI fake_accept(SOCKET listener, sockaddr* peer, LPINT length, LPCONDITIONPROC condition,
                          DWORD_PTR callback_data, LPINT error) {
    if (!is_open(listener)) {
        *error = WSAENOTSOCK;
        return INVALID_SOCKET;
    }
    GROUP group = 0;
    if (condition != nullptr && condition(nullptr, nullptr, nullptr, nullptr, nullptr, nullptr,
                                          &group, callback_data) != CF_ACCEPT) {
        *error = WSAECONNREFUSED;
        return INVALID_SOCKET;
    }
    if (peer != nullptr) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(99);
        std::memcpy(peer, &address, sizeof address);
        *length = sizeof address;
    }
    return new_socket(error);
}

int WSPAPI fake_close(SOCKET s, LPINT error) {
    if (!is_open(s)) {
        *error = WSAENOTSOCK;
        return SOCKET_ERROR;
    }
    record.upcalls.lpWPUCloseSocketHandle(switch_handles[s - 1000], error);
    switch_handles[s - 1000] = 0;
    --record.sockets;
    return 0;
}

int WSPAPI fake_send(SOCKET s, LPWSABUF buffers, DWORD, LPDWORD, DWORD, LPWSAOVERLAPPED overlapped,
                     LPWSAOVERLAPPED_COMPLETION_ROUTINE, LPWSATHREADID, LPINT error) {
    if (!is_open(s)) {
        *error = WSAENOTSOCK;
        return SOCKET_ERROR;
    }
    overlapped->Internal = WSS_OPERATION_IN_PROGRESS;
    INT ignored = 0;
    record.upcalls.lpWPUCompleteOverlappedRequest(switch_handles[s - 1000], overlapped, 0,
                                                  buffers->len, &ignored);
    *error = WSA_IO_PENDING;
    return SOCKET_ERROR;
}

int WSPAPI fake_cleanup(LPINT error) {
    if (fault_is("cleanup")) {
        *error = WSAENETDOWN;
        return SOCKET_ERROR;
    }
    for (std::size_t i = 0; i < switch_handles.size(); ++i) {
        if (switch_handles[i] != 0) fake_close(1000 + i, error);
    }
    ++record.cleanups;
    return 0;
}

HANDLE WSPAPI fake_register(SOCKET, PVOID buffer, DWORD, DWORD, LPINT) { return buffer; }
int WSPAPI fake_deregister(SOCKET, HANDLE, LPINT) { return 0; }

int WSPAPI fake_ioctl(SOCKET, DWORD code, LPVOID in, DWORD in_length, LPVOID out, DWORD out_length,
                      LPDWORD returned, LPWSAOVERLAPPED, LPWSAOVERLAPPED_COMPLETION_ROUTINE,
                      LPWSATHREADID, LPINT error) {
    if (code != SIO_GET_EXTENSION_FUNCTION_POINTER || in_length != sizeof(GUID) ||
        out_length != sizeof(void*)) {
        *error = WSAEINVAL;
        return SOCKET_ERROR;
    }
    if (fault_is("extension")) {
        *error = WSAENETDOWN;
        return SOCKET_ERROR;
    }
    const GUID register_id = WSAID_REGISTERMEMORY;
    const GUID deregister_id = WSAID_DEREGISTERMEMORY;
    void* function = nullptr;
    if (std::memcmp(in, &register_id, sizeof(GUID)) == 0)
        function = reinterpret_cast<void*>(&fake_register);
    if (std::memcmp(in, &deregister_id, sizeof(GUID)) == 0)
        function = reinterpret_cast<void*>(&fake_deregister);
    if (function == nullptr && !fault_is("null extension")) {
        *error = WSAEOPNOTSUPP;
        return SOCKET_ERROR;
    }
    std::memcpy(out, &function, sizeof function);
    *returned = sizeof function;
    return 0;
}

// The functions that no test calls: only their presence counts.
template <class Function>
struct Unused;
template <class Result, class... Arguments>
struct Unused<Result(WSPAPI*)(Arguments...)> {
    static Result WSPAPI call(Arguments...) { return Result{}; }
};

template <class Function>
void fill(Function& entry) {
    entry = &Unused<Function>::call;
}

}  // namespace

int WSPAPI WSPStartupEx(WORD version, LPWSPDATA data, LPWSAPROTOCOL_INFOW info,
                        LPWSPUPCALLTABLEEX upcalls, LPWSPPROC_TABLE table) {
    if (fault_is("startup")) return WSASYSNOTREADY;
    ++record.starts;
    record.requested_version = version;
    record.protocol_info = *info;
    record.upcalls = *upcalls;
    data->wVersion = fault_is("version") ? MAKEWORD(1, 1) : MAKEWORD(2, 2);
    data->wHighVersion = data->wVersion;

    *table = {};
    table->lpWSPAccept = fake_accept;
    fill(table->lpWSPBind);
    table->lpWSPCleanup = fake_cleanup;
    table->lpWSPCloseSocket = fake_close;
    fill(table->lpWSPConnect);
    fill(table->lpWSPDuplicateSocket);
    fill(table->lpWSPEnumNetworkEvents);
    fill(table->lpWSPEventSelect);
    fill(table->lpWSPGetOverlappedResult);
    fill(table->lpWSPGetSockOpt);
    fill(table->lpWSPGetQOSByName);
    table->lpWSPIoctl = fake_ioctl;
    if (!fault_is("table")) fill(table->lpWSPListen);
    fill(table->lpWSPRecv);
    table->lpWSPSend = fake_send;
    fill(table->lpWSPSetSockOpt);
    table->lpWSPSocket = fake_socket;
    return 0;
}
