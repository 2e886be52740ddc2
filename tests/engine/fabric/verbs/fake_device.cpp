#include "tests/engine/fabric/verbs/fake_device.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

namespace sanpoll::tests {

// A pointer to one of verbs.h's structures is a pointer to ours, which derives from it.
struct FakeDevice::Context : verbs_context {
    ibv_device made_of{};
    FakeDevice* owner = nullptr;

    [[nodiscard]] static FakeDevice& of(ibv_context* context) {
        return *static_cast<Context*>(::verbs_get_ctx(context))->owner;
    }
};

struct FakeDevice::Domain : ibv_pd {
    std::uint32_t users = 0;
};

struct FakeDevice::Registration : ibv_mr {
    std::uint64_t begins = 0;  // as the device counts
    int access = 0;
};

struct FakeDevice::Shared {
    std::mutex mutex;
    std::map<std::uint32_t, std::unique_ptr<Registration>> registrations;  // by key
};

struct FakeDevice::Channel : ibv_comp_channel {
    ibv_cq* source = nullptr;
};

struct FakeDevice::Queue : ibv_cq_ex {
    std::deque<ibv_wc> entries;
    std::size_t room = 0;
    bool armed = false;
    ibv_wc current{};

    [[nodiscard]] static Queue& of(ibv_cq* cq) {
        return *static_cast<Queue*>(reinterpret_cast<ibv_cq_ex*>(cq));
    }
    [[nodiscard]] ibv_cq* plain() { return ::ibv_cq_ex_to_cq(this); }
};

struct FakeDevice::Work {
    ibv_send_wr request{};
    std::vector<ibv_sge> sges;
    std::vector<std::byte>
        bytes;  // of an inline request from the start, else when it is carried out
    std::uint64_t number = 0;
};

struct FakeDevice::Pair : ibv_qp {
    struct Receive {
        std::uint64_t id;
        ibv_sge sge;
    };
    std::deque<Receive> receives;
    std::deque<Work> waiting;
    Pair* peer = nullptr;
    bool broken = false;
    bool terminated = false;  // will be broken
    bool held = false;
    std::optional<ibv_wc_status> failure;
    ibv_qp_cap cap{};
    std::uint64_t posted = 0;
    std::uint64_t known_ended = 0;  // as far as completions that were polled tell

    [[nodiscard]] static Pair& of(ibv_qp* qp) { return *static_cast<Pair*>(qp); }
};

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

// ---- the calls --------------------------------------------------------------------------------------------

struct FakeDevice::Calls {
    static const char* get_device_name(ibv_device* device) { return device->name; }
    static int query_device(ibv_context* context, ibv_device_attr* attributes) {
        const Options& options = Context::of(context).options_;
        *attributes = {};
        attributes->max_qp = options.max_queue_pairs;
        attributes->max_qp_wr = 1 << 14;
        attributes->max_cq = 1 << 12;
        attributes->max_cqe = options.max_completions;
        attributes->max_sge = options.max_sges;
        attributes->max_sge_rd = options.max_read_sges;
        attributes->max_qp_rd_atom = attributes->max_qp_init_rd_atom = options.read_depth;
        attributes->phys_port_cnt = 1;
        attributes->vendor_id = options.vendor;
        return 0;
    }
    static int query_port(ibv_context* context, std::uint8_t, ibv_port_attr* attributes) {
        attributes->max_msg_sz = Context::of(context).options_.max_message;
        return 0;
    }
    static ibv_pd* alloc_pd(ibv_context* context) {
        auto* domain = new Domain;
        domain->context = context;
        ++Context::of(context).domains_;
        return domain;
    }
    static int dealloc_pd(ibv_pd* pd) {
        auto* domain = static_cast<Domain*>(pd);
        if (domain->users != 0) {
            return EBUSY;
        }
        --Context::of(pd->context).domains_;
        delete domain;
        return 0;
    }
    static ibv_mr* reg_mr_iova2(ibv_pd* pd, void* address, std::size_t length, std::uint64_t begins,
                                unsigned int access) {
        FakeDevice& device = Context::of(pd->context);
        if (device.registration_error_ != 0) {
            errno = device.registration_error_;
            return nullptr;
        }
        auto made = std::make_unique<Registration>();
        made->context = pd->context;
        made->pd = pd;
        made->addr = address;
        made->length = length;
        made->begins = begins;
        made->access = static_cast<int>(access);
        const std::lock_guard lock(device.shared_->mutex);
        made->lkey = made->rkey = (device.next_number_++ << 8) | 0x11;
        ++static_cast<Domain*>(pd)->users;
        ibv_mr* mr = made.get();
        device.shared_->registrations.emplace(made->lkey, std::move(made));
        return mr;
    }
    static ibv_mr* reg_mr(ibv_pd* pd, void* address, std::size_t length, int access) {
        return reg_mr_iova2(pd, address, length, reinterpret_cast<std::uint64_t>(address),
                            static_cast<unsigned int>(access));
    }
    static int dereg_mr(ibv_mr* mr) {
        FakeDevice& device = Context::of(mr->context);
        const std::lock_guard lock(device.shared_->mutex);
        --static_cast<Domain*>(mr->pd)->users;
        device.shared_->registrations.erase(mr->lkey);
        return 0;
    }

