// RDMA over verbs, and long messages by RDMA READ. Both need keys of the user's memory; a connection without
// them carries long messages in pieces and no RDMA.
#include "engine/fabric/verbs/verbs_port.hpp"

namespace sanpoll::engine::verbs {

void VerbsPort::post_rdma(Connection& connection, const WorkRequest& request) noexcept {
    const Status status = connection.broken ? connection.reason : Status::kBadRegion;
    core_.complete({connection.owner, request.context, 0, status, request.flags});
}

bool VerbsPort::start_rdma(Connection& connection, Position position) noexcept {
    finish_send(connection, position, Status::kBadRegion, 0);
    return true;
}

void VerbsPort::end_rdma(Connection&, const SendRing::Entry&) noexcept {}

std::uint32_t VerbsPort::describe_pieces(Connection&, Position, RemotePiece*) noexcept { return 0; }

VerbsPort::Start VerbsPort::read_remote(Connection&, Position, const RemotePiece*,
                                        std::uint32_t) noexcept {
    return Start::kNoKey;
}

}  // namespace sanpoll::engine::verbs
