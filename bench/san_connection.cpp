#include "bench/san_connection.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace sanpoll::bench {
namespace {

constexpr std::size_t kLine = 64;
constexpr DWORD kPortEntries = 64;

// hEvent of an operation whose completion is polled for: the low bit, and no event.
const WSAEVENT kPolledEvent = reinterpret_cast<WSAEVENT>(std::uintptr_t{1});

// Between the slots lies one line more than they need: at a stride of a power of two all first lines of large
// messages would fall into the same set of the cache.
std::size_t stride_of(std::size_t slot_bytes) {
    return (slot_bytes + kLine - 1) / kLine * kLine + kLine;
}

}  // namespace

// ------------------------------------------------------------------------------------------------------ region --

SanConnection::Region::Region(const sanpoll_switch::Provider& provider, MemoryKind kind,
                              std::size_t slots, std::size_t slot_bytes)
    : stride_(stride_of(slot_bytes)), bytes_(slots * stride_) {
    if (bytes_ > UINT32_MAX)
        throw ConnectionFault(
            "more than 4 GiB of buffers; choose smaller --sizes or fewer --receives");
    if (kind == MemoryKind::kArena) {
        memory_ = arena_.emplace(provider, kind, bytes_).data();
        return;
    }
    void* mapped = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (mapped == MAP_FAILED) {
        throw ConnectionFault("no memory for " + std::to_string(bytes_ >> 20) +
                              " MiB of buffers; choose smaller --sizes");
    }
    memory_ = static_cast<char*>(mapped);
}

SanConnection::Region::~Region() {
    if (!arena_) munmap(memory_, bytes_);
}

SanConnection::Port::~Port() {
    if (handle != nullptr) sanpoll_switch::CloseHandle(handle);
}

HANDLE SanConnection::register_region(const Region& region, DWORD access) {
    const auto register_memory = socket_.provider().extensions().register_memory;
    int error = WSAEOPNOTSUPP;
    HANDLE handle = nullptr;
    if (register_memory != nullptr) {
        handle =
            register_memory(socket_.descriptor(), region.memory(), region.bytes(), access, &error);
    }
    if (handle == nullptr) throw san_fault("WSPRegisterMemory", error);
    return handle;
}

// -------------------------------------------------------------------------------------------------- connection --

SanConnection::SanConnection(SanSocket socket, const ConnectionShape& shape, Completion completion,
                             const SpinRule& rule, MemoryKind memory)
    : completion_(completion),
      rule_(rule),
      fresh_(shape.fresh),
      slot_bytes_(std::max(shape.size, kAcknowledgementSize)),
      send_region_(socket.provider(), memory, shape.sends, slot_bytes_),
      receive_region_(socket.provider(), memory, shape.receives, slot_bytes_),
      socket_(std::move(socket)),
      table_(socket_.provider().table()) {
    sends_.operations.resize(shape.sends);
    for (std::size_t i = 0; i < shape.sends; ++i) {
        sends_.operations[i].buffer = send_region_.slot(i);
        sends_.operations[i].overlapped.hEvent = kPolledEvent;
    }
    receives_.operations.resize(shape.receives);
    for (std::size_t i = 0; i < shape.receives; ++i) {
        Operation& operation = receives_.operations[i];
        operation.buffer = receive_region_.slot(i);
        operation.overlapped.hEvent = kPolledEvent;
        if (completion_ == Completion::kEvent)
            operation.overlapped.hEvent = events_.emplace_back().handle();
        if (completion_ == Completion::kPort) operation.overlapped.hEvent = nullptr;
    }
    if (completion_ == Completion::kPort) {
        port_.handle = sanpoll_switch::CreateIoCompletionPort(
            sanpoll_switch::as_handle(socket_.switch_handle()), nullptr, 0, 1);
        if (port_.handle == nullptr)
            throw san_fault("CreateIoCompletionPort", sanpoll_switch::WSAGetLastError());
    }
    register_region(receive_region_, MEM_WRITE);
    send_registration_ = register_region(send_region_, MEM_READ);
    while (!receives_.full())
        post_receive();
}

SanConnection::~SanConnection() {
    // As a switch does it: what no operation uses any more is deregistered, the posted receives' memory is the
    // provider's to release when the socket closes.
    const auto deregister_memory = socket_.provider().extensions().deregister_memory;
    int error = 0;
    if (sends_.pending == 0 && deregister_memory != nullptr) {
        deregister_memory(socket_.descriptor(), send_registration_, &error);
    }
}

