#include "bench/peer.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace sanpoll::bench {
namespace {

// Far more than any address of a peer takes.
constexpr std::uint32_t kLongest = 1U << 20;

void put(const Descriptor& meeting, const void* data, std::size_t bytes) {
    const auto* from = static_cast<const char*>(data);
    for (std::size_t done = 0; done < bytes;) {
        const ssize_t n = ::send(meeting.get(), from + done, bytes - done, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) throw ConnectionFault("the other end left while a connection was being opened");
        done += static_cast<std::size_t>(n);
    }
}

void get(const Descriptor& meeting, void* data, std::size_t bytes) {
    auto* to = static_cast<char*>(data);
    for (std::size_t done = 0; done < bytes;) {
        const ssize_t n = ::recv(meeting.get(), to + done, bytes - done, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) throw ConnectionFault("the other end left while a connection was being opened");
        done += static_cast<std::size_t>(n);
    }
}

}  // namespace

const Peer* find_peer(const Peers& peers, const std::string& name) noexcept {
    const auto found = std::find_if(peers.begin(), peers.end(),
                                    [&](const Peer& peer) { return name == peer.name; });
    return found == peers.end() ? nullptr : &*found;
}

std::vector<char> exchange_addresses(const Descriptor& meeting, const std::vector<char>& mine) {
    const timeval patience{kPatience.count(), 0};
    setsockopt(meeting.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(meeting.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    const auto length = static_cast<std::uint32_t>(mine.size());
    put(meeting, &length, sizeof length);
    put(meeting, mine.data(), mine.size());
    std::uint32_t theirs = 0;
    get(meeting, &theirs, sizeof theirs);
    if (theirs > kLongest)
        throw ConnectionFault("the other end told an address too long to be one");
    std::vector<char> answer(theirs);
    get(meeting, answer.data(), answer.size());
    return answer;
}

}  // namespace sanpoll::bench
