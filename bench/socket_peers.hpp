// The kernel's stream sockets as peers: TCP over the loopback and unix sockets, spinning, blocking and with epoll.
#pragma once

#include "bench/peer.hpp"

namespace sanpoll::bench {

Peers socket_peers();

// A connected unix stream socket between the two ends of a meeting. Blocks; throws ConnectionFault.
Descriptor unix_socket(const Descriptor& meeting, bool server);

}  // namespace sanpoll::bench