    static ibv_comp_channel* create_comp_channel(ibv_context* context) {
        auto* channel = new Channel;
        channel->context = context;
        channel->fd = ::eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
        ++Context::of(context).channels_;
        return channel;
    }
    static int destroy_comp_channel(ibv_comp_channel* channel) {
        --Context::of(channel->context).channels_;
        ::close(channel->fd);
        delete static_cast<Channel*>(channel);
        return 0;
    }
    static ibv_cq* create_cq(ibv_context* context, int entries, void*, ibv_comp_channel* channel,
                             int) {
        FakeDevice& device = Context::of(context);
        if (device.refuse_completion_queues_ || entries > device.options_.max_completions) {
            errno = ENOMEM;
            return nullptr;
        }
        auto* queue = new Queue;
        static_cast<ibv_cq_ex&>(*queue) = {};
        queue->context = context;
        queue->channel = channel;
        queue->cqe = entries;
        queue->room = static_cast<std::size_t>(entries);
        static_cast<Channel*>(channel)->source = queue->plain();
        ++device.completion_queues_;
        return queue->plain();
    }
    static ibv_cq_ex* create_cq_ex(ibv_context* context, ibv_cq_init_attr_ex* attributes) {
        ibv_cq* cq =
            create_cq(context, static_cast<int>(attributes->cqe), nullptr, attributes->channel, 0);
        if (cq == nullptr) {
            return nullptr;
        }
        Queue& queue = Queue::of(cq);
        queue.start_poll = [](ibv_cq_ex* self, ibv_poll_cq_attr*) { return next(self); };
        queue.next_poll = next;
        queue.end_poll = [](ibv_cq_ex*) {};
        queue.read_byte_len = [](ibv_cq_ex* self) {
            return static_cast<Queue*>(self)->current.byte_len;
        };
        queue.read_vendor_err = [](ibv_cq_ex* self) {
            return static_cast<Queue*>(self)->current.vendor_err;
        };
        return &queue;
    }
    static int next(ibv_cq_ex* self) {
        auto& queue = *static_cast<Queue*>(self);
        if (Context::of(queue.context).pulled_out_) {
            return EIO;
        }
        if (queue.entries.empty()) {
            return ENOENT;
        }
        take(queue, queue.current);
        queue.wr_id = queue.current.wr_id;
        queue.status = queue.current.status;
        return 0;
    }
    static void take(Queue& queue, ibv_wc& to) {
        to = queue.entries.front();
        queue.entries.pop_front();
        Context::of(queue.context).note_ended(to);
    }
    static int poll_cq(ibv_cq* cq, int count, ibv_wc* completions) {
        Queue& queue = Queue::of(cq);
        if (Context::of(cq->context).pulled_out_) {
            return -1;
        }
        int taken = 0;
        while (taken < count && !queue.entries.empty()) {
            take(queue, completions[taken++]);
        }
        return taken;
    }
    static int destroy_cq(ibv_cq* cq) {
        FakeDevice& device = Context::of(cq->context);
        if (device.unacknowledged_ != 0) {
            return EBUSY;  // a real one would wait for ever
        }
        --device.completion_queues_;
        delete &Queue::of(cq);
        return 0;
    }
    static int req_notify_cq(ibv_cq* cq, int) {
        if (Context::of(cq->context).pulled_out_) {
            return EIO;
        }
        Queue::of(cq).armed = true;
        return 0;
    }
    static int get_cq_event(ibv_comp_channel* channel, ibv_cq** cq, void** context) {
        std::uint64_t one = 0;
        if (::read(channel->fd, &one, sizeof(one)) != sizeof(one)) {
            return -1;
        }
        *cq = static_cast<Channel*>(channel)->source;
        *context = nullptr;
        return 0;
    }
    static void ack_cq_events(ibv_cq* cq, unsigned int count) {
        Context::of(cq->context).unacknowledged_ -= count;
    }

