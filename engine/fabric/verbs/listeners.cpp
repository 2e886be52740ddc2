#include "engine/fabric/verbs/listeners.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "engine/fabric/verbs/verbs_fabric.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine::verbs {
namespace {

// Requests that RDMA CM keeps until the control thread takes them; the backlog that a user has asked for is
// counted by the user.
constexpr int kBacklog = 1024;
// Connects whose data has come in part. Beyond it, further ones are refused: a host may begin many.
constexpr std::size_t kMostAttempts = 1024;

Address address_of(const sockaddr& address) {
    sockaddr_in in{};
    std::memcpy(&in, &address, sizeof(in));
    return {ntohl(in.sin_addr.s_addr), ntohs(in.sin_port)};
}

Status listen_status(int error) {
    switch (error) {
        case EADDRINUSE:
            return Status::kAddressInUse;
        case EADDRNOTAVAIL:
        case ENODEV:
            return Status::kAddressNotAvailable;
        case EMFILE:
        case ENFILE:
            return Status::kNoDescriptors;
        default:
            return Status::kNoMemory;
    }
}

void say_no(Session& session, RejectReason reason) {
    PrivateData message;
    message.kind = PrivateKind::kRejection;
    message.reason = reason;
    session.reject(message);
}

}  // namespace

// ---- listening --------------------------------------------------------------------------------------

Status Listeners::add(const Address& local, Taker taker, Fabric::OnRequest on_request) {
    Takers& takers = takers_[local];
    Status status = Status::kNoMemory;
    try {
        takers.emplace_back(taker, std::move(on_request));
        status = cover(local);
    } catch (const std::bad_alloc&) {
        status = Status::kNoMemory;
    }
    if (status != Status::kOk) {
        remove(local, taker);
    }
    return status;
}

// Sees to it that there is an identifier wherever `local` means.
Status Listeners::cover(const Address& local) {
    bool served = local.ip == 0;
    // A copy: what listens may find a device lost.
    const std::vector<ServedAddress> all = fabric_.devices().served();
    for (const ServedAddress& one : all) {
        if (local.ip != 0 && one.ip != local.ip) {
            continue;
        }
        served = true;
        if (points_.contains({one.ip, local.port})) {
            continue;
        }
        if (const Status status = listen({one.ip, local.port}, one.entry->iwarp());
            status != Status::kOk) {
            return status;
        }
    }
    return served ? Status::kOk : Status::kAddressNotAvailable;
}

Status Listeners::listen(const Address& at, bool iwarp) {
    rdma_cm_id* id =
        fabric_.channel().create([this, at](const CmEvent& event) { on_event(at, event); });
    if (id == nullptr) {
        return listen_status(errno);
    }
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(at.ip);
    address.sin_port = htons(cm_port(iwarp, at.port));
    if (fabric_.api().cm.bind_addr(id, reinterpret_cast<sockaddr*>(&address)) != 0 ||
        fabric_.api().cm.listen(id, kBacklog) != 0) {
        const Status status = listen_status(errno);
        fabric_.channel().destroy(id);
        return status;
    }
    try {
        points_[at] = id;
    } catch (const std::bad_alloc&) {
        fabric_.channel().destroy(id);
        throw;
    }
    return Status::kOk;
}

void Listeners::remove(const Address& local, Taker taker) {
    const auto found = takers_.find(local);
    if (found == takers_.end()) {
        return;
    }
    std::erase_if(found->second, [&](const auto& item) { return item.first == taker; });
    if (found->second.empty()) {
        takers_.erase(found);
        forget_unwanted();
    }
}

void Listeners::forget_unwanted() {
    std::erase_if(points_, [this](const auto& point) {
        if (takers_of(point.first) != nullptr) {
            return false;
        }
        fabric_.channel().destroy(point.second);
        return true;
    });
}

const Listeners::Takers* Listeners::takers_of(const Address& at) const {
    for (const Address& key : {at, Address{0, at.port}}) {
        if (const auto found = takers_.find(key); found != takers_.end()) {
            return &found->second;
        }
    }
    return nullptr;
}

void Listeners::close() {
    takers_.clear();
    forget_unwanted();
    while (!attempts_.empty()) {
        forget(attempts_.begin()->first);
    }
}

bool Listeners::listen_again() {
    bool lacking = false;
    for (const auto& [local, takers] : takers_) {
        lacking = cover(local) != Status::kOk || lacking;
    }
    return lacking;
}

void Listeners::on_event(const Address& at, const CmEvent& event) {
    if (event.type == RDMA_CM_EVENT_CONNECT_REQUEST) {
        take_request(at, event);
        return;
    }
    if (event.type == RDMA_CM_EVENT_DEVICE_REMOVAL) {
        if (const auto found = points_.find(at); found != points_.end()) {
            fabric_.channel().destroy(found->second);
            points_.erase(found);
            fabric_.look_for_devices();
        }
    }
}

