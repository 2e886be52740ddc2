// Connections of the provider on which nothing happens, as many as one likes, each with receives posted as a program
// that waits for messages has them.
//
// Contract: one thread at a time; what fails throws ConnectionFault. The destructor closes all.
#pragma once

#include <cstddef>
#include <deque>
#include <sanpoll/switch.hpp>
#include <vector>

namespace sanpoll::bench {

class IdleCrowd {
public:
    IdleCrowd(const sanpoll_switch::Provider& provider, std::size_t receives)
        : provider_(provider), receives_(receives), memory_(64) {}
    ~IdleCrowd() { close_all(); }
    IdleCrowd(const IdleCrowd&) = delete;
    IdleCrowd& operator=(const IdleCrowd&) = delete;

    // Takes a connected socket: registers the one buffer that all share and posts the receives.
    void add(const sanpoll_switch::ProviderSocket& socket);
    void close_all();
    [[nodiscard]] std::size_t size() const noexcept { return descriptors_.size(); }

private:
    const sanpoll_switch::Provider& provider_;
    const std::size_t receives_;
    std::vector<char> memory_;
    std::vector<SOCKET> descriptors_;
    std::deque<WSAOVERLAPPED> operations_;
};

}  // namespace sanpoll::bench
