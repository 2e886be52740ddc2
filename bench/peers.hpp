// All peers that this build can measure, and those that it cannot because a library was not there at configure time.
#pragma once

#include <string>
#include <vector>

#include "bench/peer.hpp"

namespace sanpoll::bench {

Peers all_peers();

struct PeerLeftOut {
    std::string name;
    std::string why;
};
std::vector<PeerLeftOut> peers_left_out();

}  // namespace sanpoll::bench
