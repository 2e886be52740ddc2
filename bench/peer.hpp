// A peer: something else than the provider that carries messages between two processes, measured in the same loops.
//
// Both ends of a connection first meet over kernel TCP; a peer that is itself no TCP uses that meeting to tell the
// other end where to find it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/connection.hpp"
#include "bench/measured_ends.hpp"
#include "bench/spin.hpp"
#include "bench/tcp_connection.hpp"

namespace sanpoll::bench {

struct Peer {
    const char* name;           // as --transports takes it
    const char* configuration;  // one line: how it is used, and why so
    std::uint32_t largest;      // bytes of the longest message that it carries

    // Why it cannot be used on this host; empty: it can. Any thread; may take some milliseconds.
    std::string (*missing)();

    // Opens this process's end; both ends call it at once, each with its end of the meeting, which is theirs from now
    // on. Throws ConnectionFault.
    std::unique_ptr<MeasuredEnds> (*open)(Descriptor meeting, bool server,
                                          const ConnectionShape& shape, const SpinRule& rule);
};

using Peers = std::vector<Peer>;

// By name; nullptr: unknown.
const Peer* find_peer(const Peers& peers, const std::string& name) noexcept;

// Gives the other end of the meeting `mine` and answers what it gave. Blocks up to kPatience; throws ConnectionFault.
std::vector<char> exchange_addresses(const Descriptor& meeting, const std::vector<char>& mine);

}  // namespace sanpoll::bench
