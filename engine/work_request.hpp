// What the front end hands to a polling core, and what the core hands back.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "engine/status.hpp"

namespace sanpoll::engine {

struct Endpoint;

/// One piece of a gather or scatter list. `region` is a RegionTable reference of the endpoint; the front
/// end has checked bounds and rights against it.
struct Sge {
    std::uint64_t address;
    std::uint32_t length;
    std::uint32_t region;
};
static_assert(sizeof(Sge) == 16);

enum class Opcode : std::uint8_t {
    kSend,       // length bytes from the SGEs, one message
    kReceive,    // room for one message of up to length bytes
    kRdmaWrite,  // length bytes from the SGEs into memory that the peer has exposed
    kRdmaRead,   // length bytes of such memory into the SGEs
};

inline constexpr std::uint8_t kNotify = 1;  // flags: tell by upcall; else the caller polls

inline constexpr std::uint8_t kCarried =
    4;  // flags: the bytes came along in the lane, see source_of()

inline constexpr std::uint32_t kCarriedMost = 64;  // bytes: the second line of a slot
inline constexpr std::uint32_t kMaxSges = 8;
inline constexpr std::uint32_t kInlineSges = 2;
inline constexpr std::uint32_t kMoreSges = 9;  // whole lane slots

/// An RDMA request has two pieces of length 0 before the caller's own: they name the remote side (see
/// set_remote). Whoever walks through the pieces finds nothing in them, so lanes and queues need not know.
inline constexpr std::uint32_t kRemoteSges = 2;
static_assert(kMaxSges + kRemoteSges <= kInlineSges + kMoreSges);

/// A work request carries everything the core needs. Its first 60 bytes fill one lane slot; SGEs
/// beyond the second follow in further slots, three a slot.
struct WorkRequest {
    Endpoint* endpoint;     // nullptr: a control request outside any endpoint's order
    std::uint64_t context;  // the caller's cookie (the provider: a WSAOVERLAPPED), or a ControlOp
    Sge sge[kInlineSges];
    std::uint32_t sequence;  // place among the endpoint's posts, from PostGate
    Opcode opcode;
    std::uint8_t flags;
    std::uint8_t sge_count;
    std::uint8_t reserved;
    std::uint32_t length;  // sum of the SGEs
    std::uint32_t padding;
    Sge more[kMoreSges];

    [[nodiscard]] const Sge& piece(std::uint32_t index) const noexcept {
        return index < kInlineSges ? sge[index] : more[index - kInlineSges];
    }
    [[nodiscard]] Sge& piece(std::uint32_t index) noexcept {
        return index < kInlineSges ? sge[index] : more[index - kInlineSges];
    }
};

/// Whether the bytes of a request may travel with it in a lane: else the core has to fetch them from the cache of who
/// posted, after it has fetched the request.
[[nodiscard]] inline bool may_be_carried(const WorkRequest& request) noexcept {
    return request.opcode == Opcode::kSend && request.sge_count == 1 &&
           request.length <= kCarriedMost;
}
/// Where the bytes of a send of one piece are, while it is being posted to its fabric: in the lane if it is kCarried, which is
/// good until the lane's slot is given back. What keeps the request for later keeps its piece, which is good until it ends.
[[nodiscard]] inline std::uint64_t source_of(const WorkRequest& request) noexcept {
    return (request.flags & kCarried) != 0 ? request.more[0].address : request.sge[0].address;
}

/// Asks for the line of an address, to be written. A hint, which no address can make fail.
inline void claim_line(std::uint64_t address) noexcept {
    __builtin_prefetch(reinterpret_cast<const void*>(address), 1, 3);
}

/// Hands on the line of an address, which this processor has written and another one is about to read: out of its own cache, so
/// that it is found sooner. A hint, which no address can make fail; processors that do not know it do nothing.
inline void offer_line(std::uint64_t address) noexcept {
#if defined(__x86_64__)
    asm volatile(".byte 0x0f, 0x1c, 0x00" : : "a"(address) : "memory");  // cldemote (%rax)
#else
    (void)address;
#endif
}

/// The request of a single piece whose end is polled for; endpoint and sequence are left to be filled in.
[[nodiscard]] inline WorkRequest request_of_one(Opcode opcode, std::uint64_t context,
                                                const Sge& piece) noexcept {
    WorkRequest request;
    request.context = context;
    request.sge[0] = piece;
    request.opcode = opcode;
    request.flags = 0;
    request.sge_count = 1;
    request.length = piece.length;
    return request;
}

/// Where in the peer's exposed memory an RDMA request goes, as its descriptor says. On a connection with a
/// MemoryRegistrar `nonce` and `key` are the two members of its DeviceKey, else what RemoteRegions looks up.
struct RemotePlace {
    std::uint64_t nonce;
    std::uint32_t key;
    std::uint32_t offset;
    std::uint32_t hint =
        0;  // of the descriptor: where its owner's ExposureBoard has it; 0: nowhere
};

/// Makes the first two pieces of a request name `place`; the local pieces follow at kRemoteSges.
inline void set_remote(WorkRequest& request, const RemotePlace& place) noexcept {
    request.sge[0] = {place.nonce, 0, place.key};
    request.sge[1] = {place.offset, 0, place.hint};
}
[[nodiscard]] inline RemotePlace remote_of(const Sge (&first)[kInlineSges]) noexcept {
    return {first[0].address, first[0].region, static_cast<std::uint32_t>(first[1].address),
            first[1].region};
}

/// What the caller says of the remote memory, whole. Only ever compared: who says the same again means the same.
struct RemoteName {
    std::uint64_t words[5];

