// The RDMA functions (spec, sections 7 and 9): exposing memory to the peer, writing into and reading from
// what the peer has exposed. Also the cache callback: nothing is cached here.
#include <sys/random.h>

#include <cstring>
#include <type_traits>

#include "provider/memory_handle.hpp"
#include "provider/posting.hpp"
#include "provider/provider.hpp"

namespace sanpoll::provider {
namespace {

// What the switches pass to each other for a piece of exposed memory. It means the same in every process:
// no address, and the key is good for nothing without the nonce, which cannot be guessed. Length and
// rights let the initiator see its own mistakes; what counts is the owner's table.
struct Descriptor {
    static constexpr std::uint32_t kTag = 0x31445053;  // "SPD1"

    std::uint32_t tag;
    std::uint32_t key;
    std::uint64_t nonce;
    std::uint32_t length;
    std::uint32_t access;
    std::uint64_t reserved;  // 0
};
static_assert(sizeof(Descriptor) == 32 && std::is_trivially_copyable_v<Descriptor>);

// Takes a descriptor out of a caller's block, which need not be aligned. False if it is none.
bool read_descriptor(const void* block, DWORD length, Descriptor& descriptor) noexcept {
    if (block == nullptr || length != sizeof(Descriptor)) {
        return false;
    }
    std::memcpy(&descriptor, block, sizeof(descriptor));
    return descriptor.tag == Descriptor::kTag && descriptor.length != 0 &&
           descriptor.access >= MEM_READ && descriptor.access <= MEM_READWRITE &&
           descriptor.reserved == 0;
}

// Adds to the table of exposed memory on the core that reads it. A socket that is closed keeps nothing:
// the close comes to the core after us, or has changed the generation before.
struct ExposeOp final : engine::ControlOp {
    ExposeOp(Socket& record, std::uint32_t expected) : socket(record), generation(expected) {}
    void run() noexcept override {
        full = false;
        if (!socket.gate.open_for(generation)) {
            return;
        }
        if (socket.remote.full()) {
            socket.remote.adopt(larger);
        }
        full = socket.remote.full();
        capacity = socket.remote.capacity();
        key = socket.remote.add(address, length, access, nonce);
    }
    Socket& socket;
    std::uint32_t generation;
    std::uint64_t address = 0;
    std::uint32_t length = 0;
    std::uint32_t access = 0;
    std::uint64_t nonce = 0;
    engine::RemoteRegions::Table larger;  // in: room for more; out: the old table
    std::uint32_t key = 0;
    bool full = false;
    std::uint32_t capacity = 0;
};

struct ConcealOp final : engine::ControlOp {
    using Removal = engine::RemoteRegions::Removal;
    ConcealOp(Socket& record, std::uint32_t expected, const Descriptor& what)
        : socket(record), generation(expected), descriptor(what) {}
    void run() noexcept override {
        if (socket.gate.generation() == generation) {
            removal = socket.remote.remove(descriptor.key, descriptor.nonce);
        }
    }
    Socket& socket;
    std::uint32_t generation;
    const Descriptor& descriptor;
    Removal removal = Removal::kUnknown;
};

// Captures and checks the list of local buffers. Returns a WSA error or 0.
int capture_local(const Socket& socket, std::uint32_t generation, const WSABUFEX* buffers,
                  DWORD count, std::uint32_t access, engine::WorkRequest& request) noexcept {
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

int post_rdma(engine::Opcode opcode, SOCKET s, const WSABUFEX* buffers, DWORD count,
              const void* target, DWORD target_length, DWORD offset, DWORD flags,
              LPWSAOVERLAPPED overlapped) noexcept {
    Socket* socket = find_open(s);
    if (socket == nullptr) {
        return why_not_open(s);
    }
    Descriptor descriptor;
    if (flags != 0 || overlapped == nullptr ||
        !read_descriptor(target, target_length, descriptor)) {
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
    engine::set_remote(request, {descriptor.nonce, descriptor.key, offset});
    return start(*socket, s, overlapped, request);
}

}  // namespace

int WSPAPI wsp_register_rdma_memory(SOCKET s, PVOID buffer, DWORD length, DWORD flags,
                                    LPVOID descriptor, LPDWORD descriptor_length,
                                    LPINT error_number) {
    return result(error_number, guarded([&]() -> int {
                      SocketTable::Found found;
                      if (const int error = find_socket(s, found); error != 0) {
                          return error;
                      }
                      if (descriptor_length == nullptr) {
                          return WSAEFAULT;
                      }
                      // Before all else: a switch asks for the size with whatever it has.
                      if (descriptor == nullptr || *descriptor_length < sizeof(Descriptor)) {
                          *descriptor_length = sizeof(Descriptor);
                          return WSAEFAULT;
                      }
                      if (flags != MEM_READ && flags != MEM_WRITE && flags != MEM_READWRITE) {
                          return WSAEINVAL;
                      }
                      Socket& socket = *found.socket;
                      engine::PollingCore* core = socket.core.load(std::memory_order_acquire);
                      if (found.view.state != engine::PostGate::State::kOpen || core == nullptr) {
                          return WSAENOTCONN;
                      }
                      const auto address = reinterpret_cast<std::uint64_t>(buffer);
                      if (buffer == nullptr || length == 0 || address + length < address ||
                          !mapped(address, length)) {
                          return WSAEFAULT;
                      }
                      ExposeOp op(socket, found.view.generation);
                      op.address = address;
                      op.length = length;
                      op.access = flags;
                      if (::getrandom(&op.nonce, sizeof(op.nonce), 0) != sizeof(op.nonce)) {
                          return WSAENOBUFS;  // never guessable instead
                      }
                      core->run(op);
                      while (op.full && op.capacity < engine::RemoteRegions::kMaxRegions) {
                          op.larger.assign(op.capacity == 0 ? 16 : op.capacity * 4, {});
                          core->run(op);
                      }
                      if (op.key == 0) {
                          if (op.full) {
                              return WSAENOBUFS;
                          }
                          return socket.gate.generation() != found.view.generation ? WSAENOTSOCK
                                                                                   : WSAENOTCONN;
                      }
                      const Descriptor made{Descriptor::kTag, op.key, op.nonce, length, flags, 0};
                      std::memcpy(descriptor, &made, sizeof(made));
                      *descriptor_length = sizeof(made);
                      return 0;
                  }));
}

int WSPAPI wsp_deregister_rdma_memory(SOCKET s, LPVOID descriptor, DWORD descriptor_length,
                                      LPINT error_number) {
    return result(
        error_number, guarded([&]() -> int {
            SocketTable::Found found;
            if (const int error = find_socket(s, found); error != 0) {
                return error;
            }
            Descriptor given;
            engine::PollingCore* core = found.socket->core.load(std::memory_order_acquire);
            if (!read_descriptor(descriptor, descriptor_length, given) || core == nullptr) {
                return WSAEINVAL;
            }
            ConcealOp op(*found.socket, found.view.generation, given);
            core->run(op);
            if (op.removal == ConcealOp::Removal::kInUse) {
                // The peer may have said by now that it has read it; that turn was not ours.
                core->run(op);
            }
            if (op.removal == ConcealOp::Removal::kRemoved) {
                return 0;
            }
            // A close ends what was exposed: if the socket was closed meanwhile, that is the answer.
            return found.socket->gate.generation() != found.view.generation ? WSAENOTSOCK
                                                                            : WSAEINVAL;
        }));
}

int WSPAPI wsp_rdma_write(SOCKET s, LPWSABUFEX buffers, DWORD count, LPVOID target,
                          DWORD target_length, DWORD offset, LPDWORD written, DWORD flags,
                          LPWSAOVERLAPPED overlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE routine,
                          LPWSATHREADID thread, LPINT error_number) {
    (void)written;  // written only by a call that completes at once; none does
    (void)routine;
    (void)thread;
    return result(error_number, post_rdma(engine::Opcode::kRdmaWrite, s, buffers, count, target,
                                          target_length, offset, flags, overlapped));
}

int WSPAPI wsp_rdma_read(SOCKET s, LPWSABUFEX buffers, DWORD count, LPVOID target,
                         DWORD target_length, DWORD offset, LPDWORD read, DWORD flags,
                         LPWSAOVERLAPPED overlapped, LPWSAOVERLAPPED_COMPLETION_ROUTINE routine,
                         LPWSATHREADID thread, LPINT error_number) {
    (void)read;
    (void)routine;
    (void)thread;
    return result(error_number, post_rdma(engine::Opcode::kRdmaRead, s, buffers, count, target,
                                          target_length, offset, flags, overlapped));
}

int WSPAPI wsp_memory_registration_cache_callback(PVOID address, SIZE_T size, LPINT error_number) {
    (void)address;  // a registration ends with its deregistration: nothing is left to be dropped
    (void)size;
    return result(error_number, life_error());
}

}  // namespace sanpoll::provider
