// What the control thread asks of a port: devices and queue pairs.
#include <fmt/format.h>
#include <sys/epoll.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <memory>
#include <new>
#include <system_error>

#include "engine/fabric/on_core.hpp"
#include "engine/fabric/verbs/verbs_port.hpp"
#include "engine/limit_error.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine::verbs {

namespace {

/// With room for the most bytes that the device sends from within a work request, as far as short packets go.
/// kWithdrawn: the other end has gone, so that RDMA CM knows of no connection to make one for.
Status make_queue_pair(const Device& device, rdma_cm_id* id, ibv_cq* cq, Connection& connection,
                       std::string& error) {
    const Api& api = device.api();
    for (const std::uint32_t wanted : {kShortPacket, kShortPacket / 2, kShortPacket / 4, 0U}) {
        ibv_qp_init_attr attributes{};
        attributes.send_cq = cq;
        attributes.recv_cq = cq;
        attributes.qp_type = IBV_QPT_RC;
        attributes.cap.max_send_wr = kSendDepth;
        attributes.cap.max_recv_wr = kReceiveBuffers;
        attributes.cap.max_send_sge =
            std::clamp(std::min(device.limits().max_sges, kMaxWorkSges), 1U, kMaxWorkSges);
        attributes.cap.max_recv_sge = 1;
        attributes.cap.max_inline_data = wanted;
        const std::uint32_t sges = attributes.cap.max_send_sge;
        if (api.cm.create_qp(id, connection.keys->pd(), &attributes) == 0) {
            connection.qp = id->qp;
            connection.max_inline = std::min(attributes.cap.max_inline_data, kShortPacket);
            connection.max_sges = std::min(sges, attributes.cap.max_send_sge);
            return Status::kOk;
        }
        if (errno != EINVAL) {
            break;  // not a matter of what was asked for
        }
    }
    if (errno == EINVAL) {
        return Status::kWithdrawn;  // not a matter of that either
    }
    const int failure = errno;
    const std::string lock_limit = lock_limit_text();
    error = fmt::format(
        "the RDMA device {} gives no further queue pair ({}); it has {} (max_qp): close "
        "connections{}{}",
        device.name(), std::generic_category().message(failure), device.limits().max_queue_pairs,
        lock_limit.empty() ? "" : "; or ", lock_limit);
    return Status::kNoMemory;
}

}  // namespace

VerbsPort::VerbsPort(const Config& config, PollingCore& core, int ended_fd)
    : config_(config),
      core_(core),
      ended_fd_(ended_fd),
      table_(std::min(config.max_connections, kMaxIndex + 1)),
      generations_(table_.size()) {
    queues_.reserve(64);
    free_indexes_.reserve(
        table_.size());  // an end needs no memory; only what is used is ever touched
    fill_early_pool();
}

VerbsPort::~VerbsPort() {
    while (EarlyMessage* message = early_pool_) {
        early_pool_ = message->next;
        std::free(message);
    }
}

Status VerbsPort::add_queue(Attachment& attachment) {
    attachment.queues.reserve(attachment.queues.size() +
                              1);  // what throws does so before anything is changed
    std::string error;
    auto queue = CompletionQueue::make(*attachment.device, error);
    if (queue == nullptr) {
        log(LogLevel::kWarn, "{}", error);
        return errno == EMFILE || errno == ENFILE ? Status::kNoDescriptors : Status::kNoMemory;
    }
    epoll_event event{};
    event.events = EPOLLIN | EPOLLET;
    (void)::epoll_ctl(core_.epoll_fd(), EPOLL_CTL_ADD, queue->fd(), &event);
    on_core(*this, [this, &queue] {
        queues_.push_back(queue.get());
        soft_queues_ += queue->device().soft() ? 1 : 0;
        if (armed_) {
            (void)queue->arm();
        }
    });
    attachment.queues.push_back(std::move(queue));
    return Status::kOk;
}

Status VerbsPort::attach(Device& device) {
    const std::size_t before = attachments_.size();
    Status status = Status::kNoMemory;
    try {
        attachments_.push_back({&device, false, {}});
        status = add_queue(attachments_.back());
    } catch (const std::bad_alloc&) {
        status = Status::kNoMemory;
    }
    if (status != Status::kOk) {
        attachments_.resize(before);
    }
    return status;
}

void VerbsPort::detach(Device& device) {
    for (Attachment& attachment : attachments_) {
        if (attachment.device != &device || attachment.detached) {
            continue;
        }
        attachment.detached = true;
        on_core(*this, [this, &attachment] {
            for (const auto& queue : attachment.queues) {
                drain(*queue);
            }
            for (Connection* connection : table_) {
                if (connection != nullptr && connection->device == attachment.device) {
                    break_connection(*connection, Status::kTransportFailed);
                }
            }
        });
    }
    forget_empty_queues();
}

bool VerbsPort::attached(const Device& device) const {
    return std::any_of(attachments_.begin(), attachments_.end(),
                       [&device](const Attachment& each) { return each.device == &device; });
}

void VerbsPort::remove_queue(CompletionQueue& queue) {
    on_core(*this, [this, &queue] {
        std::erase(queues_, &queue);
        soft_queues_ -= queue.device().soft() ? 1 : 0;
    });
    (void)::epoll_ctl(core_.epoll_fd(), EPOLL_CTL_DEL, queue.fd(), nullptr);
}

// Completion queues whose last connection has gone. The first one stays as long as its device is wanted.
void VerbsPort::forget_empty_queues() {
    std::erase_if(attachments_, [this](Attachment& attachment) {
        auto& queues = attachment.queues;
        for (std::size_t i = queues.size(); i-- > (attachment.detached ? 0 : 1);) {
            if (queues[i]->connections() == 0) {
                remove_queue(*queues[i]);
                queues.erase(queues.begin() + static_cast<std::ptrdiff_t>(i));
            }
        }
        return queues.empty();
    });
}

