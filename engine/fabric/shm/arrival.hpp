// Sockets of other processes that come to this one.
#pragma once

#include <memory>

#include "engine/fabric/fabric.hpp"
#include "engine/fabric/shm/descriptor.hpp"
#include "engine/fabric/shm/exported_state.hpp"

namespace sanpoll::engine::shm {

class Outgoing;
class ShmFabric;

/// What an Outgoing carries that does not connect but resumes a suspended connection.
struct Resumption {
    ExportedState state;
    Descriptor lifeline;  // held until the peer has answered, unless it has become a link
};

/// See suspension.hpp for what is said on the way.
class Arrival final : public Import {
public:
    Arrival(ShmFabric& fabric, ExportedState state, Descriptor carried)
        : fabric_(fabric), state_(std::move(state)), carried_(std::move(carried)) {}

    /// Asks the process that issued the token. Blocks, at most until the time-out of a connect.
    [[nodiscard]] static Status fetch(ShmFabric& fabric, std::uint32_t token,
                                      std::unique_ptr<Import>& arrival);

    [[nodiscard]] bool listening() const noexcept override { return state_.listening; }
    [[nodiscard]] const std::vector<std::byte>& passenger() const noexcept override {
        return state_.passenger;
    }
    [[nodiscard]] Status resume(const EndpointOwner& owner) override;
    [[nodiscard]] Status listen(const Address& local, Fabric::OnRequest on_request,
                                std::unique_ptr<Listening>& listening) override;

private:
    [[nodiscard]] Status resume_ended(const EndpointOwner& owner, const Frozen& frozen);

    ShmFabric& fabric_;
    ExportedState state_;
    Descriptor carried_;
};

}  // namespace sanpoll::engine::shm
