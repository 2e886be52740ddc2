// A connection over a fake device whose ends have registered and exposed memory.
#pragma once

#include <algorithm>
#include <vector>

#include "engine/fabric/verbs/memory_keys.hpp"
#include "tests/engine/fabric/verbs/two_verbs_ports.hpp"

namespace sanpoll::tests {

/// A device whose work requests hold so much.
inline FakeDevice::Options options_with(int sges, int read_sges, std::uint32_t max_message,
                                        ibv_transport_type transport = IBV_TRANSPORT_IB) {
    FakeDevice::Options options;
    options.max_sges = sges;
    options.max_read_sges = read_sges;
    options.max_message = max_message;
    options.transport = transport;
    return options;
}

class VerbsRdmaFixture : public testing::Test {
protected:
    static constexpr std::size_t kBytes = 4U << 20;
    static constexpr std::uint32_t kBoth = engine::kRead | engine::kWrite;

    void open(const FakeDevice::Options& options = {}) {
        open(options, TwoVerbsPorts::small_config());
    }
    void open(const FakeDevice::Options& options, engine::Config config) {
        near_memory.assign(kBytes, std::byte{0xEE});
        far_memory.assign(kBytes, std::byte{0xEE});
        net = std::make_unique<TwoVerbsPorts>(options, std::move(config));
        client = &net->make_socket();
        server = &net->make_socket();
        ends = net->connect(*client, *server);
        client_region = add_region(*client, *ends.first, near_memory, kBoth);
        server_region = add_region(*server, *ends.second, far_memory, kBoth);
    }
    void TearDown() override { net.reset(); }

    /// As WSPRegisterMemory does.
    static engine::RegionRef add_region(Socket& socket, engine::verbs::Connection& connection,
                                        Bytes& memory, std::uint32_t access) {
        engine::RegionRef ref = 0;
        EXPECT_EQ(socket.regions.add(reinterpret_cast<std::uint64_t>(memory.data()), memory.size(),
                                     access, connection.keys.get(), ref),
                  engine::Status::kOk);
        return ref;
    }
    /// As WSPRegisterRdmaMemory does: a part of an end's memory.
    engine::DeviceKey expose(engine::verbs::Connection& connection, Bytes& memory,
                             std::size_t offset, std::size_t length, std::uint32_t access = kBoth) {
        engine::DeviceKey key;
        EXPECT_EQ(connection.keys->expose(++exposures,
                                          reinterpret_cast<std::uint64_t>(memory.data() + offset),
                                          length, access, key),
                  engine::Status::kOk);
        return key;
    }

    struct Piece {
        std::size_t offset;
        std::uint32_t length;
    };
    [[nodiscard]] engine::Sge near_piece(const Piece& piece) const {
        return {reinterpret_cast<std::uint64_t>(near_memory.data() + piece.offset), piece.length,
                client_region};
    }
    [[nodiscard]] engine::Sge far_piece(const Piece& piece) const {
        return {reinterpret_cast<std::uint64_t>(far_memory.data() + piece.offset), piece.length,
                server_region};
    }

    static Operation& post(Socket& socket, engine::WorkRequest& request) {
        Operation& operation = socket.operations.emplace_back();
        request.context = reinterpret_cast<std::uint64_t>(&operation);
        engine::PollingCore* core = socket.core_slot.load();
        EXPECT_EQ(core->post(request, socket.gate, socket.generation, socket.slot),
                  engine::Status::kOk);
        return operation;
    }
    Operation& rdma(engine::Opcode opcode, const std::vector<Piece>& pieces,
                    const engine::DeviceKey& target, std::uint32_t offset = 0) {
        engine::WorkRequest request{};
        request.opcode = opcode;
        engine::set_remote(request, {target.address, target.key, offset});
        request.sge_count = static_cast<std::uint8_t>(engine::kRemoteSges + pieces.size());
        for (std::uint32_t i = 0; i < pieces.size(); ++i) {
            request.piece(engine::kRemoteSges + i) = near_piece(pieces[i]);
            request.length += pieces[i].length;
        }
        return post(*client, request);
    }
    Operation& write(const std::vector<Piece>& pieces, const engine::DeviceKey& target,
                     std::uint32_t offset = 0) {
        return rdma(engine::Opcode::kRdmaWrite, pieces, target, offset);
    }
    Operation& read(const std::vector<Piece>& pieces, const engine::DeviceKey& target,
                    std::uint32_t offset = 0) {
        return rdma(engine::Opcode::kRdmaRead, pieces, target, offset);
    }
    /// From and into registered memory.
    Operation& message(engine::Opcode opcode, const std::vector<engine::Sge>& pieces) {
        engine::WorkRequest request{};
        request.opcode = opcode;
        for (const engine::Sge& piece : pieces) {
            request.piece(request.sge_count++) = piece;
            request.length += piece.length;
        }
        return post(opcode == engine::Opcode::kSend ? *client : *server, request);
    }

    static void fill(Bytes& memory, std::size_t offset, std::size_t length, std::uint64_t number) {
        const Bytes bytes = message_of(number, length);
        std::copy(bytes.begin(), bytes.end(), memory.begin() + static_cast<std::ptrdiff_t>(offset));
    }
    [[nodiscard]] static bool holds(const Bytes& memory, std::size_t offset, std::size_t length,
                                    std::uint64_t number) {
        const Bytes bytes = message_of(number, length);
        return std::equal(bytes.begin(), bytes.end(),
                          memory.begin() + static_cast<std::ptrdiff_t>(offset));
    }
    /// Nothing outside [offset, offset + length) has been written.
    [[nodiscard]] static bool untouched_around(const Bytes& memory, std::size_t offset,
                                               std::size_t length) {
        const auto fresh = [](std::byte byte) { return byte == std::byte{0xEE}; };
        const auto at = memory.begin() + static_cast<std::ptrdiff_t>(offset);
        return std::all_of(memory.begin(), at, fresh) &&
               std::all_of(at + static_cast<std::ptrdiff_t>(length), memory.end(), fresh);
    }
    [[nodiscard]] const engine::verbs::VerbsCounters& counters() const {
        return net->a.port.counters();
    }

    Bytes near_memory;  // the client's
    Bytes far_memory;   // the server's
    std::unique_ptr<TwoVerbsPorts> net;
    Socket* client = nullptr;
    Socket* server = nullptr;
    TwoVerbsPorts::Ends ends{};
    engine::RegionRef client_region = 0;
    engine::RegionRef server_region = 0;
    std::uint32_t exposures = 0;
};

}  // namespace sanpoll::tests
