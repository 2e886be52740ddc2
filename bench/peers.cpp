#include "bench/peers.hpp"

#include <cstdint>
#include <memory>
#include <utility>

#include "bench/socket_peers.hpp"

#ifdef SANPOLL_BENCH_UCX
#include "bench/ucp_connection.hpp"
#include "bench/uct_connection.hpp"
#endif
#ifdef SANPOLL_BENCH_LIBFABRIC
#include "bench/libfabric_connection.hpp"
#endif
#ifdef SANPOLL_BENCH_LIBURING
#include "bench/uring_connection.hpp"
#endif

namespace sanpoll::bench {
namespace {

[[maybe_unused]] constexpr std::uint32_t kAny = UINT32_MAX;

// One that needs the meeting only to find the other end.
template <Connection C>
std::unique_ptr<MeasuredEnds> open_at(Descriptor meeting, bool server, const ConnectionShape& shape,
                                      const SpinRule& rule) {
    return one_end(server, std::make_unique<C>(meeting, shape, rule));
}

#ifdef SANPOLL_BENCH_UCX

constexpr const char* kUcpTag =
    "UCX UCP tag messages, UCX_TLS=posix,cma,self, single-threaded worker, receives posted ahead, "
    "both ends spin in ucp_worker_progress";
constexpr const char* kUcpAm =
    "UCX UCP active messages, UCX_TLS=posix,cma,self, single-threaded worker, eager messages read "
    "in the callback without a copy, both ends spin in ucp_worker_progress";
constexpr const char* kUct =
    "UCX UCT posix: am_short as long as it fits, am_bcopy beyond, messages read in the callback "
    "without a copy, both ends spin in uct_worker_progress; fewer than 8 bytes are sent as 8";

// A segment of UCT's posix transport takes little more.
constexpr std::uint32_t kUctLargest = 8000;

template <class Probe>
std::string fault_of(Probe&& probe) {
    try {
        probe();
        return {};
    } catch (const ConnectionFault& fault) {
        return fault.what();
    }
}

std::string ucp_missing() {
    return fault_of([] { const UcpEnd end(UCP_FEATURE_TAG, {8, 1, 1}, {}); });
}

std::string uct_missing() {
    return fault_of([] { const UctIface iface; });
}

#endif

#ifdef SANPOLL_BENCH_LIBURING

constexpr const char* kUringTcp =
    "io_uring over kernel TCP (loopback, TCP_NODELAY): submit and spin (SINGLE_ISSUER, "
    "DEFER_TASKRUN; an SQPOLL thread would take one of the CPUs), registered file and ring, sends "
    "linked in batches of 16";
constexpr const char* kUringUnix = "io_uring over a unix stream socket, otherwise as uring-tcp";

std::unique_ptr<MeasuredEnds> open_uring_tcp(Descriptor meeting, bool server,
                                             const ConnectionShape& shape, const SpinRule& rule) {
    set_no_delay(meeting);
    return one_end(server, std::make_unique<UringConnection>(std::move(meeting), shape, rule));
}

std::unique_ptr<MeasuredEnds> open_uring_unix(Descriptor meeting, bool server,
                                              const ConnectionShape& shape, const SpinRule& rule) {
    return one_end(server,
                   std::make_unique<UringConnection>(unix_socket(meeting, server), shape, rule));
}

#endif

}  // namespace

Peers all_peers() {
    Peers peers = socket_peers();
#ifdef SANPOLL_BENCH_LIBURING
    peers.push_back({"uring-tcp", kUringTcp, kAny, uring_missing, open_uring_tcp});
    peers.push_back({"uring-unix", kUringUnix, kAny, uring_missing, open_uring_unix});
#endif
#ifdef SANPOLL_BENCH_UCX
    peers.push_back({"ucx-tag", kUcpTag, kAny, ucp_missing, open_at<UcpTagConnection>});
    peers.push_back({"ucx-am", kUcpAm, kAny, ucp_missing, open_at<UcpAmConnection>});
    peers.push_back({"ucx-uct", kUct, kUctLargest, uct_missing, open_at<UctConnection>});
#endif
#ifdef SANPOLL_BENCH_LIBFABRIC
    peers.push_back({"libfabric",
                     "libfabric shm provider, FI_EP_RDM, tagged messages, receives posted ahead, "
                     "inject where allowed, cma, both ends spin in fi_cq_read",
                     kAny, libfabric_missing, open_at<LibfabricConnection>});
#endif
    return peers;
}

std::vector<PeerLeftOut> peers_left_out() {
    std::vector<PeerLeftOut> out;
    [[maybe_unused]] const auto leave_out = [&](const char* name, const char* package) {
        out.push_back({name, std::string("not built: ") + package +
                                 " was not found when the build was configured"});
    };
#ifndef SANPOLL_BENCH_LIBURING
    leave_out("uring-tcp", "liburing");
    leave_out("uring-unix", "liburing");
#endif
#ifndef SANPOLL_BENCH_UCX
    leave_out("ucx-tag", "UCX");
    leave_out("ucx-am", "UCX");
    leave_out("ucx-uct", "UCX");
#endif
#ifndef SANPOLL_BENCH_LIBFABRIC
    leave_out("libfabric", "libfabric");
#endif
    return out;
}

}  // namespace sanpoll::bench
