// The calls that a FakeDevice answers as the libraries would.
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "tests/engine/fabric/verbs/fake_device.hpp"
#include "tests/engine/fabric/verbs/fake_device_parts.hpp"

namespace sanpoll::tests {

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
        if (channel != nullptr) {
            static_cast<Channel*>(channel)->source = queue->plain();
        }
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
        if (Queue::of(cq).unacknowledged != 0) {
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
        Queue::of(cq).unacknowledged -= count;
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
            if (device.options_.transport == IBV_TRANSPORT_IWARP) {
                device.break_pair(*pair.peer);  // the stream has ended
            }
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
        ++device.receive_calls_;
        for (; request != nullptr; request = request->next) {
            if (device.refuse_receives_ || pair.receives.size() == pair.cap.max_recv_wr) {
                *refused = request;
                return ENOMEM;
            }
            if (pair.broken) {
                device.complete(pair, false, request->wr_id, IBV_WC_WR_FLUSH_ERR, 0);
                continue;
            }
            pair.receives.push_back({request->wr_id, request->sg_list[0]});
            if (pair.peer != nullptr) {
                device.run(*pair.peer);  // it may have waited for this one
            }
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
