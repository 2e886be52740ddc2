#include "bench/rdma_end.hpp"

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>

#include "bench/clock.hpp"

namespace sanpoll::bench {
namespace {

constexpr std::size_t kPage = 4096;

void check(const char* step, bool good, int error) {
    if (!good) throw san_fault(step, error);
}

// Completions are polled for.
void begin(WSAOVERLAPPED& overlapped) {
    overlapped.hEvent = reinterpret_cast<WSAEVENT>(std::uintptr_t{1});
}

SANPOLL_MEMORY_FUNCTIONS memory_functions(const sanpoll_switch::Provider& provider) {
    SANPOLL_MEMORY_FUNCTIONS functions{};
    GUID id = WSAID_SANPOLL_MEMORY;
    DWORD bytes = 0;
    int error = 0;
    const int failed = provider.table().lpWSPIoctl(
        INVALID_SOCKET, SIO_GET_MULTIPLE_EXTENSION_FUNCTION_POINTER, &id, sizeof(id), &functions,
        sizeof(functions), &bytes, nullptr, nullptr, nullptr, &error);
    check("asking for memory of the provider's (WSAID_SANPOLL_MEMORY)", failed == 0, error);
    return functions;
}

}  // namespace

RdmaMemory::RdmaMemory(const sanpoll_switch::Provider& provider, MemoryKind kind, std::size_t bytes)
    : bytes_((bytes + kPage - 1) / kPage * kPage), kind_(kind) {
    if (kind == MemoryKind::kArena) {
        const SANPOLL_MEMORY_FUNCTIONS functions = memory_functions(provider);
        DWORD reason = 0;
        auto* data = static_cast<char*>(functions.lpAllocate(bytes_, kPage, 0, &reason));
        if (data == nullptr) throw ConnectionFault(functions.lpReasonText(reason));
        data_ = {data, MemoryFree{functions.lpFree}};
    } else {
        data_.reset(static_cast<char*>(std::aligned_alloc(kPage, bytes_)));
        if (!data_) throw std::bad_alloc();
    }
    std::memset(data_.get(), 1, bytes_);
}

void RdmaMemory::register_with(const SanSocket& socket) {
    int error = 0;
    handle_ = socket.provider().extensions().register_memory(
        socket.descriptor(), data_.get(), static_cast<DWORD>(bytes_), MEM_READWRITE, &error);
    check("WSPRegisterMemory", handle_ != nullptr, error);
}

bool RdmaEnd::stores() const {
    return memory_.kind() == MemoryKind::kArena &&
           socket_.fabric().arenas.find("store") != std::string::npos;
}

bool RdmaEnd::wait_for_stores() const {
    for (int tries = 0; tries < 1000 && !stores(); ++tries) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return stores();
}

std::vector<unsigned char> RdmaEnd::expose() const {
    std::vector<unsigned char> descriptor(64);
    auto length = static_cast<DWORD>(descriptor.size());
    int error = 0;
    const int failed = socket_.provider().extensions().register_rdma_memory(
        socket_.descriptor(), memory_.data(), static_cast<DWORD>(memory_.size()), MEM_READWRITE,
        descriptor.data(), &length, &error);
    check("WSPRegisterRdmaMemory", failed == 0, error);
    descriptor.resize(length);
    return descriptor;
}

void RdmaEnd::post(bool writes, WSAOVERLAPPED& overlapped, std::size_t local, std::size_t remote,
                   std::size_t bytes) const {
    begin(overlapped);
    WSABUFEX buffer{static_cast<ULONG>(bytes), memory_.data() + local, memory_.handle()};
    const auto& functions = socket_.provider().extensions();
    DWORD moved = 0;
    int error = 0;
    (writes ? functions.rdma_write : functions.rdma_read)(
        socket_.descriptor(), &buffer, 1, const_cast<unsigned char*>(peer_.data()),
        static_cast<DWORD>(peer_.size()), static_cast<DWORD>(remote), &moved, 0, &overlapped,
        nullptr, nullptr, &error);
    check(writes ? "WSPRdmaWrite" : "WSPRdmaRead", error == WSA_IO_PENDING, error);
}

void RdmaEnd::post_write(WSAOVERLAPPED& overlapped, std::size_t from, std::size_t to,
                         std::size_t bytes) const {
    post(true, overlapped, from, to, bytes);
}

void RdmaEnd::post_read(WSAOVERLAPPED& overlapped, std::size_t to, std::size_t from,
                        std::size_t bytes) const {
    post(false, overlapped, to, from, bytes);
}

void RdmaEnd::post_receive(WSAOVERLAPPED& overlapped, std::size_t at, std::size_t bytes) const {
    begin(overlapped);
    WSABUF buffer{static_cast<ULONG>(bytes), memory_.data() + at};
    DWORD moved = 0;
    DWORD flags = 0;
    int error = 0;
    socket_.provider().table().lpWSPRecv(socket_.descriptor(), &buffer, 1, &moved, &flags,
                                         &overlapped, nullptr, nullptr, &error);
    check("WSPRecv", error == WSA_IO_PENDING, error);
}

void RdmaEnd::post_send(WSAOVERLAPPED& overlapped, std::size_t at, std::size_t bytes) const {
    begin(overlapped);
    WSABUF buffer{static_cast<ULONG>(bytes), memory_.data() + at};
    DWORD moved = 0;
    int error = 0;
    socket_.provider().table().lpWSPSend(socket_.descriptor(), &buffer, 1, &moved, 0, &overlapped,
                                         nullptr, nullptr, &error);
    check("WSPSend", error == WSA_IO_PENDING, error);
}

bool RdmaEnd::ended(WSAOVERLAPPED& overlapped) const {
    DWORD bytes = 0;
    DWORD flags = 0;
    int error = 0;
    if (socket_.provider().table().lpWSPGetOverlappedResult(socket_.descriptor(), &overlapped,
                                                            &bytes, FALSE, &flags, &error)) {
        return true;
    }
    check("an operation", error == WSA_IO_INCOMPLETE, error);
    return false;
}

void RdmaEnd::finish(WSAOVERLAPPED& overlapped) const {
    while (!ended(overlapped))
        cpu_pause();
}

}  // namespace sanpoll::bench
