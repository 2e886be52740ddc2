// WSPRdmaWrite and WSPRdmaRead (spec, sections 7 and 9): writing into and reading from what the peer has exposed.
#include <cstddef>

#include "engine/direct_rdma.hpp"
#include "provider/direct_way.hpp"
#include "provider/engine_stay.hpp"
#include "provider/memory_handle.hpp"
#include "provider/posting.hpp"
#include "provider/provider.hpp"
#include "provider/rdma_descriptor.hpp"

namespace sanpoll::provider {
namespace {

// Captures and checks the list of local buffers. Returns a WSA error or 0.
[[gnu::noinline]] int capture_list(const Socket& socket, std::uint32_t generation,
                                   const WSABUFEX* buffers, DWORD count, std::uint32_t access,
                                   engine::WorkRequest& request) noexcept {
    if (count > engine::kMaxSges) {
        return WSAEINVAL;
    }
    if (count != 0 && buffers == nullptr) {
        return WSAEFAULT;
    }
    std::uint64_t sum = 0;
    for (DWORD i = 0; i < count; ++i) {
        const auto address = reinterpret_cast<std::uint64_t>(buffers[i].buf);
        engine::RegionRef region = 0;
        if (buffers[i].len != 0) {
            region = from_handle(socket, generation, buffers[i].handle);
            if (region == 0 || !socket.regions.live(region)) {
                return WSAEINVAL;
            }
        }
        sum += buffers[i].len;
        request.piece(engine::kRemoteSges + i) = {address, buffers[i].len, region};
    }
    if (sum > common().max_rdma) {
        return WSAEMSGSIZE;
    }
    for (DWORD i = 0; i < count; ++i) {
        const engine::Sge& piece = request.piece(engine::kRemoteSges + i);
        if (piece.length != 0 &&
            !socket.regions.covers(piece.region, piece.address, piece.length, access)) {
            return WSAEFAULT;
        }
    }
    request.sge_count = static_cast<std::uint8_t>(engine::kRemoteSges + count);
    request.length = static_cast<std::uint32_t>(sum);
    return 0;
}

// The list of one buffer takes the short way; anything else, and whatever is wrong, the long one.
inline int capture_local(const Socket& socket, std::uint32_t generation, const WSABUFEX* buffers,
                         DWORD count, std::uint32_t access, engine::WorkRequest& request) noexcept {
    if (count == 1 && buffers != nullptr && buffers->len != 0 && buffers->len <= common().max_rdma)
        [[likely]] {
        const auto address = reinterpret_cast<std::uint64_t>(buffers->buf);
        const engine::RegionRef region = from_handle(socket, generation, buffers->handle);
        if (region != 0 && socket.regions.covers(region, address, buffers->len, access))
            [[likely]] {
            request.piece(engine::kRemoteSges) = {address, buffers->len, region};
            request.sge_count = engine::kRemoteSges + 1;
            request.length = buffers->len;
            return 0;
        }
    }
    return capture_list(socket, generation, buffers, count, access, request);
}

// What PollingCore::rdma_at_once asks of. The operation lies apart, for its address is passed on: the rest stays in
// registers.
struct OneBuffer {
    engine::RegionTable& regions;
    WSAOVERLAPPED& overlapped;
    engine::RegionRef region;
    engine::Access access;  // that the region has to allow
    const engine::RdmaOne& operation;