CompletionQueue* VerbsPort::reserve_queue(Device& device, Status& status) {
    for (Attachment& attachment : attachments_) {
        if (attachment.device != &device || attachment.detached) {
            continue;
        }
        for (const auto& queue : attachment.queues) {
            if (queue->reserve()) {
                return queue.get();
            }
        }
        status = add_queue(attachment);
        if (status != Status::kOk) {
            return nullptr;
        }
        CompletionQueue* queue = attachment.queues.back().get();
        if (queue->reserve()) {
            return queue;
        }
        status = Status::kFull;  // not even one connection fits
        return nullptr;
    }
    status = Status::kTransportFailed;
    return nullptr;
}

Connection* VerbsPort::make_connection(Device& device, rdma_cm_id* id, const EndpointOwner& owner,
                                       Status& status) {
    if (device.lost()) {
        status = Status::kTransportFailed;
        return nullptr;
    }
    if (free_indexes_.empty() && next_index_ == table_.size()) {
        log(LogLevel::kWarn, "a polling core has {} connections; raise the knob max_connections",
            table_.size());
        status = Status::kFull;
        return nullptr;
    }
    std::unique_ptr<Connection> connection(new (std::nothrow) Connection);
    if (connection == nullptr || !connection->sends.prepare() || !connection->receives.prepare() ||
        !connection->ring.make(device.transport() == Transport::kIwarp)) {
        status = Status::kNoMemory;
        return nullptr;
    }
    std::string error;
    try {
        connection->queue = reserve_queue(device, status);
        if (connection->queue == nullptr) {
            return nullptr;
        }
        connection->keys = MemoryKeys::make(device, error);
        status = connection->keys != nullptr &&
                         connection->buffers.make(device, connection->keys->pd(), error)
                     ? make_queue_pair(device, id, connection->queue->cq(), *connection, error)
                     : Status::kNoMemory;
    } catch (const std::bad_alloc&) {
        status = Status::kNoMemory;  // before there is a queue pair, which is made last
        if (connection->queue == nullptr) {
            return nullptr;
        }
    }
    if (status != Status::kOk) {
        if (!error.empty()) {
            log(LogLevel::kWarn, "{}", error);
        }
        connection->queue->release();
        return nullptr;
    }
    static_cast<EndpointOwner&>(*connection) = owner;
    connection->port = this;
    connection->core = &core_;
    connection->device = &device;
    connection->id = id;
    if (!free_indexes_.empty()) {
        connection->index = free_indexes_.back();
        free_indexes_.pop_back();
    } else {
        connection->index = next_index_++;
    }
    connection->incarnation = generations_[connection->index]++;
    for (std::uint32_t i = 0; i < kLongSlots; ++i) {
        connection->free_long[connection->free_long_count++] = static_cast<std::uint8_t>(i);
    }
    for (std::uint16_t slot = 0; slot < kReceiveBuffers; ++slot) {
        give_back(*connection, slot);
    }
    connection->buffers_reported = connection->buffers_given;
    if (connection->buffers_given != kReceiveBuffers) {
        log(LogLevel::kWarn,
            "the RDMA device {} takes no receive buffers; look at the kernel's log "
            "(dmesg)",
            device.name());
        drop_connection(connection.release());
        status = Status::kTransportFailed;
        return nullptr;
    }
    status = Status::kOk;
    return connection.release();
}

void VerbsPort::drop_connection(Connection* connection) {
    if (!connection->stopped) {
        connection->device->api().cm.destroy_qp(connection->id);
        connection->stopped = true;
        if (!connection->installed) {
            // Buffers that were posted may have ended with errors; they are taken before the room in the
            // completion queue is given to somebody else.
            on_core(*this, [this, connection] { drain(*connection->queue); });
        }
    }
    connection->queue->release();
    free_indexes_.push_back(connection->index);
    delete connection;
    forget_empty_queues();
}

Connection* VerbsPort::take_ended() noexcept {
    // Pairs with the release in wish(). The stack is taken whole, since a single consumer cannot pop from it
    // safely while others push.
    if (taken_ended_ == nullptr) {
        taken_ended_ = ended_.exchange(nullptr, std::memory_order_acquire);
    }
    Connection* connection = taken_ended_;
    if (connection != nullptr) {
        taken_ended_ = connection->next_ended;
    }
    return connection;
}

void VerbsPort::stop(Connection& connection) {
    if (connection.error != 0 && connection.error != IBV_WC_WR_FLUSH_ERR) {
        const WorkCompletionMeaning& meaning = meaning_of(connection.error);
        // A warning the first time, since a peer that breaks off does it with many connections at once.
        const std::uint32_t bit = 1U << std::min(connection.error, kWorkStatuses);
        log((told_ & bit) == 0 ? LogLevel::kWarn : LogLevel::kInfo,
            "a connection over the RDMA device {} has failed: {} (status {}, vendor's {:#x}). {}",
            connection.device->name(), meaning.name, connection.error, connection.vendor_error,
            meaning.remedy);
        told_ |= bit;
    } else if (connection.error != 0) {
        log(LogLevel::kDebug,
            "a connection over the RDMA device {} has ended: its requests were flushed",
            connection.device->name());
    }
    // From here on neither device reaches the user's memory through it.
    connection.device->api().cm.destroy_qp(connection.id);
    on_core(*this, [this, &connection] { stopped(connection); });
}

}  // namespace sanpoll::engine::verbs
