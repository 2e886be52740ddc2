#include "engine/fabric/verbs/private_data.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

namespace sanpoll::engine::verbs {
namespace {

constexpr PrivateKind kAllKinds[] = {PrivateKind::kPart, PrivateKind::kRequest,
                                     PrivateKind::kAcceptance, PrivateKind::kRejection};

ConnectData numbered(std::size_t length) {
    ConnectData data(length);
    for (std::size_t i = 0; i < length; ++i) {
        data[i] = static_cast<std::byte>(i + 1);
    }
    return data;
}

std::span<const std::byte> sent(const PrivateBytes& bytes) {
    return {bytes.bytes.data(), bytes.length};
}

TEST(PrivateData, CarriesEverythingOfEachKind) {
    for (const PrivateKind kind : kAllKinds) {
        PrivateData message;
        message.kind = kind;
        message.reason = RejectReason::kComeAgain;
        message.port = 0xABCD;
        message.attempt = 0x0123456789ABCDEF;
        message.terms = {300, 70000};
        message.before = 40;
        message.data = numbered(room_for_data(kind));
        PrivateData seen;
        ASSERT_TRUE(decode(sent(encode(message)), seen)) << static_cast<int>(kind);
        EXPECT_EQ(seen.kind, kind);
        EXPECT_EQ(seen.version, kProtocolVersion);
        EXPECT_EQ(seen.before, 40);
        EXPECT_EQ(seen.data, message.data);
        if (kind == PrivateKind::kRejection) {
            EXPECT_EQ(seen.reason, RejectReason::kComeAgain);
        }
        if (kind == PrivateKind::kRequest) {
            EXPECT_EQ(seen.port, 0xABCD);
        }
        if (kind == PrivateKind::kRequest || kind == PrivateKind::kPart) {
            EXPECT_EQ(seen.attempt, 0x0123456789ABCDEFU);
        }
        if (kind == PrivateKind::kRequest || kind == PrivateKind::kAcceptance) {
            EXPECT_EQ(seen.terms.buffers, 300U);
            EXPECT_EQ(seen.terms.buffer_bytes, 70000U);
        }
    }
}

TEST(PrivateData, FitsWhatInfiniBandHasRoomFor) {
    const std::size_t limits[] = {kMaxRequestBytes, kMaxRequestBytes, kMaxAcceptanceBytes,
                                  kMaxRejectionBytes};
    for (std::size_t i = 0; i < std::size(kAllKinds); ++i) {
        PrivateData message;
        message.kind = kAllKinds[i];
        message.data = numbered(room_for_data(message.kind));
        EXPECT_EQ(encode(message).length, limits[i]);
    }
    // The longest data of all is carried by a rejection and an acceptance together, as the header says.
    EXPECT_GE(room_for_data(PrivateKind::kRejection) + room_for_data(PrivateKind::kAcceptance),
              kMaxConnectData);
}

TEST(PrivateData, MayArriveWithZeroesBehindIt) {
    PrivateData message;
    message.data = numbered(3);
    const PrivateBytes bytes = encode(message);
    PrivateData seen;
    ASSERT_TRUE(decode({bytes.bytes.data(), kMaxRequestBytes}, seen));
    EXPECT_EQ(seen.data, message.data);
}

TEST(PrivateData, CutShortIsNotOurs) {
    for (const PrivateKind kind : kAllKinds) {
        PrivateData message;
        message.kind = kind;
        message.data = numbered(5);
        const PrivateBytes bytes = encode(message);
        PrivateData seen;
        for (std::size_t length = 0; length < bytes.length; ++length) {
            EXPECT_FALSE(decode({bytes.bytes.data(), length}, seen)) << length;
        }
    }
}

TEST(PrivateData, SomebodyElsesIsNotOurs) {
    PrivateBytes bytes = encode({});
    PrivateData seen;
    ASSERT_TRUE(decode(sent(bytes), seen));
    bytes.bytes[0] ^= std::byte{1};
    EXPECT_FALSE(decode(sent(bytes), seen));
    const std::vector<std::byte> zeroes(kMaxRequestBytes);
    EXPECT_FALSE(decode(zeroes, seen));
}

TEST(PrivateData, ContradictionsAreNotOurs) {
    PrivateData seen;
    PrivateData message;
    message.before = kMaxConnectData;
    EXPECT_TRUE(decode(sent(encode(message)), seen));
    message.data = numbered(1);
    EXPECT_FALSE(decode(sent(encode(message)), seen)) << "more data than there may be";

    PrivateBytes bytes = encode({});
    bytes.bytes[5] = std::byte{5};
    EXPECT_FALSE(decode(sent(bytes), seen)) << "no such kind";
    bytes.bytes[5] = std::byte{0};
    EXPECT_FALSE(decode(sent(bytes), seen)) << "no such kind";

    message = {};
    message.kind = PrivateKind::kRejection;
    bytes = encode(message);
    bytes.bytes[7] = std::byte{0};
    EXPECT_FALSE(decode(sent(bytes), seen)) << "no such reason";
    bytes.bytes[7] = std::byte{8};
    EXPECT_FALSE(decode(sent(bytes), seen)) << "no such reason";
}

TEST(PrivateData, AnotherVersionIsRecognised) {
    PrivateData message;
    message.version = kProtocolVersion + 1;
    PrivateBytes bytes = encode(message);
    bytes.bytes[6] = std::byte{255};  // whatever it means there
    PrivateData seen;
    ASSERT_TRUE(decode(sent(bytes), seen));
    EXPECT_EQ(seen.version, kProtocolVersion + 1);
    EXPECT_EQ(seen.kind, PrivateKind::kRequest);
}

TEST(PrivateData, NoiseNeverYieldsMoreThanItHolds) {
    std::mt19937 random(7);
    std::uint32_t decoded = 0;
    for (int i = 0; i < 20000; ++i) {
        PrivateData message;
        message.kind = kAllKinds[random() % std::size(kAllKinds)];
        message.data = numbered(random() % (room_for_data(message.kind) + 1));
        PrivateBytes bytes = encode(message);
        // Behind magic and version: else nothing but refusals would be seen.
        for (int changes = static_cast<int>(random() % 4); changes > 0; --changes) {
            bytes.bytes[5 + random() % 40] = static_cast<std::byte>(random());
        }
        // A copy of the exact length, so that a look beyond it is noticed.
        const std::vector<std::byte> exact(bytes.bytes.begin(), bytes.bytes.begin() + bytes.length);
        PrivateData seen;
        if (decode(exact, seen)) {
            ++decoded;
            ASSERT_LE(seen.data.size(), exact.size());
            ASSERT_LE(seen.before + seen.data.size(), kMaxConnectData);
        }
    }
    EXPECT_GT(decoded, 1000U);
}

}  // namespace
}  // namespace sanpoll::engine::verbs
