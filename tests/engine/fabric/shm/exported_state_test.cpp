// What one process writes for the next is read back whole, and garbage is told from it.
#include "engine/fabric/shm/exported_state.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <random>

#include "tests/engine/fabric/shm/two_ports.hpp"

namespace sanpoll::engine::shm {
namespace {

using tests::Bytes;
using tests::message_of;

ExportedState example() {
    ExportedState state;
    state.engine_id[0] = 1;
    state.engine_id[1] = 2;
    state.engine_port = 3;
    state.secret[0] = 4;
    state.secret[1] = 5;
    state.frozen.counts = {6, 7};
    state.frozen.credit = 8;
    state.frozen.early = {message_of(1, 0), message_of(2, 284), message_of(3, kMaxEarly)};
    state.passenger = message_of(4, 100);
    return state;
}

Bytes content_of(const Descriptor& file) {
    Bytes bytes(1 << 20);
    const ssize_t got = ::pread(file.get(), bytes.data(), bytes.size(), 0);
    EXPECT_GT(got, 0);
    bytes.resize(static_cast<std::size_t>(got));
    return bytes;
}

Descriptor file_with(const Bytes& bytes) {
    Descriptor file(::memfd_create("test", MFD_CLOEXEC));
    EXPECT_EQ(::write(file.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    return file;
}

TEST(ExportedState, IsReadAsItWasWritten) {
    const ExportedState state = example();
    const Descriptor file = write_state(state);
    ASSERT_TRUE(file);
    ExportedState read;
    ASSERT_TRUE(read_state(file.get(), read));
    EXPECT_FALSE(read.listening);
    EXPECT_EQ(read.engine_id[1], 2U);
    EXPECT_EQ(read.engine_port, 3U);
    EXPECT_EQ(read.secret[0], 4U);
    EXPECT_EQ(read.secret[1], 5U);
    EXPECT_EQ(read.frozen.counts.sent, 6U);
    EXPECT_EQ(read.frozen.counts.arrived, 7U);
    EXPECT_EQ(read.frozen.credit, 8U);
    EXPECT_EQ(read.frozen.granted(), 4U) << "three of the seven have had no receive yet";
    EXPECT_EQ(read.frozen.early, state.frozen.early);
    EXPECT_EQ(read.passenger, state.passenger);
}

TEST(ExportedState, EveryShorterFileAndALongerOneAreRefused) {
    ExportedState state = example();
    state.frozen.early = {message_of(1, 5), message_of(2, 30)};
    Bytes bytes = content_of(write_state(state));
    ExportedState read;
    for (std::size_t length = 0; length < bytes.size(); ++length) {
        const Bytes part(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(length));
        EXPECT_FALSE(read_state(file_with(part).get(), read)) << length;
    }
    bytes.push_back(std::byte{0});
    EXPECT_FALSE(read_state(file_with(bytes).get(), read));
}

TEST(ExportedState, WhatIsNoFileIsRefused) {
    ExportedState read;
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    EXPECT_FALSE(read_state(ends[0], read));
    EXPECT_FALSE(read_state(-1, read));
    ::close(ends[0]);
    ::close(ends[1]);
}

TEST(ExportedState, SpoiledFilesDoNoHarm) {
    const Bytes bytes = content_of(write_state(example()));
    std::mt19937 random(7);
    for (int i = 0; i < 2000; ++i) {
        Bytes spoiled(bytes.begin(), bytes.begin() + 600);
        for (int change = 0; change < 4; ++change) {
            spoiled[random() % 100] = static_cast<std::byte>(random());
        }
        ExportedState read;
        if (read_state(file_with(spoiled).get(), read)) {
            EXPECT_LE(read.frozen.early.size(), spoiled.size());
        }
    }
}

}  // namespace
}  // namespace sanpoll::engine::shm
