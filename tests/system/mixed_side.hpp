// One process' side of the mixed traffic: all its sockets, several threads.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tests/system/mixed_flow.hpp"

namespace sanpoll::system_test {

struct TrafficPlan {
    std::uint64_t seed = 0;
    std::uint32_t sockets = 0;
    std::uint32_t threads = 0;            // of one side
    std::uint64_t messages_each_way = 0;  // of one socket

    [[nodiscard]] std::uint64_t messages() const noexcept {
        return messages_each_way * sockets * 2;
    }
};

class MixedSide {
public:
    /// `side` is 0 or 1, another one at the other ends of the sockets, which are the callee's from here on.
    MixedSide(const Provider& provider, const TrafficPlan& plan, std::uint32_t side,
              std::vector<ProviderSocket> sockets);
    ~MixedSide();  // closes the sockets
    MixedSide(const MixedSide&) = delete;
    MixedSide& operator=(const MixedSide&) = delete;

    /// Sends and receives everything. Throws what has gone wrong first.
    void run();
    /// That it has sent.
    [[nodiscard]] std::uint64_t bytes() const noexcept;

private:
    class Workers;

    const Provider& provider_;
    const TrafficPlan plan_;
    const std::vector<ProviderSocket> sockets_;
    Pool pool_;
    HANDLE port_;
    std::vector<std::unique_ptr<SendFlow>> sends_;
    std::vector<std::unique_ptr<ReceiveFlow>> receives_;
};

}  // namespace sanpoll::system_test
