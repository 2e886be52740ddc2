#include "engine/fabric/verbs/work_completion.hpp"

#include <array>

namespace sanpoll::engine::verbs {

namespace {

constexpr std::array<WorkCompletionMeaning, kWorkStatuses + 1> kMeanings = {{
    {Status::kOk, "SUCCESS", "Nothing is wrong."},
    {Status::kTransportFailed, "LOC_LEN_ERR",
     "A packet was longer than the receive buffer: the two ends run different versions; update the "
     "older "
     "one."},
    {Status::kTransportFailed, "LOC_QP_OP_ERR",
     "The device found the work request inconsistent; update its driver and report this."},
    {Status::kTransportFailed, "LOC_EEC_OP_ERR",
     "The device found its end-to-end context inconsistent; reset the device."},
    {Status::kTransportFailed, "LOC_PROT_ERR",
     "Memory of a work request is not registered with the device: keep it registered and mapped "
     "until the "
     "operation has completed."},
    {Status::kReset, "WR_FLUSH_ERR",
     "The connection had ended before this request was carried out; look for the first error on "
     "it, or for "
     "a close of the peer."},
    {Status::kTransportFailed, "MW_BIND_ERR", "A memory window could not be bound; report this."},
    {Status::kTransportFailed, "BAD_RESP_ERR",
     "The peer's device answered with what makes no sense; check cables, and firmware on both "
     "ends."},
    {Status::kTransportFailed, "LOC_ACCESS_ERR",
     "The registration of local memory does not allow what the peer did; register it with the "
     "access that "
     "the operation needs."},
    {Status::kTransportFailed, "REM_INV_REQ_ERR",
     "The peer's device found the request invalid: look for a wrong length, or a device that does "
     "not "
     "support the operation."},
    {Status::kTransportFailed, "REM_ACCESS_ERR",
     "The peer has not exposed that memory for this access, or no longer: check the descriptor, "
     "the offset "
     "and when the peer deregisters."},
    {Status::kTransportFailed, "REM_OP_ERR",
     "The peer's device could not carry out the request; look at the peer's log."},
    {Status::kTransportFailed, "RETRY_EXC_ERR",
     "The peer's device does not answer: check that the host is up, cables, the switch's flow "
     "control, and "
     "firewalls (RoCE: UDP port 4791)."},
    {Status::kTransportFailed, "RNR_RETRY_EXC_ERR",
     "The peer had no receive buffer for too long: its polling core gets no processor; give it "
     "one."},
    {Status::kTransportFailed, "LOC_RDD_VIOL_ERR",
     "Domains of a reliable datagram do not fit; report this."},
    {Status::kTransportFailed, "REM_INV_RD_REQ_ERR",
     "The peer refused a reliable datagram; report this."},
    {Status::kTransportFailed, "REM_ABORT_ERR",
     "The peer's device gave the operation up; look at the peer's log."},
    {Status::kTransportFailed, "INV_EECN_ERR",
     "The device knows no such end-to-end context; reset the device."},
    {Status::kTransportFailed, "INV_EEC_STATE_ERR",
     "The device's end-to-end context is in a wrong state; reset the device."},
    {Status::kTransportFailed, "FATAL_ERR",
     "The device has failed; reset it, look at the kernel's log (dmesg), update its firmware."},
    {Status::kTransportFailed, "RESP_TIMEOUT_ERR",
     "The peer's device did not respond in time; check cables and the load of the network."},
    {Status::kTransportFailed, "GENERAL_ERR",
     "The transport failed for a reason of its own; look at the kernel's log (dmesg)."},
    {Status::kTransportFailed, "TM_ERR",
     "Tag matching failed, which is not in use here; report this."},
    {Status::kTransportFailed, "TM_RNDV_INCOMPLETE",
     "Tag matching was incomplete, which is not in use here; report this."},
    {Status::kTransportFailed, "unknown",
     "The device reports a status that this version does not know; update sanpoll, or the device's "
     "driver."},
}};

}  // namespace

const WorkCompletionMeaning& meaning_of(std::uint32_t status) noexcept {
    return kMeanings[status < kWorkStatuses ? status : kWorkStatuses];
}

}  // namespace sanpoll::engine::verbs
