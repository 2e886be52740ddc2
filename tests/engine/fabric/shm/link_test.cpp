// Both ends of a link and the doorbells between them.
#include "engine/fabric/shm/link.hpp"

#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tests/engine/fabric/shm/two_ports.hpp"

namespace sanpoll::engine::shm {
namespace {

// The doorbell of side a in an epoll set of the test, edge-triggered as in a core's.
class DoorbellTest : public testing::Test {
protected:
    void SetUp() override {
        epoll_fd_ = ::epoll_create1(EPOLL_CLOEXEC);
        epoll_event event{};
        event.events = EPOLLIN | EPOLLET;
        ASSERT_EQ(::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, ports_.link_a->own_doorbell(), &event), 0);
    }
    void TearDown() override { ::close(epoll_fd_); }

    [[nodiscard]] bool rung() const {
        epoll_event event{};
        return ::epoll_wait(epoll_fd_, &event, 1, 0) == 1;
    }
    /// One record for nobody, as any record rings.
    void write_to_a() {
        ASSERT_TRUE(ports_.link_b->sender.room_for_control());
        ports_.link_b->sender.put_control({RecordKind::kCredit, 1, 0, 0, 0, 0});
        (void)ports_.a.core.turn();
    }

    tests::TwoPorts ports_;
    int epoll_fd_ = -1;
};

TEST_F(DoorbellTest, RingsOnlyForAReaderThatAskedForIt) {
    write_to_a();
    EXPECT_FALSE(rung());
    ports_.link_a->receiver.arm();
    write_to_a();
    EXPECT_TRUE(rung());
    write_to_a();
    EXPECT_FALSE(rung()) << "once is enough";
    ports_.link_a->disarm();
    write_to_a();
    EXPECT_FALSE(rung());
}

TEST_F(DoorbellTest, RingsOnlyForAWriterThatAskedForIt) {
    ports_.link_b->tell_writer();
    EXPECT_FALSE(rung());
    ports_.link_a->sender.arm_for_room();
    ports_.link_b->tell_writer();
    EXPECT_TRUE(rung());
    ports_.link_b->tell_writer();
    EXPECT_FALSE(rung());
    ports_.link_a->sender.arm_for_room();
    ports_.link_a->disarm();
    ports_.link_b->tell_writer();
    EXPECT_FALSE(rung());
}

// A ring that is left in the socket is no edge any more, and enough of them leave no room for another.
TEST_F(DoorbellTest, NeverStopsRingingForRecords) {
    for (int i = 0; i < 5000; ++i) {
        ports_.link_a->receiver.arm();
        write_to_a();
        ASSERT_TRUE(rung()) << i;
        ports_.link_a->disarm();
    }
}

TEST_F(DoorbellTest, NeverStopsRingingForRoom) {
    for (int i = 0; i < 5000; ++i) {
        ports_.link_a->receiver.arm();  // a core that sleeps wants to know of either
        ports_.link_a->sender.arm_for_room();
        ports_.link_b->tell_writer();
        ASSERT_TRUE(rung()) << i;
        ports_.link_a->disarm();
    }
    ports_.link_a->receiver.arm();
    write_to_a();
    EXPECT_TRUE(rung()) << "and for records in between";
}

TEST_F(DoorbellTest, NeverStopsRingingForBothAtOnce) {
    for (int i = 0; i < 5000; ++i) {
        ports_.link_a->receiver.arm();
        ports_.link_a->sender.arm_for_room();
        write_to_a();
        ports_.link_b->tell_writer();
        ASSERT_TRUE(rung()) << i;
        ports_.link_a->disarm();
    }
}

}  // namespace
}  // namespace sanpoll::engine::shm
