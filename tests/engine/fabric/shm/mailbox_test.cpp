#include "engine/fabric/shm/mailbox.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <thread>

namespace sanpoll::engine::shm {
namespace {

using Found = MailReader::Found;

constexpr std::uint32_t kLetters = MailboxMemory::kLetters;

class MailboxTest : public testing::Test {
protected:
    static ControlMessage numbered(std::uint32_t number) {
        ControlMessage message = message_of(MessageKind::kConnect);
        message.connector_id = number;
        message.data_length = number % (kMaxConnectData + 1);
        for (std::uint32_t i = 0; i < message.data_length; ++i) {
            message.data[i] = static_cast<std::byte>(number + i);
        }
        return message;
    }
    bool put(std::uint32_t number) { return writer_.put(numbered(number), knock_); }
    void expect(std::uint32_t number) {
        ControlMessage message;
        ASSERT_EQ(reader_.take(message), Found::kLetter);
        const ControlMessage wanted = numbered(number);
        EXPECT_EQ(message.connector_id, number);
        ASSERT_EQ(message.data_length, wanted.data_length);
        EXPECT_EQ(std::memcmp(message.data, wanted.data, wanted.data_length), 0);
        EXPECT_TRUE(is_sound(message));
    }
    Found take() {
        ControlMessage message;
        return reader_.take(message);
    }

    std::unique_ptr<MailboxMemory> memory_ = std::make_unique<MailboxMemory>();
    MailWriter writer_{*memory_};
    MailReader reader_{*memory_};
    bool knock_ = false;
};

TEST_F(MailboxTest, LettersArriveWholeAndInOrder) {
    EXPECT_FALSE(reader_.anything());
    EXPECT_EQ(take(), Found::kNothing);
    for (std::uint32_t number = 0; number < 10 * kLetters; number += 2) {
        ASSERT_TRUE(put(number) && put(number + 1));
        EXPECT_TRUE(reader_.anything());
        expect(number);
        expect(number + 1);
        EXPECT_FALSE(reader_.anything());
    }
}

TEST_F(MailboxTest, AFullOneTakesNoMoreUntilOneIsRead) {
    for (std::uint32_t number = 0; number < kLetters; ++number) {
        ASSERT_TRUE(put(number));
    }
    EXPECT_FALSE(put(kLetters));
    expect(0);
    EXPECT_TRUE(put(kLetters));
    EXPECT_FALSE(put(kLetters + 1));
    for (std::uint32_t number = 1; number <= kLetters; ++number) {
        expect(number);
    }
    EXPECT_EQ(take(), Found::kNothing);
}

TEST_F(MailboxTest, KnocksOnceForEachTimeItIsArmed) {
    ASSERT_TRUE(put(1));
    EXPECT_FALSE(knock_) << "nobody has asked";
    EXPECT_TRUE(reader_.disarmed());
    reader_.arm();
    EXPECT_FALSE(reader_.disarmed());
    ASSERT_TRUE(put(2));
    EXPECT_TRUE(knock_);
    EXPECT_TRUE(reader_.disarmed());
    ASSERT_TRUE(put(3));
    EXPECT_FALSE(knock_);
}

TEST_F(MailboxTest, CountsThatCannotBeAreLies) {
    ASSERT_TRUE(put(1));
    for (const std::uint32_t lie : {kLetters + 1, 1U << 31, UINT32_MAX}) {
        memory_->written = lie;
        EXPECT_EQ(take(), Found::kLie) << lie;
    }
    memory_->written = 1;
    expect(1);
    for (std::uint32_t number = 1; number <= kLetters; ++number) {
        ASSERT_TRUE(put(number));
    }
    for (const std::uint32_t lie : {kLetters + 2, 1U << 31, UINT32_MAX - kLetters}) {
        memory_->taken = lie;
        EXPECT_FALSE(put(7)) << lie;
    }
}

TEST_F(MailboxTest, DataLongerThanItMayBeIsALie) {
    for (const std::uint32_t length :
         {static_cast<std::uint32_t>(kMaxConnectData) + 1, 1U << 31, UINT32_MAX}) {
        MailboxMemory memory{};
        MailReader reader(memory);
        std::memcpy(memory.letters[0].bytes + offsetof(ControlMessage, data_length), &length,
                    sizeof(length));
        memory.written = 1;
        ControlMessage message;
        EXPECT_EQ(reader.take(message), Found::kLie) << length;
    }
}

// Either the writer sees the flag or the reader, who looks once more behind it, the letter.
TEST_F(MailboxTest, NoLetterIsOverlookedBetweenTheLastLookAndTheSleep) {
    constexpr std::uint32_t kRounds = 20000;
    std::atomic<std::uint32_t> knocks{0};
    std::thread sender([&] {
        for (std::uint32_t number = 0; number < kRounds; ++number) {
            bool knock = false;
            while (!writer_.put(numbered(number), knock)) {
                std::this_thread::yield();
            }
            if (knock) {
                knocks.fetch_add(1, std::memory_order_release);
            }
        }
    });
    std::uint32_t next = 0;
    std::uint32_t heard = 0;
    while (next < kRounds) {
        ControlMessage message;
        while (reader_.take(message) == Found::kLetter) {
            ASSERT_EQ(message.connector_id, next++);
        }
        reader_.arm();
        if (reader_.anything() || next == kRounds) {
            continue;
        }
        // Asleep: a letter that comes now is told of, or this never ends.
        while (knocks.load(std::memory_order_acquire) == heard) {
            std::this_thread::yield();
        }
        heard = knocks.load(std::memory_order_acquire);
    }
    sender.join();
}

}  // namespace
}  // namespace sanpoll::engine::shm
