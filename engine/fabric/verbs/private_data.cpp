#include "engine/fabric/verbs/private_data.hpp"

#include <algorithm>

namespace sanpoll::engine::verbs {
namespace {

constexpr std::uint32_t kMagic = 0x53414E70;  // also tells sanpoll from whoever else speaks RDMA CM

// magic 4, version 1, kind 1, data length 1, reason 1, before 2
constexpr std::size_t kHead = 10;
// further 2 port, 8 attempt, 4 buffers, 4 buffer bytes
constexpr std::size_t kRequestHead = kHead + 18;
// further 4 buffers, 4 buffer bytes
constexpr std::size_t kAcceptanceHead = kHead + 8;
constexpr std::size_t kRejectionHead = kHead;
// further 8 attempt
constexpr std::size_t kPartHead = kHead + 8;

constexpr std::size_t head_of(PrivateKind kind) noexcept {
    switch (kind) {
        case PrivateKind::kPart:
            return kPartHead;
        case PrivateKind::kRequest:
            return kRequestHead;
        case PrivateKind::kAcceptance:
            return kAcceptanceHead;
        case PrivateKind::kRejection:
            break;
    }
    return kRejectionHead;
}

// In network byte order: the two hosts need not be of one kind.
class Writer {
public:
    explicit Writer(std::byte* at) noexcept : at_(at) {}
    void put(std::uint64_t value, int bytes) noexcept {
        while (bytes-- > 0) {
            *at_++ = static_cast<std::byte>(value >> (8 * bytes));
        }
    }
    void put(const ConnectData& data) noexcept { std::copy(data.begin(), data.end(), at_); }

private:
    std::byte* at_;
};

class Reader {
public:
    explicit Reader(const std::byte* at) noexcept : at_(at) {}
    template <typename T>
    void get(T& value, int bytes) noexcept {
        std::uint64_t read = 0;
        while (bytes-- > 0) {
            read = (read << 8) | static_cast<std::uint64_t>(*at_++);
        }
        value = static_cast<T>(read);
    }
    [[nodiscard]] const std::byte* at() const noexcept { return at_; }

private:
    const std::byte* at_;
};

}  // namespace

std::size_t room_for_data(PrivateKind kind) noexcept {
    const std::size_t all = kind == PrivateKind::kAcceptance  ? kMaxAcceptanceBytes
                            : kind == PrivateKind::kRejection ? kMaxRejectionBytes
                                                              : kMaxRequestBytes;
    return all - head_of(kind);
}

PrivateBytes encode(const PrivateData& message) noexcept {
    PrivateBytes result;
    Writer writer(result.bytes.data());
    writer.put(kMagic, 4);
    writer.put(message.version, 1);
    writer.put(static_cast<std::uint64_t>(message.kind), 1);
    writer.put(message.data.size(), 1);
    writer.put(static_cast<std::uint64_t>(message.reason), 1);
    writer.put(message.before, 2);
    if (message.kind == PrivateKind::kRequest) {
        writer.put(message.port, 2);
    }
    if (message.kind == PrivateKind::kRequest || message.kind == PrivateKind::kPart) {
        writer.put(message.attempt, 8);
    }
    if (message.kind == PrivateKind::kRequest || message.kind == PrivateKind::kAcceptance) {
        writer.put(message.terms.buffers, 4);
        writer.put(message.terms.buffer_bytes, 4);
    }
    writer.put(message.data);
    result.length = static_cast<std::uint8_t>(head_of(message.kind) + message.data.size());
    return result;
}

bool decode(std::span<const std::byte> bytes, PrivateData& message) {
    if (bytes.size() < kHead) {
        return false;
    }
    Reader reader(bytes.data());
    std::uint32_t magic = 0;
    std::uint8_t kind = 0;
    std::uint8_t length = 0;
    std::uint8_t reason = 0;
    reader.get(magic, 4);
    reader.get(message.version, 1);
    reader.get(kind, 1);
    reader.get(length, 1);
    reader.get(reason, 1);
    reader.get(message.before, 2);
    if (magic != kMagic || kind < static_cast<std::uint8_t>(PrivateKind::kPart) ||
        kind > static_cast<std::uint8_t>(PrivateKind::kRejection)) {
        return false;
    }
    message.kind = static_cast<PrivateKind>(kind);
    if (message.version != kProtocolVersion) {
        return true;  // the rest may look otherwise
    }
    if (length > room_for_data(message.kind) || bytes.size() < head_of(message.kind) + length ||
        message.before + length > kMaxConnectData) {
        return false;
    }
    if (message.kind == PrivateKind::kRejection) {
        if (reason < static_cast<std::uint8_t>(RejectReason::kRefused) ||
            reason > static_cast<std::uint8_t>(RejectReason::kVersion)) {
            return false;
        }
        message.reason = static_cast<RejectReason>(reason);
    }
    if (message.kind == PrivateKind::kRequest) {
        reader.get(message.port, 2);
    }
    if (message.kind == PrivateKind::kRequest || message.kind == PrivateKind::kPart) {
        reader.get(message.attempt, 8);
    }
    if (message.kind == PrivateKind::kRequest || message.kind == PrivateKind::kAcceptance) {
        reader.get(message.terms.buffers, 4);
        reader.get(message.terms.buffer_bytes, 4);
    }
    message.data.assign(reader.at(), reader.at() + length);
    return true;
}

}  // namespace sanpoll::engine::verbs
