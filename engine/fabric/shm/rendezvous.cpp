#include "engine/fabric/shm/rendezvous.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <new>
#include <string>

#include "engine/limit_error.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine::shm {

namespace {

constexpr int kBacklog = 1024;  // of processes that knock, not of connection requests

socklen_t abstract_name(const std::string& text, sockaddr_un& name) noexcept {
    name = {};
    name.sun_family = AF_UNIX;  // sun_path[0] stays 0: the abstract name space
    std::memcpy(name.sun_path + 1, text.data(), text.size());
    return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + text.size());
}

socklen_t name_of(const Address& address, sockaddr_un& name) {
    const std::string text = formatted("sanpoll/{}/{}/{:08x}:{}", ControlMessage::kVersion,
                                       ::geteuid(), address.ip, address.port);
    return abstract_name(text, name);
}

// Without the user id: a token is to be unique in the whole system.
socklen_t name_of_token(std::uint32_t token, sockaddr_un& name) {
    return abstract_name(formatted("sanpoll/{}/token/{:08x}", ControlMessage::kVersion, token),
                         name);
}

int open_socket() noexcept {
    return ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

int fail(int fd) noexcept {
    const int error = errno;
    if (fd >= 0) {
        ::close(fd);
    }
    return -error;
}

int bind_to(const sockaddr_un& name, socklen_t length) noexcept {
    const int fd = open_socket();
    if (fd < 0 || ::bind(fd, reinterpret_cast<const sockaddr*>(&name), length) != 0 ||
        ::listen(fd, kBacklog) != 0) {
        return fail(fd);
    }
    return fd;
}

int connect_to(const sockaddr_un& name, socklen_t length) noexcept {
    const int fd = open_socket();
    if (fd < 0 || ::connect(fd, reinterpret_cast<const sockaddr*>(&name), length) != 0) {
        return fail(fd);
    }
    return fd;
}

bool option_is(int fd, int option, int wanted) noexcept {
    int value = 0;
    socklen_t length = sizeof(value);
    return ::getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 && value == wanted;
}

}  // namespace

int bind_rendezvous(const Address& address) {
    sockaddr_un name;
    const socklen_t length = name_of(address, name);
    return bind_to(name, length);
}

int connect_rendezvous(const Address& address) {
    sockaddr_un name;
    const socklen_t length = name_of(address, name);
    return connect_to(name, length);
}

int bind_token(std::uint32_t token) {
    sockaddr_un name;
    const socklen_t length = name_of_token(token, name);
    return bind_to(name, length);
}

int connect_token(std::uint32_t token) {
    sockaddr_un name;
    const socklen_t length = name_of_token(token, name);
    return connect_to(name, length);
}

bool listens_at(int fd, const Address& address) noexcept {
    sockaddr_un wanted;
    const socklen_t wanted_length = name_of(address, wanted);
    sockaddr_un name{};
    socklen_t length = sizeof(name);
    return option_is(fd, SO_DOMAIN, AF_UNIX) && option_is(fd, SO_TYPE, SOCK_SEQPACKET) &&
           option_is(fd, SO_ACCEPTCONN, 1) &&
           ::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &length) == 0 &&
           length == wanted_length && std::memcmp(&name, &wanted, length) == 0;
}

bool is_control_socket(int fd) noexcept {
    return option_is(fd, SO_DOMAIN, AF_UNIX) && option_is(fd, SO_TYPE, SOCK_SEQPACKET) &&
           option_is(fd, SO_ACCEPTCONN, 0);
}

int peer_process(int fd) noexcept {
    ucred credentials{};
    socklen_t length = sizeof(credentials);
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0 ||
        credentials.uid != ::geteuid()) {
        return 0;
    }
    return credentials.pid;
}

bool same_user(int fd, std::uint32_t& their_uid) noexcept {
    ucred credentials{};
    socklen_t length = sizeof(credentials);
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
        return false;
    }
    their_uid = credentials.uid;
    return credentials.uid == ::geteuid();
}

bool make_doorbell(int ends[2]) noexcept {
    return ::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0;
}

bool is_doorbell(int fd) noexcept {
    return option_is(fd, SO_DOMAIN, AF_UNIX) && option_is(fd, SO_TYPE, SOCK_DGRAM);
}

int send_message(int fd, const ControlMessage& message, const int* fds, int fd_count) {
    iovec piece{const_cast<ControlMessage*>(&message), sizeof(message)};
    msghdr header{};
    header.msg_iov = &piece;
    header.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {};
    if (fd_count != 0) {
        header.msg_control = control;
        header.msg_controllen = CMSG_SPACE(static_cast<std::size_t>(fd_count) * sizeof(int));
        cmsghdr* item = CMSG_FIRSTHDR(&header);
        item->cmsg_level = SOL_SOCKET;
        item->cmsg_type = SCM_RIGHTS;
        item->cmsg_len = CMSG_LEN(static_cast<std::size_t>(fd_count) * sizeof(int));
        std::memcpy(CMSG_DATA(item), fds, static_cast<std::size_t>(fd_count) * sizeof(int));
    }
    const ssize_t sent = ::sendmsg(fd, &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == static_cast<ssize_t>(sizeof(message))) {
        return 1;
    }
    if (sent >= 0) {
        return -1;  // a part of a message: not a socket of ours
    }
    switch (errno) {
        case EAGAIN:
        case EINTR:
            return 0;
        case EPIPE:
        case ECONNRESET:
        case ENOTCONN:
        case ECONNREFUSED:
            return -1;
        default:
            // ENOBUFS and ENOMEM; ETOOMANYREFS: descriptors that others of this user have sent are still under way.
            return kRefusedNow;
    }
}

