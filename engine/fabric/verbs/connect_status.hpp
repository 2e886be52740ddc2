// Why a connect failed, from what RDMA CM says.
#pragma once

#include <rdma/rdma_cma.h>

#include <cstdint>
#include <string_view>

#include "engine/fabric/verbs/private_data.hpp"
#include "engine/status.hpp"

namespace sanpoll::engine::verbs {

/// The steps of a connect, in their order. Each one has a time limit of its own.
enum class ConnectStep : std::uint8_t {
    kAddress,     // which device and which neighbour
    kRoute,       // the path there
    kConnect,     // the acceptor's answer
    kAcceptance,  // the acceptor's side: the originator's last word
};

[[nodiscard]] std::string_view to_string(ConnectStep step) noexcept;

/// The result of a connect that ended with `event` and the event's status, during `step`. Only what is
/// certain is said so, because a switch asks TCP/IP in all other cases: kNoListener when the other host's
/// RDMA CM knows of nobody at the port, kUnreachable when this host's own routes say that the other one cannot be reached.
/// kNoNetwork: they have no way to its network now, which is not as certain. kTimedOut is what
/// remains: no answer, no path, no RDMA at the other end, trouble. A rejection with private data of ours says
/// more, see status_of(); this is for those without.
[[nodiscard]] Status connect_status(ConnectStep step, rdma_cm_event_type event,
                                    int event_status) noexcept;

/// The same for a call of RDMA CM that failed with `error`, an errno value.
[[nodiscard]] Status connect_status_of_error(ConnectStep step, int error) noexcept;

/// The result of a connect that another engine has rejected, for good.
[[nodiscard]] Status status_of(RejectReason reason) noexcept;
/// What to tell the originator.
[[nodiscard]] RejectReason reject_reason_of(Status status) noexcept;

}  // namespace sanpoll::engine::verbs
