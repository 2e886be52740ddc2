// Descriptors that a forked child must not keep.
#pragma once

namespace sanpoll::engine {

/// A child of fork() inherits our sockets; as long as it keeps them, the peers do not notice that the
/// parent has died, and the names of its listeners stay taken. So every such descriptor is entered here
/// and the child closes them. (exec closes them by itself: all are close-on-exec.)

/// Any thread, off the data path. After 4096 entries further ones are not remembered.
void close_in_child(int fd) noexcept;
void forget_in_child(int fd) noexcept;

/// In the child: closes all. Async-signal-safe.
void close_all_in_child() noexcept;

}  // namespace sanpoll::engine
