// Why something ended as it did, in the engine's own terms. The provider maps it to WSA numbers.
#pragma once

#include <cstdint>

namespace sanpoll::engine {

enum class Status : std::uint8_t {
    kOk,
    kAborted,          // this side closed the endpoint while the operation was pending
    kReset,            // the peer closed, died or broke the protocol
    kTransportFailed,  // the transport gave up: time-out, device gone
    kMessageTooLong,   // the message does not fit the receive; it is kept for the next one
    kBadRegion,        // a region of the request was deregistered before the request took effect
    kNoMemory,         // the engine could not get the memory it needs
    kNoListener,       // connect: nobody listens there
    kRefused,          // connect: the listener's side said no
    kUnreachable,      // connect: the destination does not exist
    kNoNetwork,        // connect: no network that leads there is up now
    kTimedOut,         // connect: no answer, or no way to tell
    kAddressNotAvailable,  // not an address of this fabric
    kAddressInUse,         // another process of this host listens there
    kWithdrawn,            // accept: the originator is gone
    kNotAllowed,           // the peer belongs to another user
    kFull,                 // too many outstanding; nothing was started
    kPending,              // export: sends are pending, which have to finish first
    kUnknownToken,         // import: nobody has issued it for this process, or it was used
    kNoDescriptors,        // the process has no descriptors left
    kMoved,                // accept: the listener now belongs to another process; ask again
    kNotOpen,              // the endpoint takes no requests (not connected, broken or closed)
};

}  // namespace sanpoll::engine
