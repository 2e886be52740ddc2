// Connections by the hundred between two sockets of this process, and what is left of them.
#pragma once

#include <sanpoll/switch.hpp>
#include <string>

namespace sanpoll::lab {

/// 1,000 connects and closes in a row, then twice 512 connections at once that each carry a message, over a device with
/// `address`. Descriptors and what the kernel counts of RDMA have to be as before after each. Throws
/// std::runtime_error if something is not as it has to be. `under_way`: connects that have begun at the same time, up to 16.
void many_connections(const sanpoll_switch::Provider& provider, const std::string& address,
                      int under_way);

}  // namespace sanpoll::lab
