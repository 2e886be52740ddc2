#include "engine/fabric/shm/export.hpp"

#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <new>
#include <thread>

#include "engine/fabric/shm/shm_fabric.hpp"
#include "engine/limit_error.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine::shm {

namespace {

// How long a socket waits for its next process. The switch calls WSPSocket there at once; what is not fetched
// by then is lost, and the peer must not wait for ever.
constexpr std::uint64_t kFetchMs = 60000;
constexpr std::uint64_t kLookAgainMs = 100;
constexpr std::chrono::milliseconds kWithoutATimer{1};
constexpr int kDraws = 100;

Status status_of(int error) noexcept {
    return error == EMFILE || error == ENFILE ? Status::kNoDescriptors : Status::kNoMemory;
}

}  // namespace

Status Exports::add(const ExportedState& state, Descriptor& carried, pid_t process,
                    std::uint32_t& token) {
    Export one;
    one.process = process;
    one.life = Descriptor(static_cast<int>(::syscall(SYS_pidfd_open, process, 0)));
    if (!one.life && errno != ENOSYS && errno != EPERM) {
        // EINVAL: a thread's number and no process's.
        return errno == ESRCH || errno == EINVAL ? Status::kUnreachable : status_of(errno);
    }
    one.state = write_state(state);
    if (!one.state) {
        return status_of(errno);
    }
    std::uint32_t drawn = 0;
    for (int draw = 0; !one.door; ++draw) {
        if (::getrandom(&drawn, sizeof(drawn), 0) != static_cast<ssize_t>(sizeof(drawn)) ||
            draw == kDraws) {
            return Status::kNoMemory;
        }
        if (drawn == 0) {
            continue;
        }
        const int fd = bind_token(drawn);
        if (fd < 0 && fd != -EADDRINUSE) {
            return status_of(-fd);
        }
        if (fd >= 0) {
            one.door = Descriptor(fd);
        }
    }
    Export& kept = list_[drawn] = std::move(one);
    bool watched = false;
    try {
        ControlThread& control = fabric_.control();
        watched = control.watch(kept.door.get(), EPOLLIN, [this, drawn](std::uint32_t) {
            knocked(drawn);
        }) && (!kept.life || control.watch(kept.life.get(), EPOLLIN, [this, drawn](std::uint32_t) {
                      give_up(drawn);
                  }));
        kept.timer = control.add_timer(kFetchMs, [this, drawn] {
            log(LogLevel::kWarn,
                "the process that WSPDuplicateSocket named did not fetch the socket in {} seconds; "
                "it is given up",
                kFetchMs / 1000);
            list_[drawn].timer = 0;
            give_up(drawn);
        });
    } catch (const std::bad_alloc&) {
        watched = false;
    }
    if (!watched) {
        give_up(drawn);
        return Status::kNoMemory;
    }
    kept.carried = std::move(carried);
    token = drawn;
    return Status::kOk;
}

void Exports::give_up(std::uint32_t token) {
    const auto found = list_.find(token);
    if (found == list_.end()) {
        return;
    }
    fabric_.control().forget(found->second.door.get());
    if (found->second.life) {
        fabric_.control().forget(found->second.life.get());
    }
    if (found->second.timer != 0) {
        fabric_.control().cancel_timer(found->second.timer);
    }
    list_.erase(found);
}

void Exports::give_up_all() {
    while (!list_.empty()) {
        give_up(list_.begin()->first);
    }
}

void Exports::knocked(std::uint32_t token) {
    for (;;) {
        const auto found = list_.find(token);
        if (found == list_.end()) {
            return;
        }
        const Export& one = found->second;
        const Descriptor caller(
            ::accept4(one.door.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!caller) {
            const int error = errno;
            if (no_descriptors(error) || error == ENOBUFS || error == ENOMEM) {
                // They stay queued. Looking away for a moment keeps the thread from spinning on them.
                try {
                    log(LogLevel::kError, "{}",
                        descriptor_error("the handing over of a duplicated socket", error));
                    fabric_.control().add_timer(kLookAgainMs, [this, token] {
                        if (const auto again = list_.find(token); again != list_.end()) {
                            fabric_.control().change(again->second.door.get(), EPOLLIN);
                        }
                    });
                    fabric_.control().change(one.door.get(), 0);
                } catch (const std::bad_alloc&) {
                    std::this_thread::sleep_for(kWithoutATimer);  // nobody would look again
                }
            }
            return;
        }
        const pid_t process = peer_process(caller.get());
        if (process != one.process) {
            log(LogLevel::kWarn,
                "turned away process {}: the duplicated socket that it asks for is process {}'s",
                process, one.process);
            continue;
        }
        ControlMessage message;
        message.kind = MessageKind::kExport;
        const int fds[] = {one.state.get(), one.carried.get()};
        const int result = send_message(caller.get(), message, fds, 2);
        if (result == 1) {
            give_up(token);  // it is on its way; our copies of the descriptors are closed
            return;
        }
        if (result == kRefusedNow) {
            // It hears the end of the file, and may ask again: the token stays good.
            log(LogLevel::kWarn, "a duplicated socket is not handed to process {}: {}", process,
                refusal_text(errno));
        }
    }
}

}  // namespace sanpoll::engine::shm
