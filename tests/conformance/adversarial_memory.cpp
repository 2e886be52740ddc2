// The adversarial switch exposes memory to its peers, and takes it back.
#include <algorithm>

#include "tests/conformance/adversarial_switch.hpp"

namespace sanpoll::conformance {
namespace {

constexpr std::size_t kMostLive = 6;   // exposures of an end
constexpr std::size_t kMostKept = 16;  // with those that were revoked

}  // namespace

// ---- exposing -----------------------------------------------------------------------------------------

void AdversarialSwitch::do_expose(const Draw& draw) {
    refresh(draw.slot);
    ModelSocket& socket = sockets_[draw.slot];
    if (failed_ || socket.phase == Phase::kNone) {
        return;
    }
    char block[kLongestDescriptor] = {};
    DWORD size = sizeof(block);
    if (socket.phase != Phase::kConnected) {
        expect(san_.register_rdma(socket.s, this, 8, MEM_READ, block, &size), {WSAENOTCONN},
               "WSPRegisterRdmaMemory without a connection");
        return;
    }
    harvest(draw.slot);
    Connection& connection = *socket.connection;
    Exposures& ours = connection.exposures[socket.side];
    const auto live = std::count_if(ours.begin(), ours.end(),
                                    [](const auto& one) { return one->registrations != 0; });
    if (failed_ || static_cast<std::size_t>(live) >= kMostLive) {
        return;
    }
    static constexpr DWORD kRights[] = {MEM_READ, MEM_WRITE, MEM_READWRITE, MEM_READWRITE};
    auto exposure = std::make_shared<Exposure>();
    exposure->offset = draw.size % ExposedMemory::kSize;
    exposure->length = 1 + draw.more % (ExposedMemory::kSize - exposure->offset);
    exposure->rights = kRights[draw.choice % 4];
    ExposedMemory& memory = connection.memory[socket.side];
    const int answer = san_.register_rdma(socket.s, memory.at(exposure->offset), exposure->length,
                                          exposure->rights, block, &size);
    if (!expect(answer, socket.or_not_connected(0), "WSPRegisterRdmaMemory") || answer != 0) {
        return;
    }
    check(size <= sizeof(block), "a descriptor that is longer than its block");
    exposure->descriptor.assign(block, block + size);
    memory.thaw(exposure->offset, exposure->length);
    if (socket.stands() && connection.rdma[1 - socket.side].empty()) {
        memory.fill(exposure->offset, exposure->length, next_message_++);
    }
    const auto same = std::find_if(ours.begin(), ours.end(), [&](const auto& one) {
        return one->descriptor == exposure->descriptor;
    });
    if (same == ours.end()) {
        ours.push_back(std::move(exposure));
    } else {
        check((*same)->registrations != 0, "a descriptor comes to life again");
        check((*same)->offset == exposure->offset && (*same)->length == exposure->length &&
                  (*same)->rights == exposure->rights,
              "one descriptor for two pieces of memory");
        ++(*same)->registrations;
    }
    if (ours.size() > kMostKept) {
        const auto revoked = std::find_if(ours.begin(), ours.end(),
                                          [](const auto& one) { return one->registrations == 0; });
        ours.erase(revoked);
    }
}

void AdversarialSwitch::do_bad_expose(const Draw& draw) {
    ModelSocket& socket = sockets_[draw.slot];
    if (socket.phase != Phase::kConnected) {
        return;
    }
    char block[kLongestDescriptor] = {};
    DWORD size = sizeof(block);
    char* const memory = socket.connection->memory[socket.side].at(0);
    const auto answers = [&](int code) {
        std::vector<int> allowed = socket.or_not_connected(code);
        allowed.push_back(code);  // the order of the checks is the provider's affair
        return allowed;
    };
    switch (draw.choice % 4) {
        case 0:
            size = draw.size % 8;
            expect(san_.register_rdma(socket.s, memory, 8, MEM_READ, block, &size), {WSAEFAULT},
                   "WSPRegisterRdmaMemory without room");
            check(size > 8 && size <= sizeof(block), "the size of a descriptor is not told");
            break;
        case 1:
            expect(san_.register_rdma(socket.s, memory, 8, draw.size * 4, block, &size),
                   answers(WSAEINVAL), "WSPRegisterRdmaMemory with bad rights");
            break;
        case 2:
            expect(san_.register_rdma(socket.s, nullptr, 8, MEM_READ, block, &size),
                   answers(WSAEFAULT), "WSPRegisterRdmaMemory of nothing");
            break;
        default:
            expect(san_.register_rdma(socket.s, memory, 0, MEM_READ, block, &size),
                   answers(WSAEFAULT), "WSPRegisterRdmaMemory of 0 bytes");
    }
    check(std::all_of(block, block + sizeof(block), [](char c) { return c == 0; }),
          "a failed WSPRegisterRdmaMemory has written");
}

// ---- concealing ---------------------------------------------------------------------------------------

void AdversarialSwitch::do_conceal(const Draw& draw) {
    refresh(draw.slot);
    ModelSocket& socket = sockets_[draw.slot];
    if (failed_ || socket.phase == Phase::kNone) {
        return;
    }
    char block[kLongestDescriptor] = {};
    if (socket.phase != Phase::kConnected) {
        expect(san_.deregister_rdma(socket.s, block, sizeof(block)), {WSAEINVAL},
               "WSPDeregisterRdmaMemory without a connection");
        return;
    }
    Connection& connection = *socket.connection;
    const bool live = draw.choice % 8 != 0;
    const std::shared_ptr<Exposure> exposure =
        pick(connection.exposures[socket.side], live, draw.size);
    if (exposure == nullptr) {
        return;
    }
    std::vector<char> descriptor = exposure->descriptor;
    if (!live) {
        expect(san_.deregister_rdma(socket.s, descriptor.data(), descriptor.size()), {WSAEINVAL},
               "WSPDeregisterRdmaMemory of what is revoked");
        return;
    }
    if (draw.choice % 8 == 1) {
        ModelSocket& other = sockets_[draw.other];
        if (draw.other != draw.slot && other.phase == Phase::kConnected) {
            expect(san_.deregister_rdma(other.s, descriptor.data(), descriptor.size()), {WSAEINVAL},
                   "WSPDeregisterRdmaMemory on another socket");
        }
        expect(san_.deregister_rdma(socket.s, descriptor.data(), descriptor.size() - 1),
               {WSAEINVAL}, "WSPDeregisterRdmaMemory of a piece of a descriptor");
        return;
    }
    if (socket.peer != SIZE_MAX) {
        harvest(socket.peer);
    }
    conceal(draw.slot, exposure);
}

void AdversarialSwitch::conceal(std::size_t slot, const std::shared_ptr<Exposure>& exposure) {
    ModelSocket& socket = sockets_[slot];
    Connection& connection = *socket.connection;
    const auto& theirs = connection.rdma[1 - socket.side];
    const bool in_use = std::any_of(theirs.begin(), theirs.end(), [&](const Operation* operation) {
        return operation->rdma->exposure == exposure;
    });
    std::vector<char> descriptor = exposure->descriptor;  // a copy is as good
    const auto call = [&] {
        return san_.deregister_rdma(socket.s, descriptor.data(), descriptor.size());
    };
    int answer = call();
    if (answer == WSAEINVAL && !in_use && socket.stands()) {
        // The operation has ended for its initiator; that it has is on its way to here.
        check(eventually([&] { return (answer = call()) != WSAEINVAL; }),
              "memory stays in use after the operation has ended");
    }
    const std::vector<int> allowed =
        socket.broken != 0 ? std::vector<int>{0} : std::vector<int>{0, WSAEINVAL};
    if (!expect(answer, allowed, "WSPDeregisterRdmaMemory") || answer != 0) {
        return;
    }
    if (--exposure->registrations == 0) {
        revoke(connection, socket.side, *exposure);
        check_memory(connection);
    }
}

// Not one byte more from here on, except where other descriptors lead.
void AdversarialSwitch::revoke(Connection& connection, int owner, Exposure& exposure) {
    exposure.registrations = 0;
    for (Operation* operation : connection.rdma[1 - owner]) {
        if (operation->rdma->exposure.get() == &exposure) {
            operation->rdma->at_risk = true;
        }
    }
    ExposedMemory& memory = connection.memory[owner];
    for (std::size_t i = exposure.offset; i < exposure.offset + exposure.length; ++i) {
        const Exposures& all = connection.exposures[owner];
        if (std::none_of(all.begin(), all.end(), [i](const auto& one) {
                return one->registrations != 0 && i - one->offset < one->length;
            })) {
            memory.freeze(i, 1);
        }
    }
}

void AdversarialSwitch::conceal_all(ModelSocket& socket) {
    Connection& connection = *socket.connection;
    for (const std::shared_ptr<Exposure>& exposure : connection.exposures[socket.side]) {
        exposure->registrations = 0;
    }
    connection.memory[socket.side].freeze(0, ExposedMemory::kSize);
    check_memory(connection);
}

void AdversarialSwitch::check_memory(const Connection& connection) {
    for (const int owner : {0, 1}) {
        if (const char* fault = connection.memory[owner].fault(connection.being_written(owner))) {
            fail(fault);
        }
    }
}

}  // namespace sanpoll::conformance
