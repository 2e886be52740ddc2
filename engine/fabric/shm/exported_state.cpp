#include "engine/fabric/shm/exported_state.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>

namespace sanpoll::engine::shm {

namespace {

constexpr std::uint64_t kMagic = 0x73616E6D6F766531;  // the layout below
constexpr std::size_t kMaxPassenger = 4096;
constexpr std::size_t kMaxFile = 1U << 30;

// The file: this, the passenger, then for each message its length (32 bits) and its bytes.
struct Head {
    std::uint64_t magic;
    std::uint64_t engine_id[2];
    std::uint64_t secret[2];
    std::uint32_t listening;
    std::uint32_t ip;
    std::uint32_t port;
    std::uint32_t engine_port;
    std::uint32_t sent;
    std::uint32_t arrived;
    std::uint32_t credit;
    std::uint32_t early;
    std::uint32_t passenger;
    std::uint32_t padding;
};

void append(std::vector<std::byte>& to, const void* from, std::size_t length) {
    const auto* bytes = static_cast<const std::byte*>(from);
    to.insert(to.end(), bytes, bytes + length);
}

bool write_all(int fd, const std::vector<std::byte>& bytes) {
    std::size_t at = 0;
    while (at < bytes.size()) {
        const ssize_t wrote = ::write(fd, bytes.data() + at, bytes.size() - at);
        if (wrote < 0 && errno == EINTR) {
            continue;
        }
        if (wrote <= 0) {
            return false;
        }
        at += static_cast<std::size_t>(wrote);
    }
    return true;
}

bool read_all(int fd, std::vector<std::byte>& bytes) {
    struct stat status {};
    if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size < 0 ||
        static_cast<std::uint64_t>(status.st_size) > kMaxFile) {
        return false;
    }
    bytes.resize(static_cast<std::size_t>(status.st_size));
    std::size_t at = 0;
    while (at < bytes.size()) {
        const ssize_t got =
            ::pread(fd, bytes.data() + at, bytes.size() - at, static_cast<off_t>(at));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return false;
        }
        at += static_cast<std::size_t>(got);
    }
    return true;
}

// Takes pieces off the front as long as there is enough.
class Reader {
public:
    explicit Reader(const std::vector<std::byte>& bytes) noexcept : bytes_(bytes) {}
    [[nodiscard]] bool take(void* to, std::size_t length) noexcept {
        if (length > bytes_.size() - at_) {
            return false;
        }
        std::memcpy(to, bytes_.data() + at_, length);
        at_ += length;
        return true;
    }
    [[nodiscard]] bool take(std::vector<std::byte>& to, std::size_t length) {
        if (length > bytes_.size() - at_) {
            return false;
        }
        const auto from = bytes_.begin() + static_cast<std::ptrdiff_t>(at_);
        to.assign(from, from + static_cast<std::ptrdiff_t>(length));
        at_ += length;
        return true;
    }
    [[nodiscard]] bool at_end() const noexcept { return at_ == bytes_.size(); }

private:
    const std::vector<std::byte>& bytes_;
    std::size_t at_ = 0;
};

}  // namespace

Descriptor write_state(const ExportedState& state) {
    Head head{};
    head.magic = kMagic;
    std::memcpy(head.engine_id, state.engine_id, sizeof(head.engine_id));
    std::memcpy(head.secret, state.secret, sizeof(head.secret));
    head.listening = state.listening ? 1 : 0;
    head.ip = state.ip;
    head.port = state.port;
    head.engine_port = state.engine_port;
    head.sent = state.frozen.counts.sent;
    head.arrived = state.frozen.counts.arrived;
    head.credit = state.frozen.credit;
    head.early = static_cast<std::uint32_t>(state.frozen.early.size());
    head.passenger = static_cast<std::uint32_t>(state.passenger.size());
    std::vector<std::byte> bytes;
    append(bytes, &head, sizeof(head));
    append(bytes, state.passenger.data(), state.passenger.size());
    for (const std::vector<std::byte>& message : state.frozen.early) {
        const auto length = static_cast<std::uint32_t>(message.size());
        append(bytes, &length, sizeof(length));
        append(bytes, message.data(), message.size());
    }
    Descriptor file(::memfd_create("sanpoll-socket", MFD_CLOEXEC));
    if (file && !write_all(file.get(), bytes)) {
        const int error = errno;
        file.reset();
        errno = error;
    }
    return file;
}

bool read_state(int fd, ExportedState& state) {
    std::vector<std::byte> bytes;
    if (!read_all(fd, bytes)) {
        return false;
    }
    Reader reader(bytes);
    Head head{};
    if (!reader.take(&head, sizeof(head)) || head.magic != kMagic || head.listening > 1 ||
        head.port > 0xFFFF || head.passenger > kMaxPassenger ||
        !reader.take(state.passenger, head.passenger)) {
        return false;
    }
    state.listening = head.listening != 0;
    state.ip = head.ip;
    state.port = static_cast<std::uint16_t>(head.port);
    std::memcpy(state.engine_id, head.engine_id, sizeof(head.engine_id));
    std::memcpy(state.secret, head.secret, sizeof(head.secret));
    state.engine_port = head.engine_port;
    state.frozen = {};
    state.frozen.counts = {head.sent, head.arrived};
    state.frozen.credit = head.credit;
    // The count is not believed: each message has to be there.
    for (std::uint32_t i = 0; i < head.early; ++i) {
        std::uint32_t length = 0;
        std::vector<std::byte> message;
        if (!reader.take(&length, sizeof(length)) || length > kMaxEarly ||
            !reader.take(message, length)) {
            return false;
        }
        state.frozen.early.push_back(std::move(message));
    }
    return reader.at_end();
}

}  // namespace sanpoll::engine::shm
