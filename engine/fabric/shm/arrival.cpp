#include "engine/fabric/shm/arrival.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <future>
#include <string_view>
#include <thread>

#include "engine/fabric/shm/shm_fabric.hpp"
#include "engine/limit_error.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine::shm {

namespace {

using SteadyClock = std::chrono::steady_clock;

Status no_descriptor_left(int error) {
    log(LogLevel::kWarn, "{}", descriptor_error("a socket that another process gives away", error));
    return no_descriptors(error) ? Status::kNoDescriptors : Status::kNoMemory;
}

// Knocks until the door's queue has room. Empty: there is no such door, or time is over.
Descriptor knock_at(std::uint32_t token, SteadyClock::time_point deadline, Status& status) {
    for (;;) {
        const int fd = connect_token(token);
        if (fd != -EAGAIN) {
            status = fd >= 0               ? Status::kOk
                     : no_descriptors(-fd) ? Status::kNoDescriptors
                                           : Status::kUnknownToken;
            if (status == Status::kNoDescriptors) {
                (void)no_descriptor_left(-fd);
            }
            return Descriptor(fd);
        }
        if (SteadyClock::now() > deadline) {
            status = Status::kTimedOut;
            return {};
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
}

// Waits for the one message that is due. `make_room` is called when it is there, or the end of file.
template <typename MakeRoom>
Status hear(int fd, SteadyClock::time_point deadline, ControlMessage& message, int fds[2],
            int& fd_count, MakeRoom make_room) {
    for (;;) {
        pollfd look{fd, POLLIN, 0};
        if (::poll(&look, 1, 0) > 0) {
            make_room();
        }
        const int result = receive_message(fd, message, fds, fd_count);
        if (result > 0) {
            return Status::kOk;
        }
        if (result < 0) {
            return Status::kUnknownToken;  // turned away
        }
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(deadline - SteadyClock::now());
        pollfd item{fd, POLLIN, 0};
        if (left.count() <= 0 ||
            (::poll(&item, 1, static_cast<int>(left.count())) < 0 && errno != EINTR)) {
            return Status::kTimedOut;
        }
    }
}

}  // namespace

Status Arrival::fetch(ShmFabric& fabric, std::uint32_t token, std::unique_ptr<Import>& arrival) {
    const auto deadline =
        SteadyClock::now() + std::chrono::milliseconds(fabric.config().connect_timeout_ms);
    // Room for the two that come along. Without it they would be lost, and the token with them.
    int room[2] = {-1, -1};
    if (::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, room) != 0) {
        return no_descriptor_left(errno);
    }
    Descriptor first(room[0]);
    Descriptor second(room[1]);
    Status status = Status::kOk;
    const Descriptor door = knock_at(token, deadline, status);
    if (!door) {
        return status;
    }
    if (peer_process(door.get()) == 0) {
        log(LogLevel::kWarn,
            "a duplicated socket (token {:08x}) is offered by another user's process; refused: "
            "sockets are handed over between processes of one user",
            token);
        return Status::kUnknownToken;
    }
    ControlMessage message;
    int fds[2];
    int fd_count = 0;
    status = hear(door.get(), deadline, message, fds, fd_count, [&] {
        first.reset();
        second.reset();
    });
    Descriptor file(fd_count > 0 ? fds[0] : -1);
    Descriptor carried(fd_count > 1 ? fds[1] : -1);
    if (status != Status::kOk) {
        return status;
    }
    ExportedState state;
    std::string_view wrong;
    if (message.kind != MessageKind::kExport || !file || !carried) {
        wrong = "its message is another one, or lacks the two descriptors that belong to it";
    } else if (!read_state(file.get(), state)) {
        wrong = "the state that came along cannot be read";
    } else if (!(state.listening ? listens_at(carried.get(), {state.ip, state.port})
                                 : is_control_socket(carried.get()))) {
        wrong = state.listening
                    ? "the listening socket that came along is none, or listens elsewhere"
                    : "the way to the connection's peer that came along is none";
    }
    if (!wrong.empty()) {
        log(LogLevel::kWarn,
            "what process {} offers as a duplicated socket (token {:08x}) is none: {}. Both "
            "processes need the same version of the library; if they have it, the token is not "
            "what WSPDuplicateSocket has given, or that process is no sanpoll",
            peer_process(door.get()), token, wrong);
        return Status::kUnknownToken;
    }
    arrival = std::make_unique<Arrival>(fabric, std::move(state), std::move(carried));
    return Status::kOk;
}

Status Arrival::resume(const EndpointOwner& owner) {
    // Shared: it must outlive set_value(), which this thread does not wait for.
    const auto promise = std::make_shared<std::promise<Status>>();
    auto outgoing = std::make_shared<Outgoing>(
        fabric_, Address{}, Address{}, ConnectData{}, owner,
        [promise](const Fabric::ConnectResult& result) { promise->set_value(result.status); });
    outgoing->resumption = std::make_unique<Resumption>();
    outgoing->resumption->state = std::move(state_);
    outgoing->resumption->lifeline = std::move(carried_);
    // Not post(): what this thread posts may be left to the end of a call that it is in the middle of.
    fabric_.control().call([this, outgoing] { fabric_.begin_resumption(outgoing); });
    const Status status = promise->get_future().get();
    if (status == Status::kNoListener && !outgoing->resumption->state.frozen.early.empty()) {
        return resume_ended(owner, outgoing->resumption->state.frozen);
    }
    return status;
}

// The peer has ended meanwhile. What it had sent before is delivered all the same, then its end is known.
Status Arrival::resume_ended(const EndpointOwner& owner, const Frozen& frozen) {
    ShmPort& port = fabric_.any_port();
    Connection* connection = port.make_connection(owner);
    if (connection == nullptr) {
        return Status::kNoMemory;
    }
    Status status = Status::kNoMemory;
    on_core(port, [&]() noexcept {
        if (port.stock(*connection, frozen)) {
            status = port.establish_ended(*connection) ? Status::kOk : Status::kNotOpen;
        }
        if (status != Status::kOk) {
            port.abandon(*connection);
        }
    });
    return status;
}

Status Arrival::listen(const Address& local, Fabric::OnRequest on_request,
                       std::unique_ptr<Listening>& listening) {
    (void)local;  // the socket that came along listens where it listens
    return fabric_.listen_with({state_.ip, state_.port}, std::move(carried_), std::move(on_request),
                               listening);
}

}  // namespace sanpoll::engine::shm