    static int create_qp(rdma_cm_id* id, ibv_pd* pd, ibv_qp_init_attr* attributes) {
        FakeDevice& device = Context::of(id->verbs);
        if (device.queue_pair_error_ != 0) {
            errno = device.queue_pair_error_;
            return -1;
        }
        if (attributes->cap.max_inline_data > device.options_.max_inline ||
            attributes->cap.max_send_sge > static_cast<std::uint32_t>(device.options_.max_sges)) {
            errno = EINVAL;
            return -1;
        }
        auto* pair = new Pair;
        static_cast<ibv_qp&>(*pair) = {};
        pair->context = id->verbs;
        pair->pd = pd;
        pair->send_cq = attributes->send_cq;
        pair->recv_cq = attributes->recv_cq;
        attributes->cap.max_inline_data = device.options_.max_inline;
        pair->cap = attributes->cap;
        pair->qp_num = device.next_number_++;
        ++static_cast<Domain*>(pd)->users;
        ++device.queue_pairs_;
        id->qp = pair;
        device.pairs_.push_back(pair);
        return 0;
    }
    static void destroy_qp(rdma_cm_id* id) {
        FakeDevice& device = Context::of(id->verbs);
        Pair& pair = pair_of(id);
        if (pair.peer != nullptr) {
            pair.peer->peer = nullptr;
        }
        // What had not ended gives no completion any more, as with devices that clean up their queues.
        std::erase(device.pairs_, &pair);
        --static_cast<Domain*>(pair.pd)->users;
        --device.queue_pairs_;
        delete &pair;
        id->qp = nullptr;
    }
    static int post_receive(ibv_qp* qp, ibv_recv_wr* request, ibv_recv_wr** refused) {
        FakeDevice& device = Context::of(qp->context);
        Pair& pair = Pair::of(qp);
        if (device.refuse_receives_ || pair.receives.size() == pair.cap.max_recv_wr) {
            *refused = request;
            return ENOMEM;
        }
        if (pair.broken) {
            device.complete(pair, false, request->wr_id, IBV_WC_WR_FLUSH_ERR, 0);
            return 0;
        }
        pair.receives.push_back({request->wr_id, request->sg_list[0]});
        if (pair.peer != nullptr) {
            device.run(*pair.peer);  // it may have waited for this one
        }
        return 0;
    }
    static int post_send(ibv_qp* qp, ibv_send_wr* request, ibv_send_wr** refused) {
        FakeDevice& device = Context::of(qp->context);
        Pair& pair = Pair::of(qp);
        ++device.doorbells_;
        for (; request != nullptr; request = request->next) {
            std::uint64_t bytes = 0;
            for (int i = 0; i < request->num_sge; ++i) {
                bytes += request->sg_list[i].length;
            }
            const bool in_line = (request->send_flags & IBV_SEND_INLINE) != 0;
            if (device.refuse_sends_ || pair.posted - pair.known_ended == pair.cap.max_send_wr ||
                request->num_sge > static_cast<int>(pair.cap.max_send_sge) ||
                (in_line && bytes > pair.cap.max_inline_data) ||
                bytes > device.options_.max_message) {
                *refused = request;
                return ENOMEM;
            }
            Work work;
            work.request = *request;
            work.sges.assign(request->sg_list, request->sg_list + request->num_sge);
            work.number = pair.posted++;
            device.numbers_[{pair.qp_num, request->wr_id}] = work.number;
            if (in_line) {
                for (const ibv_sge& sge : work.sges) {
                    const auto* from = reinterpret_cast<const std::byte*>(sge.addr);
                    work.bytes.insert(work.bytes.end(), from, from + sge.length);
                }
            }
            device.fenced_ += (request->send_flags & IBV_SEND_FENCE) != 0 ? 1 : 0;
            ++device.posted_sends_;
            if (pair.broken) {
                device.complete(pair, true, request->wr_id, IBV_WC_WR_FLUSH_ERR, 0);
            } else {
                pair.waiting.push_back(std::move(work));
            }
        }
        device.run(pair);
        return 0;
    }
};

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

FakeDevice::FakeDevice() : FakeDevice(Options{}) {}

FakeDevice::FakeDevice(const Options& options)
    : options_(options),
      context_(std::make_unique<Context>()),
      shared_(std::make_unique<Shared>()) {
    static_cast<verbs_context&>(*context_) = {};
    context_->owner = this;
    context_->sz = sizeof(verbs_context);
    context_->made_of.transport_type = options.transport;
    std::strcpy(context_->made_of.name, "fake0");
    ibv_context& context = context_->context;
    context.device = &context_->made_of;
    context.abi_compat = __VERBS_ABI_IS_EXTENDED;
    context.ops.poll_cq = Calls::poll_cq;
    context.ops.req_notify_cq = Calls::req_notify_cq;
    context.ops.post_send = Calls::post_send;
    context.ops.post_recv = Calls::post_receive;
    if (options.extended) {
        context_->create_cq_ex = Calls::create_cq_ex;
    }
    api_.verbs.get_device_name = Calls::get_device_name;
    api_.verbs.query_device = Calls::query_device;
    api_.verbs.query_port = Calls::query_port;
    api_.verbs.alloc_pd = Calls::alloc_pd;
    api_.verbs.dealloc_pd = Calls::dealloc_pd;
    api_.verbs.reg_mr = Calls::reg_mr;
    api_.verbs.reg_mr_iova2 = Calls::reg_mr_iova2;
    api_.verbs.dereg_mr = Calls::dereg_mr;
    api_.verbs.create_comp_channel = Calls::create_comp_channel;
    api_.verbs.destroy_comp_channel = Calls::destroy_comp_channel;
    api_.verbs.create_cq = Calls::create_cq;
    api_.verbs.destroy_cq = Calls::destroy_cq;
    api_.verbs.get_cq_event = Calls::get_cq_event;
    api_.verbs.ack_cq_events = Calls::ack_cq_events;
    api_.cm.create_qp = Calls::create_qp;
    api_.cm.destroy_qp = Calls::destroy_qp;
}

FakeDevice::~FakeDevice() = default;

}  // namespace sanpoll::tests