// ---- requests ---------------------------------------------------------------------------------------

void Listeners::take_request(const Address& at, const CmEvent& event) {
    std::shared_ptr<Session> session;
    try {
        session = fabric_.new_session();
        session->begin_with(event.id, {});
    } catch (const std::bad_alloc&) {
        if (session != nullptr) {
            fabric_.forget(session);
        }
        fabric_.channel().destroy(event.id);  // RDMA CM says no in its own words
        return;
    }
    try {
        hear(session, at, event);
    } catch (const std::bad_alloc&) {
        if (session->state() == Session::State::kNew) {
            say_no(*session, RejectReason::kNoMemory);
        }
    }
}

void Listeners::hear(const std::shared_ptr<Session>& session, const Address& at,
                     const CmEvent& event) {
    PrivateData message;
    if (!decode(event.private_data(), message)) {
        log(LogLevel::kDebug, "turned away at {} who is no sanpoll", to_string(at));
        session->dispose();  // RDMA CM says no in its own words
        return;
    }
    if (message.version != kProtocolVersion) {
        log(LogLevel::kWarn,
            "turned away a host with another version ({}) of sanpoll's protocol than this process "
            "({}); "
            "install the same version on both hosts",
            message.version, kProtocolVersion);
        say_no(*session, RejectReason::kVersion);
        return;
    }
    const Address from = address_of(event.id->route.addr.dst_addr);
    const AttemptKey key{from.ip, message.attempt};
    if (message.kind == PrivateKind::kPart) {
        take_part(session, key, message);
        return;
    }
    ConnectData data;
    if (message.kind != PrivateKind::kRequest) {
        say_no(*session, RejectReason::kRefused);
        return;
    }
    if (const auto found = attempts_.find(key); found != attempts_.end()) {
        if (const std::shared_ptr<Incoming> waiting = found->second.incoming.lock()) {
            forget(key);
            waiting->come_again(session);
            return;
        }
    }
    const Takers* takers = takers_of(at);
    if (!fit(key, message, data) || takers == nullptr) {
        say_no(*session, RejectReason::kRefused);
        return;
    }
    const auto incoming = std::make_shared<Incoming>(fabric_, Address{from.ip, message.port}, at,
                                                     message, std::move(data));
    session->hand_to(incoming);
    incoming->begin(session);
    // A copy: the taker may stop listening.
    const Fabric::OnRequest on_request = takers->front().second;
    if (!on_request(incoming)) {
        incoming->reject(Status::kRefused);
    }
}

// ---- data that comes in parts -----------------------------------------------------------------------

Listeners::Attempt* Listeners::attempt_of(const AttemptKey& key) {
    if (const auto found = attempts_.find(key); found != attempts_.end()) {
        return &found->second;
    }
    if (attempts_.size() >= kMostAttempts) {
        return nullptr;
    }
    Attempt& attempt = attempts_[key];
    attempt.timer = fabric_.control().add_timer(fabric_.config().connect_timeout_ms, [this, key] {
        attempts_.at(key).timer = 0;
        forget(key);
    });
    return &attempt;
}

void Listeners::forget(const AttemptKey& key) {
    if (const auto found = attempts_.find(key); found != attempts_.end()) {
        if (found->second.timer != 0) {
            fabric_.control().cancel_timer(found->second.timer);
        }
        attempts_.erase(found);
    }
}

void Listeners::take_part(const std::shared_ptr<Session>& session, const AttemptKey& key,
                          const PrivateData& message) {
    Attempt* attempt = attempt_of(key);
    if (attempt == nullptr) {
        say_no(*session, RejectReason::kNoMemory);
        return;
    }
    ConnectData& have = attempt->data;
    if (message.before > have.size()) {
        forget(key);
        say_no(*session, RejectReason::kRefused);
        return;
    }
    // One that has come before: the answer got lost.
    have.resize(message.before);
    have.insert(have.end(), message.data.begin(), message.data.end());
    say_no(*session, RejectReason::kMore);
}

// The whole data of a request; false if what should have gone ahead is not here.
bool Listeners::fit(const AttemptKey& key, const PrivateData& message, ConnectData& data) {
    if (message.before != 0) {
        const auto found = attempts_.find(key);
        if (found == attempts_.end() || found->second.data.size() != message.before) {
            forget(key);
            return false;
        }
        data = std::move(found->second.data);
        forget(key);
    }
    data.insert(data.end(), message.data.begin(), message.data.end());
    return true;
}

void Listeners::expect_again(std::uint32_t ip, std::uint64_t attempt,
                             std::weak_ptr<Incoming> incoming) {
    if (Attempt* entry = attempt_of({ip, attempt}); entry != nullptr) {
        entry->incoming = std::move(incoming);
    }
}

}  // namespace sanpoll::engine::verbs
