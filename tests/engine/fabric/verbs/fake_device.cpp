// What a FakeDevice carries out, and what a test does to it.
#include "tests/engine/fabric/verbs/fake_device.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "tests/engine/fabric/verbs/fake_device_parts.hpp"

namespace sanpoll::tests {

FakeDevice::Pair& FakeDevice::pair_of(rdma_cm_id* id) { return Pair::of(id->qp); }

// ---- what is carried out --------------------------------------------------------------------------------

FakeDevice::Registration* FakeDevice::find(const ibv_pd* pd, std::uint32_t key) {
    const std::lock_guard lock(shared_->mutex);
    const auto found = shared_->registrations.find(key);
    return found != shared_->registrations.end() && found->second->pd == pd ? found->second.get()
                                                                            : nullptr;
}

// The memory that [address, address + length) of a registration is, or nullptr.
std::byte* FakeDevice::reach(const ibv_pd* pd, std::uint64_t address, std::uint64_t length,
                             std::uint32_t key, int access) {
    const Registration* found = find(pd, key);
    if (found == nullptr || (found->access & access) != access || address < found->begins ||
        length > found->length || address - found->begins > found->length - length) {
        return nullptr;
    }
    return static_cast<std::byte*>(found->addr) + (address - found->begins);
}

void FakeDevice::put(ibv_cq* cq, const ibv_wc& completion) {
    Queue& queue = Queue::of(cq);
    if (queue.entries.size() == queue.room) {
        overrun_ = true;
        return;
    }
    queue.entries.push_back(completion);
    if (std::exchange(queue.armed, false) && queue.channel != nullptr) {
        ++unacknowledged_;
        ++queue.unacknowledged;
        const std::uint64_t one = 1;
        (void)!::write(queue.channel->fd, &one, sizeof(one));
    }
}

void FakeDevice::complete(Pair& pair, bool sending, std::uint64_t id, ibv_wc_status status,
                          std::uint32_t bytes) {
    ibv_wc completion{};
    if (status != IBV_WC_SUCCESS) {
        std::memset(&completion, 0xA5, sizeof(completion));  // nobody may look at the rest
        completion.vendor_err = 7;
    } else {
        completion.byte_len = bytes;
    }
    completion.wr_id = id;
    completion.status = status;
    completion.qp_num = pair.qp_num;
    Context::of(pair.context).put(sending ? pair.send_cq : pair.recv_cq, completion);
}

void FakeDevice::break_pair(Pair& pair) {
    pair.broken = true;
    while (!pair.waiting.empty()) {
        complete(pair, true, pair.waiting.front().request.wr_id, IBV_WC_WR_FLUSH_ERR, 0);
        pair.waiting.pop_front();
    }
    while (!pair.receives.empty()) {
        complete(pair, false, pair.receives.front().id, IBV_WC_WR_FLUSH_ERR, 0);
        pair.receives.pop_front();
    }
}

ibv_wc_status FakeDevice::gather(const Pair& pair, Work& work) {
    if ((work.request.send_flags & IBV_SEND_INLINE) != 0) {
        return IBV_WC_SUCCESS;
    }
    for (const ibv_sge& sge : work.sges) {
        const std::byte* from = reach(pair.pd, sge.addr, sge.length, sge.lkey, 0);
        if (from == nullptr) {
            return IBV_WC_LOC_PROT_ERR;
        }
        work.bytes.insert(work.bytes.end(), from, from + sge.length);
    }
    return IBV_WC_SUCCESS;
}

ibv_wc_status FakeDevice::send(Pair& pair, Work& work) {
    if (const ibv_wc_status status = gather(pair, work); status != IBV_WC_SUCCESS) {
        return status;
    }
    Pair& peer = *pair.peer;
    const Pair::Receive receive = peer.receives.front();
    peer.receives.pop_front();
    if (work.bytes.size() > receive.sge.length) {
        complete(peer, false, receive.id, IBV_WC_LOC_LEN_ERR, 0);
        break_pair(peer);
        return IBV_WC_REM_INV_REQ_ERR;
    }
    // The peer may be on another device.
    std::byte* to = Context::of(peer.context)
                        .reach(peer.pd, receive.sge.addr, work.bytes.size(), receive.sge.lkey,
                               IBV_ACCESS_LOCAL_WRITE);
    if (to == nullptr) {
        complete(peer, false, receive.id, IBV_WC_LOC_PROT_ERR, 0);
        break_pair(peer);
        return IBV_WC_REM_OP_ERR;
    }
    std::copy(work.bytes.begin(), work.bytes.end(), to);
    complete(peer, false, receive.id, IBV_WC_SUCCESS,
             static_cast<std::uint32_t>(work.bytes.size()));
    return IBV_WC_SUCCESS;
}

ibv_wc_status FakeDevice::rdma(Pair& pair, Work& work) {
    const bool write = work.request.opcode == IBV_WR_RDMA_WRITE;
    std::uint64_t length = 0;
    for (const ibv_sge& sge : work.sges) {
        length += sge.length;
    }
    if (length == 0) {
        return IBV_WC_SUCCESS;
    }
    std::byte* remote = Context::of(pair.peer->context)
                            .reach(pair.peer->pd, work.request.wr.rdma.remote_addr, length,
                                   work.request.wr.rdma.rkey,
                                   write ? IBV_ACCESS_REMOTE_WRITE : IBV_ACCESS_REMOTE_READ);
    if (remote == nullptr) {
        break_pair(*pair.peer);
        if (options_.transport == IBV_TRANSPORT_IB) {
            return IBV_WC_REM_ACCESS_ERR;
        }
        // iWARP does not wait for what becomes of a write; the refusal ends the stream.
        pair.terminated = true;
        return write ? IBV_WC_SUCCESS : IBV_WC_WR_FLUSH_ERR;
    }
    if (write) {
        if (const ibv_wc_status status = gather(pair, work); status != IBV_WC_SUCCESS) {
            return status;
        }
        std::copy(work.bytes.begin(), work.bytes.end(), remote);
        return IBV_WC_SUCCESS;
    }
    constexpr std::uint64_t kPage = 4096;
    if (options_.vendor == kSiwVendor && length <= 32 &&
        work.request.wr.rdma.remote_addr % kPage + length > kPage) {
        for (const ibv_sge& sge : work.sges) {
            std::memset(reinterpret_cast<void*>(sge.addr), 0xBD, sge.length);  // as siw does
        }
        return IBV_WC_SUCCESS;
    }
    const int access = options_.transport == IBV_TRANSPORT_IWARP
                           ? IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE
                           : IBV_ACCESS_LOCAL_WRITE;
    for (const ibv_sge& sge : work.sges) {
        std::byte* to = reach(pair.pd, sge.addr, sge.length, sge.lkey, access);
        if (to == nullptr) {
            return IBV_WC_LOC_PROT_ERR;
        }
        std::copy(remote, remote + sge.length, to);
        remote += sge.length;
    }
    return IBV_WC_SUCCESS;
}

// Carries out the first that waits. False: it cannot be now.
bool FakeDevice::carry_out(Pair& pair) {
    Work& work = pair.waiting.front();
    ibv_wc_status status = IBV_WC_SUCCESS;
    if (pair.failure) {
        status = *std::exchange(pair.failure, std::nullopt);
    } else if (pair.peer == nullptr || pair.peer->broken) {
        status = IBV_WC_RETRY_EXC_ERR;
    } else if (work.request.opcode == IBV_WR_SEND) {
        if (pair.peer->receives.empty()) {
            ++rnr_;
            if (options_.transport == IBV_TRANSPORT_IB) {
                return false;  // tried again when there is a receive
            }
            status = IBV_WC_REM_OP_ERR;
        } else {
            status = send(pair, work);
        }
    } else {
        status = rdma(pair, work);
    }
    const ibv_send_wr done = work.request;
    pair.waiting.pop_front();
    if (status != IBV_WC_SUCCESS || (done.send_flags & IBV_SEND_SIGNALED) != 0) {
        complete(pair, true, done.wr_id, status, 0);
    }
    if (status != IBV_WC_SUCCESS || pair.terminated) {
        break_pair(pair);
    }
    return true;
}

void FakeDevice::run(Pair& pair) {
    while (!pair.held && !pair.waiting.empty() && carry_out(pair)) {
    }
}

// ---- what a test does -----------------------------------------------------------------------------------

void FakeDevice::join(rdma_cm_id* one, rdma_cm_id* other) {
    pair_of(one).peer = &pair_of(other);
    pair_of(other).peer = &pair_of(one);
}

void FakeDevice::hold(rdma_cm_id* id, bool held) {
    Pair& pair = pair_of(id);
    pair.held = held;
    run(pair);
}

void FakeDevice::deliver(rdma_cm_id* id, std::uint32_t count) {
    Pair& pair = pair_of(id);
    while (count != 0 && !pair.waiting.empty() && carry_out(pair)) {
        --count;
    }
}

void FakeDevice::fail_next(rdma_cm_id* id, ibv_wc_status status) { pair_of(id).failure = status; }

void FakeDevice::fail_last(rdma_cm_id* id, ibv_wc_status status) {
    Pair& pair = pair_of(id);
    complete(pair, true, pair.waiting.back().request.wr_id, status, 0);
    pair.waiting.pop_back();
    break_pair(pair);
}

void FakeDevice::flush(rdma_cm_id* id) { break_pair(pair_of(id)); }

void FakeDevice::inject(rdma_cm_id* id, const void* bytes, std::uint32_t length) {
    Work work;
    work.request.opcode = IBV_WR_SEND;
    work.request.send_flags = IBV_SEND_INLINE;
    const auto* from = static_cast<const std::byte*>(bytes);
    work.bytes.assign(from, from + length);
    (void)send(pair_of(id), work);
}

std::uint32_t FakeDevice::registrations() const {
    const std::lock_guard lock(shared_->mutex);
    return static_cast<std::uint32_t>(shared_->registrations.size());
}

ibv_context* FakeDevice::context() { return &context_->context; }

rdma_cm_id* FakeDevice::make_id() {
    rdma_cm_id& id = ids_.emplace_back();
    id.verbs = context();
    return &id;
}

// A completion tells that its work request, and all before it, have left the queue.
void FakeDevice::note_ended(const ibv_wc& completion) {
    const auto found = numbers_.find({completion.qp_num, completion.wr_id});
    if (found == numbers_.end()) {
        return;
    }
    for (Pair* pair : pairs_) {
        if (pair->qp_num == completion.qp_num) {
            pair->known_ended = std::max(pair->known_ended, found->second + 1);
        }
    }
    numbers_.erase(found);
}

}  // namespace sanpoll::tests