std::string unsound_text(const ControlMessage& message) {
    if (message.magic != ControlMessage::kMagic) {
        return formatted("it sent something that begins with {:08x}, which no sanpoll says",
                         message.magic);
    }
    if (message.version != ControlMessage::kVersion) {
        return formatted(
            "it speaks version {} of the protocol between processes, and this process version {}; "
            "let both load the same library",
            message.version, ControlMessage::kVersion);
    }
    return formatted("it sent a message of kind {} that claims {} bytes of data; {} is the limit",
                     static_cast<std::uint32_t>(message.kind), message.data_length,
                     kMaxConnectData);
}

namespace {

// `got` as recvmsg() has answered, and `error` then.
std::string unread_text(ssize_t got, int error, int flags, const ControlMessage& message) {
    if (got == 0 || (got < 0 && error == ECONNRESET)) {
        return {};  // it has gone
    }
    if (got < 0) {
        return formatted("its control socket cannot be read: {}", std::strerror(error));
    }
    if ((flags & MSG_CTRUNC) != 0) {
        return "not all that it sent along could be taken: this process has no descriptors left "
               "(raise RLIMIT_NOFILE), or "
               "it sent more than two";
    }
    if (got != static_cast<ssize_t>(sizeof(message)) || (flags & MSG_TRUNC) != 0) {
        return formatted("it sent {} bytes or more, where a message has {}: is it another program?",
                         got, sizeof(message));
    }
    return unsound_text(message);
}

// Without memory for the whole text, one that needs none.
template <typename Text>
std::string text_if_possible(Text text, const char* otherwise = "a bad message") noexcept {
    try {
        return text();
    } catch (const std::bad_alloc&) {
        return otherwise;
    }
}

std::string refused_text(int error) {
    switch (error) {
        case ETOOMANYREFS: {
            rlimit limit{};
            (void)::getrlimit(RLIMIT_NOFILE, &limit);
            return formatted(
                "more descriptors of this user are on their way between processes than a process "
                "may have open (RLIMIT_NOFILE: {}): look which process does not take what it is "
                "sent, or raise that limit",
                limit.rlim_cur);
        }
        case ENOBUFS:
        case ENOMEM:
            return memory_error("what is to be said", 0, ENOMEM);
        default:
            return formatted("what is to be said cannot be sent: {}", std::strerror(error));
    }
}

}  // namespace

std::string refusal_text(int error) noexcept {
    return text_if_possible([&] { return refused_text(error); },
                            "the system refuses what is to be said");
}

int receive_message(int fd, ControlMessage& message, int fds[2], int& fd_count, std::string* why) {
    iovec piece{&message, sizeof(message)};
    msghdr header{};
    header.msg_iov = &piece;
    header.msg_iovlen = 1;
    alignas(cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))] = {};
    header.msg_control = control;
    header.msg_controllen = sizeof(control);
    fd_count = 0;
    const ssize_t got = ::recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    const int error = errno;
    if (got < 0 && (error == EAGAIN || error == EWOULDBLOCK || error == EINTR)) {
        return 0;
    }
    if (got < 0) {
        if (why != nullptr) {
            *why = text_if_possible([&] { return unread_text(got, error, 0, message); });
        }
        return -1;
    }
    for (cmsghdr* item = CMSG_FIRSTHDR(&header); item != nullptr;
         item = CMSG_NXTHDR(&header, item)) {
        if (item->cmsg_level == SOL_SOCKET && item->cmsg_type == SCM_RIGHTS) {
            const auto count = static_cast<int>((item->cmsg_len - CMSG_LEN(0)) / sizeof(int));
            fd_count = std::min(count, 2);  // the buffer has no room for more
            std::memcpy(fds, CMSG_DATA(item), static_cast<std::size_t>(fd_count) * sizeof(int));
        }
    }
    const bool sound = got == static_cast<ssize_t>(sizeof(message)) &&
                       (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0 && is_sound(message);
    // Of the flags nothing else: what recvmsg() was called with may be among them.
    if (got == static_cast<ssize_t>(sizeof(message)) &&
        (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == MSG_CTRUNC && fd_count == 0 &&
        is_sound(message) && message.kind == MessageKind::kSuspended) {
        fd_count = kLostOne;
        return 1;
    }
    if (!sound) {
        for (int i = 0; i < fd_count; ++i) {
            ::close(fds[i]);
        }
        fd_count = 0;
        if (why != nullptr) {
            *why = text_if_possible([&] { return unread_text(got, 0, header.msg_flags, message); });
        }
        return -1;
    }
    return 1;
}

}  // namespace sanpoll::engine::shm
