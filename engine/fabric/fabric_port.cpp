// What a port does that has no shorter way. Not in the header: where a call is made, the compiler would guess that it
// is this one and weave its request into the caller.
#include "engine/fabric/fabric_port.hpp"

namespace sanpoll::engine {

bool FabricPort::send_one(Endpoint& endpoint, std::uint64_t context, std::uint64_t address,
                          std::uint32_t length, std::uint32_t region) noexcept {
    post(endpoint, request_of_one(Opcode::kSend, context, {address, length, region}));
    return false;
}

void FabricPort::receive_one(Endpoint& endpoint, std::uint64_t context, std::uint64_t address,
                             std::uint32_t length, std::uint32_t region) noexcept {
    post(endpoint, request_of_one(Opcode::kReceive, context, {address, length, region}));
    endpoint.regions->release(region);
}

std::uint32_t FabricPort::poll_for(Endpoint& endpoint, std::uint32_t budget) noexcept {
    (void)endpoint;
    (void)budget;
    return 0;
}

}  // namespace sanpoll::engine