    [[nodiscard]] static RemoteName from(const void* block) noexcept {
        RemoteName name;
        std::memcpy(name.words, block, sizeof(name.words));  // it need not be aligned
        return name;
    }
};

/// An RDMA operation of one piece, in the fewest words.
struct RdmaOne {
    RemotePlace place;
    std::uint64_t address;  // of the local piece
    std::uint32_t length;
    bool write;  // else a read
    // The place's memory, for the port to know it again (direct_rdma.hpp): its name, checked as far as the caller can, and
    // its length by that; nullptr: there will not be another operation on it.
    const void* name = nullptr;
    std::uint32_t exposed = 0;
};

inline constexpr std::size_t kWorkRequestHead = offsetof(WorkRequest, padding);
inline constexpr std::uint32_t kSgesPerSlot = 3;
static_assert(kWorkRequestHead == 60, "the head fills the first line of a slot");
static_assert(std::is_trivially_copyable_v<WorkRequest>);

/// Slots that a request with `sge_count` pieces takes in a lane.
[[nodiscard]] constexpr std::uint32_t lane_slots(std::uint32_t sge_count) noexcept {
    return sge_count <= kInlineSges
               ? 1
               : 1 + (sge_count - kInlineSges + kSgesPerSlot - 1) / kSgesPerSlot;
}

/// The end of one operation.
struct Completion {
    void* owner;            // Endpoint::owner
    std::uint64_t context;  // WorkRequest::context
    std::uint32_t bytes;
    Status status;
    std::uint8_t flags;  // WorkRequest::flags
};

/// What the engine's user (the provider) does with results. Plain functions: called per completion.
struct Handlers {
    /// A polled operation ended. On the token holder's thread; must not block or call back.
    void (*completed)(std::uint64_t context, std::uint32_t bytes, Status status) noexcept = nullptr;
    /// A notified operation ended. On the notifier thread; may call anything.
    void (*notify)(const Completion& completion) noexcept = nullptr;
    /// An endpoint is gone and nothing of it will come any more. On the token holder's thread, or on
    /// the notifier thread if a notification of it had to come first.
    void (*closed)(void* owner) noexcept = nullptr;
};

/// A piece of control work that runs on the core, with the core's token held. The caller keeps it
/// alive until it is done (PollingCore::run waits for that).
class ControlOp {
public:
    virtual void run() noexcept = 0;

protected:
    ~ControlOp() = default;
};

}  // namespace sanpoll::engine