void SanConnection::post_receive() {
    Operation& operation = receives_.next_free();
    WSABUF buffer{slot_bytes_, operation.buffer};
    DWORD flags = 0;
    DWORD bytes = 0;
    int error = 0;
    if (table_.lpWSPRecv(socket_.descriptor(), &buffer, 1, &bytes, &flags, &operation.overlapped,
                         nullptr, nullptr, &error) != 0 &&
        error != WSA_IO_PENDING) {
        throw san_fault("WSPRecv", error);
    }
    ++receives_.pending;
}

bool SanConnection::finished(Operation& operation, DWORD& bytes, const char* what) {
    DWORD flags = 0;
    int error = 0;
    if (table_.lpWSPGetOverlappedResult(socket_.descriptor(), &operation.overlapped, &bytes, FALSE,
                                        &flags, &error)) {
        return true;
    }
    if (error == WSA_IO_INCOMPLETE) return false;
    throw san_fault(what, error);
}

// ------------------------------------------------------------------------------------------------------ sending --

bool SanConnection::collect_oldest_send() {
    DWORD bytes = 0;
    if (!finished(sends_.first(), bytes, "a send")) return false;
    sends_.drop_first();
    return true;
}

void SanConnection::send(std::uint32_t size, std::uint64_t stamp) {
    if (sends_.full()) {
        Spin spin(rule_, "the completion of a send");
        while (!collect_oldest_send())
            spin.turn();
    }
    Operation& operation = sends_.next_free();
    write_message(operation.buffer, size, stamp, fresh_);
    WSABUF buffer{size, operation.buffer};
    DWORD bytes = 0;
    int error = 0;
    if (table_.lpWSPSend(socket_.descriptor(), &buffer, 1, &bytes, 0, &operation.overlapped,
                         nullptr, nullptr, &error) != 0 &&
        error != WSA_IO_PENDING) {
        throw san_fault("WSPSend", error);
    }
    ++sends_.pending;
}

void SanConnection::drain() {
    Spin spin(rule_, "the completion of a send");
    while (sends_.pending != 0) {
        if (!collect_oldest_send()) spin.turn();
    }
}

// ---------------------------------------------------------------------------------------------------- receiving --

// Sleeps (or spins briefly, as the switch sees fit) until the oldest receive has been notified.
void SanConnection::await_notification() {
    if (completion_ == Completion::kEvent) {
        const SanEvent& event = events_[receives_.oldest];
        event.wait("a message");
        sanpoll_switch::WSAResetEvent(event.handle());
        return;
    }
    if (notified_ == 0) {
        sanpoll_switch::OVERLAPPED_ENTRY entries[kPortEntries];
        ULONG removed = 0;
        const auto patience = static_cast<DWORD>(std::chrono::milliseconds(kPatience).count());
        if (!sanpoll_switch::GetQueuedCompletionStatusEx(port_.handle, entries, kPortEntries,
                                                         &removed, patience, FALSE)) {
            if (sanpoll_switch::WSAGetLastError() != sanpoll_switch::WAIT_TIMEOUT) {
                throw san_fault("GetQueuedCompletionStatusEx", sanpoll_switch::WSAGetLastError());
            }
            throw ConnectionFault("a message did not come for " +
                                  std::to_string(kPatience.count()) +
                                  " s; the other end is stopped or gone");
        }
        notified_ =
            removed;  // all are receives: sends are polled for; receives finish in posting order
    }
    --notified_;
}

void SanConnection::await_receive(DWORD& bytes) {
    if (completion_ != Completion::kPolled) await_notification();
    Operation& operation = receives_.first();
    if (finished(operation, bytes, "a receive")) return;
    Spin spin(rule_, "a message");
    do {
        spin.turn();
    } while (!finished(operation, bytes, "a receive"));
}

// Flattened, as what is measured is the provider and not our own calls.
[[gnu::flatten]] std::uint64_t SanConnection::receive(std::uint32_t size) {
    DWORD bytes = 0;
    await_receive(bytes);
    return take_received(size, bytes);
}

[[gnu::flatten]] std::optional<std::uint64_t> SanConnection::try_receive(std::uint32_t size) {
    DWORD bytes = 0;
    if (!finished(receives_.first(), bytes, "a receive")) return std::nullopt;
    return take_received(size, bytes);
}

std::uint64_t SanConnection::take_received(std::uint32_t size, DWORD bytes) {
    const char* message = receives_.first().buffer;
    receives_.drop_first();
    if (bytes != size) {
        throw ConnectionFault("a message of " + std::to_string(size) + " bytes arrived with " +
                              std::to_string(bytes));
    }
    reader_.read(message, size);
    std::uint64_t stamp = 0;
    if (size >= sizeof stamp) std::memcpy(&stamp, message, sizeof stamp);
    return stamp;
}

void SanConnection::recycle() {
    post_receive();
    // Also off the critical path: collect a send that is over, so that the next one finds a free record.
    if (sends_.pending != 0) collect_oldest_send();
}

}  // namespace sanpoll::bench
