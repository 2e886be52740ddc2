// Where an RDMA operation of a connection stands, on the asking side and on the side that is asked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "engine/fabric/shm/exposures.hpp"
#include "engine/fabric/shm/record.hpp"
#include "engine/work_request.hpp"

namespace sanpoll::engine::shm {

/// What the target has exposed in an arena that the initiator has mapped (for writing, if it is a write) is the
/// initiator's own business: its core, inline the posting thread, finds the exposure in memory that both see
/// (exposures.hpp), announces its use, copies, and completes. No request, no answer, nothing for the target's core to do,
/// and the other memory may be any. A long one is copied in parts, each of them announced anew. A target that
/// deregisters meanwhile is told that it is in use; one that closes waits a moment for the end of the part that is being
/// copied (ShmPort::close), and no other part is copied after that. Whatever does not fit (no place in the table, a
/// wrong key or range, an arena that is not mapped, an exposure that is taken back in the middle) goes one of the ways
/// below, and is refused there if it is to be.
///
/// Order. An operation is stored only if it is the first in the queue of sends and the peer's core has taken every
/// message that the connection sent before: the peer must not see a write before it can see an earlier message.
/// The peer says how far it has come whenever it has taken all there was, so whoever writes, announces that by a
/// message and waits for an answer always finds it so; in a stream of both, the writes go by requests. The
/// bytes are there before any record that is written later, for stores are seen in their order and a record's last
/// is a release.
///
///   store          kIdle --announced--> kStoring --all copied--> kIdle    (a short one: in one step)
///                  kStoring --taken back meanwhile--> kIdle --request--> one of the following
///
/// In all other ways the side whose memory receives the bytes copies; nobody writes into another process. So an
/// operation that was given up here cannot change memory here afterwards, whatever the peer does or fails
/// to do, and nothing in another process has to be revoked.
///
/// Short operations go through the link's staging area. A long one may be one copy between the processes
/// instead, if that is possible (ProcessCopy) and the initiator wants it (Config::copy, CopyChoice): then a
/// write is copied by its target, a read by its initiator, which is granted the reading and says when it is
/// through.
///
/// What lies in an arena that the copying side has mapped is copied from there, a bounded part a turn, and
/// takes neither the staging area nor a system call: the same phases as of a direct operation. The initiator of
/// a write sees for itself that its bytes lie so; of a read it says that it would take a grant in an arena, and
/// the target grants one if the range lies in one, else goes the way that the request names.
///
/// The initiator's operation is the first in the connection's queue of sends until it has ended, so
/// nothing that was posted after it overtakes it.
///
///   direct write   kIdle --request--> kAsked --done--> kIdle
///   staged write   kIdle --request--> kPutting --last piece--> kAsked --done--> kIdle
///   direct read    kIdle --request--> kAsked --grant--> kFetching --all read--> kIdle
///                  kFetching --the target took back a grant meanwhile--> kConfirming --done--> kIdle
///   staged read    kIdle --request--> kAsked --last data--> kIdle
///
/// The right to copy may be lost meanwhile (the other process becomes another user's, or is not dumpable any more): then
/// the operation goes through the staging area after all, from its beginning, and so do all later ones on the link.
/// Memory that is not there is the end of the connection.
///
///   direct write   kAsked --grant, which asks for pieces--> kPutting
///   direct read    kFetching --fetched is said--> kIdle --request of the other kind--> kAsked
struct RdmaInitiator {
    enum class Phase : std::uint8_t { kIdle, kPutting, kAsked, kFetching, kConfirming, kStoring };
    Phase phase = Phase::kIdle;
    bool direct = false;
    bool arenas = false;              // a write: out of arenas; a read: may be granted in one
    const std::byte* from = nullptr;  // kFetching: of a grant in an arena; else `granted` is
    std::uint32_t operation = 0;      // number of the latest one
    std::uint32_t progress = 0;       // bytes put, fetched or taken
    std::uint32_t revocations = 0;    // what the target had taken back when we asked
    std::uint64_t granted = 0;        // where to read
    std::uint64_t began_ns = 0;       // 0: not timed
    std::byte* stored = nullptr;      // kStoring: the range in the peer's arena, and
    std::uint32_t place = 0;          // its exposure
    std::uint64_t state = 0;          // as it was announced
    bool keeps_awake = false;         // counted in PollingCore::keep_awake
    bool asks = false;  // the exposure of the first in the queue was taken back: no store
};

/// Where the last operation of a kind (write or read) went, for the next one on the same exposure: it needs no look
/// at the descriptor and none at the exposure but the one that every use begins with (ExposuresSeen::begin_again). That is
/// enough because no two ranges of a place have the same state: as long as it stands, what was found there stands. It all
/// ends with the link (Connection::forget_targets), where the mapping, the table and the peer's id of the connection do.
struct StoreTarget {
    RemoteName name{};
    std::byte* base = nullptr;     // of the exposed range, all of which is mapped here
    ExposureSlot* slot = nullptr;  // only good where length is not 0
    std::uint64_t state = 0;
    std::uint32_t length = 0;  // that may be touched; 0: there is none

    /// Whether it is what the caller names: RemoteName, which need not be aligned.
    [[nodiscard, gnu::always_inline]] bool is_named(const void* block) const noexcept {
        const auto same = [&](std::size_t index) __attribute__((always_inline)) {
            std::uint64_t word;
            std::memcpy(&word, static_cast<const std::byte*>(block) + index * sizeof(word),
                        sizeof(word));
            return word == name.words[index];
        };
        return same(0) && same(1) && same(2) && same(3) && same(4);
    }
};

/// The target holds the exposed region from the request to the end, so that it cannot be deregistered
/// in between.
///
///   direct write   kIdle --request--> kPulling --all copied--> kAnswering --done is said--> kIdle
///   staged write   kIdle --request--> kTaking --last piece--> kAnswering --done is said--> kIdle
///   direct read    kIdle --request--> kAnswering --grant is said--> kGranted --fetched--> kIdle
///   staged read    kIdle --request--> kServing --last data is put--> kIdle
///   right lost     kPulling --cannot be read--> kAnswering --grant is said--> kTaking
struct RdmaTarget {
    enum class Phase : std::uint8_t { kIdle, kPulling, kTaking, kServing, kAnswering, kGranted };
    Phase phase = Phase::kIdle;
    bool holds = false;               // the region `key`
    bool writes = false;              // the peer does: what it may be granted is to put pieces
    bool arenas = false;              // kPulling: the pieces are where we have mapped them
    std::uint32_t granted_arena = 0;  // of a grant; 0: of the process
    RecordKind answer{};              // while kAnswering: kRdmaGrant or kRdmaDone
    std::uint32_t operation = 0;      // the initiator's number
    std::uint32_t key = 0;
    std::uint32_t length = 0;
    std::uint32_t progress = 0;
    std::uint32_t piece_count = 0;
    std::uint64_t address = 0;     // the range, in our memory
    std::uint64_t granted = 0;     // what a grant says of it
    RemotePiece pieces[kMaxSges];  // the initiator's word; good for nothing but reading its memory
};

}  // namespace sanpoll::engine::shm