    [[nodiscard]] bool find() noexcept {
        if (!regions.covers_again(region, operation.address, operation.length, access))
            [[unlikely]] {
            return false;
        }
        regions.remember_for_rdma(region, access);
        return true;
    }
    void ended() noexcept { finish(overlapped, operation.length, 0); }
};

// One buffer, and the end is polled for.
inline bool is_plain(const WSABUFEX* buffers, DWORD count, const void* target, DWORD target_length,
                     DWORD flags, const WSAOVERLAPPED* overlapped) noexcept {
    return flags == 0 && overlapped != nullptr && count == 1 && buffers != nullptr &&
           target != nullptr && target_length == sizeof(RdmaDescriptor) &&
           (reinterpret_cast<std::uintptr_t>(overlapped->hEvent) & 1U) != 0;
}

// Does at once what is plain, on an open connection. False: it is something else, or not now; nothing has been done, and
// what is wrong, if anything is, has to be found out.
bool do_at_once(bool write, SOCKET s, const WSABUFEX* buffers, DWORD count, const void* target,
                DWORD target_length, DWORD offset, DWORD flags,
                LPWSAOVERLAPPED overlapped) noexcept {
    const auto generation = static_cast<std::uint32_t>(s >> 32);
    Socket* const found = common().sockets.reach_exactly(s);
    if (found == nullptr || !engine::PostGate::is_open_for(found->gate.look(), generation) ||
        !is_plain(buffers, count, target, target_length, flags, overlapped)) [[unlikely]] {
        return false;
    }
    Socket& socket = *found;
    engine::PollingCore& core = *socket.core.load(std::memory_order_relaxed);
    if (core.dedicated()) [[unlikely]] {
        return false;
    }
    // A core with a device has no such way, and would not be asked with a descriptor of this kind.
    RdmaDescriptor descriptor;
    const std::uint32_t length = buffers->len;
    if (!read_descriptor(target, target_length, RdmaDescriptor::Kind::kLookedUp, descriptor) ||
        length == 0 || length > common().max_rdma ||
        (descriptor.access & (write ? MEM_WRITE : MEM_READ)) == 0 || offset > descriptor.length ||
        length > descriptor.length - offset) [[unlikely]] {
        return false;
    }
    static_assert(sizeof(engine::RemoteName) == sizeof(RdmaDescriptor));
    // Short ones that follow directly are compared with kLongestRdma only.
    const bool may_follow = engine::direct::kLongestRdma <= common().max_rdma;
    const engine::RdmaOne operation{descriptor.place(offset),
                                    reinterpret_cast<std::uint64_t>(buffers->buf),
                                    length,
                                    write,
                                    may_follow ? target : nullptr,
                                    descriptor.length};
    OneBuffer request{socket.regions, *overlapped, from_handle(socket, generation, buffers->handle),
                      write ? engine::kRead : engine::kWrite, operation};
    return core.rdma_at_once(request, socket.gate, generation, socket.endpoint);
}

int post_rdma(engine::Opcode opcode, SOCKET s, const WSABUFEX* buffers, DWORD count,
              const void* target, DWORD target_length, DWORD offset, DWORD flags,
              LPWSAOVERLAPPED overlapped) noexcept {
    Socket* socket = find_open(s);
    if (socket == nullptr) {
        return why_not_open(s);
    }
    RdmaDescriptor descriptor;
    if (flags != 0 || overlapped == nullptr ||
        !read_descriptor(target, target_length, kind_of(*socket), descriptor)) {
        return WSAEINVAL;
    }
    const bool write = opcode == engine::Opcode::kRdmaWrite;
    engine::WorkRequest request;
    request.opcode = opcode;
    if (const int error = capture_local(*socket, static_cast<std::uint32_t>(s >> 32), buffers,
                                        count, write ? engine::kRead : engine::kWrite, request);
        error != 0) {
        return buffers_refused(s, error);
    }
    // The owner would find the same and end the connection.
    if ((descriptor.access & (write ? MEM_WRITE : MEM_READ)) == 0 || offset > descriptor.length ||
        request.length > descriptor.length - offset) {
        return WSAEFAULT;
    }
    if (socket->saturation.sends.load(std::memory_order_relaxed)) {
        return WSAEWOULDBLOCK;
    }
    engine::set_remote(request, descriptor.place(offset));
    return start(*socket, s, overlapped, request);
}

// What is plain, on a connection whose gate is direct.
[[gnu::always_inline]] inline Socket* find_direct(SOCKET s, const WSABUFEX* buffers, DWORD count,
                                                  const void* target, DWORD target_length,
                                                  DWORD flags,
                                                  const WSAOVERLAPPED* overlapped) noexcept {
    Socket& socket = common().sockets.reach(s);
    return socket.gate.is_direct(s) &&
                   is_plain(buffers, count, target, target_length, flags, overlapped)
               ? &socket
               : nullptr;
}

// A long one like the one before.
bool do_long_directly(bool write, SOCKET s, const WSABUFEX* buffers, DWORD count,
                      const void* target, DWORD target_length, DWORD offset, DWORD flags,
                      LPWSAOVERLAPPED overlapped) noexcept {
    Socket* const socket = find_direct(s, buffers, count, target, target_length, flags, overlapped);
    if (socket == nullptr) {
        return false;
    }
    const std::uint32_t length = buffers->len;
    if (length <= engine::direct::kLongestRdma || length > common().max_rdma) {
        return false;
    }
    const engine::RegionRef region =
        from_handle(*socket, static_cast<std::uint32_t>(s >> 32), buffers->handle);
    return engine::direct::rdma_of_any_length(way_of(*socket, s), write, target, offset, region,
                                              reinterpret_cast<std::uint64_t>(buffers->buf), length,
                                              [&]() noexcept { finish(*overlapped, length, 0); });
}

// The signatures of these are those of the functions that end in calling them: the way there is a jump.
[[gnu::noinline]] int write_slowly(SOCKET s, LPWSABUFEX buffers, DWORD count, LPVOID target,
                                   DWORD target_length, DWORD offset, LPDWORD, DWORD flags,
                                   LPWSAOVERLAPPED overlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE,
                                   LPWSATHREADID, LPINT error_number) noexcept {
    const EngineStay stay;
    if (!stay.up()) [[unlikely]] {
        return result(error_number, stay.error());
    }
    const bool done =
        do_long_directly(true, s, buffers, count, target, target_length, offset, flags,
                         overlapped) ||
        do_at_once(true, s, buffers, count, target, target_length, offset, flags, overlapped);
    return result(error_number, done ? WSA_IO_PENDING
                                     : post_rdma(engine::Opcode::kRdmaWrite, s, buffers, count,
                                                 target, target_length, offset, flags, overlapped));
}

[[gnu::noinline]] int read_slowly(SOCKET s, LPWSABUFEX buffers, DWORD count, LPVOID target,
                                  DWORD target_length, DWORD offset, LPDWORD, DWORD flags,
                                  LPWSAOVERLAPPED overlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE,
                                  LPWSATHREADID, LPINT error_number) noexcept {
    const EngineStay stay;
    if (!stay.up()) [[unlikely]] {
        return result(error_number, stay.error());
    }
    const bool done =
        do_long_directly(false, s, buffers, count, target, target_length, offset, flags,
                         overlapped) ||
        do_at_once(false, s, buffers, count, target, target_length, offset, flags, overlapped);
    return result(error_number, done ? WSA_IO_PENDING
                                     : post_rdma(engine::Opcode::kRdmaRead, s, buffers, count,
                                                 target, target_length, offset, flags, overlapped));
}

[[gnu::noinline]] int end_directly(SOCKET s, LPINT error_number) noexcept {
    engine::direct::end_rdma(way_of(common().sockets.at(s), s));
    return result(error_number, WSA_IO_PENDING);
}

// A short one like the one before, in the fewest steps.
[[gnu::always_inline]] inline engine::direct::Outcome do_directly(
    bool write, SOCKET s, const WSABUFEX* buffers, DWORD count, const void* target,
    DWORD target_length, DWORD offset, DWORD flags, LPWSAOVERLAPPED overlapped) noexcept {
    using engine::direct::Outcome;
    Socket* const socket = find_direct(s, buffers, count, target, target_length, flags, overlapped);
    if (socket == nullptr) [[unlikely]] {
        return Outcome::kNothing;
    }
    const std::uint32_t length = buffers->len;
    if (length - 1U >= engine::direct::kLongestRdma) [[unlikely]] {
        return Outcome::kNothing;
    }
    // 0, which is none, lies in no region.
    const engine::RegionRef region =
        from_handle(*socket, static_cast<std::uint32_t>(s >> 32), buffers->handle);
    return engine::direct::rdma(
        way_of(*socket, s), write, target, offset, region,
        reinterpret_cast<std::uint64_t>(buffers->buf),
        length, [&]() __attribute__((always_inline)) { finish(*overlapped, length, 0); });
}

}  // namespace

int WSPAPI wsp_rdma_write(SOCKET s, LPWSABUFEX buffers, DWORD count, LPVOID target,
                          DWORD target_length, DWORD offset, LPDWORD written, DWORD flags,
                          LPWSAOVERLAPPED overlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE routine,
                          LPWSATHREADID thread, LPINT error_number) {
    // `written` is written only by a call that completes at once; none does.
    const auto outcome =
        do_directly(true, s, buffers, count, target, target_length, offset, flags, overlapped);
    if (outcome == engine::direct::Outcome::kNothing) [[unlikely]] {
        return write_slowly(s, buffers, count, target, target_length, offset, written, flags,
                            overlapped, routine, thread, error_number);
    }
    if (outcome == engine::direct::Outcome::kHeld) [[unlikely]] {
        return end_directly(s, error_number);
    }
    return result(error_number, WSA_IO_PENDING);
}

int WSPAPI wsp_rdma_read(SOCKET s, LPWSABUFEX buffers, DWORD count, LPVOID target,
                         DWORD target_length, DWORD offset, LPDWORD read, DWORD flags,
                         LPWSAOVERLAPPED overlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE routine,
                         LPWSATHREADID thread, LPINT error_number) {
    const auto outcome =
        do_directly(false, s, buffers, count, target, target_length, offset, flags, overlapped);
    if (outcome == engine::direct::Outcome::kNothing) [[unlikely]] {
        return read_slowly(s, buffers, count, target, target_length, offset, read, flags,
                           overlapped, routine, thread, error_number);
    }
    if (outcome == engine::direct::Outcome::kHeld) [[unlikely]] {
        return end_directly(s, error_number);
    }
    return result(error_number, WSA_IO_PENDING);
}

}  // namespace sanpoll::provider
