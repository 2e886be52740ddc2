// The options that a socket carries with it.
#pragma once

#include <ws2san.h>

namespace sanpoll::provider {

/// What WSPSetSockOpt may change. Part of the socket's record and guarded by its mutex; a new socket has
/// the defaults, an accepted one its listener's values, a duplicated one those of its original. The other
/// options are not state: sizes come from the configuration, and no socket belongs to a group.
struct SocketOptions {
    BOOL debug = FALSE;      // SO_DEBUG: kept for the caller, changes nothing
    INT group_priority = 0;  // SO_GROUP_PRIORITY: likewise, as there is no quality of service
};

}  // namespace sanpoll::provider
