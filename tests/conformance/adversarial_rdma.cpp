// The adversarial switch reaches into its peers' memory, as it may and as it may not.
#include <algorithm>
#include <cstring>

#include "tests/conformance/adversarial_switch.hpp"

namespace sanpoll::conformance {
namespace {

constexpr std::size_t kMostBlocks = 3;  // of an operation's local memory
constexpr char kNonsense = '\xEE';

/// More numbers for a step than a draw has. They follow from the draw alone.
std::minstd_rand more_of(std::uint32_t choice, std::uint32_t size, std::uint32_t more) {
    return std::minstd_rand(choice * 2654435761U ^ size * 40503U ^ more);
}

std::vector<char> pattern(std::size_t length, std::uint64_t number) {
    std::vector<char> bytes(length);
    fill_pattern(bytes.data(), length, number);
    return bytes;
}

/// The pieces that an operation's local memory consists of.
template <typename Use>
void for_each_block(const Operation& operation, Use use) {
    std::size_t at = 0;
    for (const std::size_t block : operation.rdma->blocks) {
        const std::size_t length = std::min(operation.length - at, Arena::kBlock);
        use(block, at, length);
        at += length;
    }
}

}  // namespace

// ---- operations ---------------------------------------------------------------------------------------

void AdversarialSwitch::do_rdma(const Draw& draw) {
    refresh(draw.slot);
    ModelSocket& socket = sockets_[draw.slot];
    if (failed_ || socket.phase == Phase::kNone) {
        return;
    }
    std::minstd_rand random = more_of(draw.choice, draw.size, draw.more);
    RdmaPost post;
    post.write = random() % 2 != 0;
    if (socket.phase != Phase::kConnected) {
        Operation operation;
        char descriptor[kLongestDescriptor] = {};
        const auto call = post.write ? &Calls::rdma_write : &Calls::rdma_read;
        expect((san_.*call)(socket.s, nullptr, 0, descriptor, sizeof(descriptor), 0, &operation, 0),
               {WSAENOTCONN}, "RDMA without a connection");
        return;
    }
    post.target = pick(socket.connection->exposures[1 - socket.side], true, random());
    if (post.target == nullptr) {
        return;
    }
    if (!post.target->permits(post.write)) {
        post.write = !post.write;
    }
    const Exposure& target = *post.target;
    static constexpr std::size_t kMost[] = {1, 64, 600, Arena::kBlock, kMostBlocks * Arena::kBlock};
    post.descriptor = target.descriptor;
    post.length = random() % (std::min(kMost[random() % 5], target.length) + 1);
    post.offset = random() % (target.length - post.length + 1);
    start_rdma(draw.slot, post);
    if (!failed_ && random() % 40 == 0 && socket.peer != SIZE_MAX) {
        conceal(socket.peer, post.target);  // while it is at work
    }
}

// What only the peer can see: it is refused, and the connection ends.
void AdversarialSwitch::do_doomed_rdma(const Draw& draw) {
    ModelSocket& socket = sockets_[draw.slot];
    if (socket.phase != Phase::kConnected || !socket.stands() || socket.region == nullptr) {
        return;
    }
    std::minstd_rand random = more_of(draw.choice, draw.size, draw.more);
    const Exposures& theirs = socket.connection->exposures[1 - socket.side];
    std::shared_ptr<Exposure> named;  // what it is made for
    RdmaPost post;
    post.doomed = true;
    const std::uint32_t way = random() % 6;
    switch (way) {
        case 0:  // revoked
            named = pick(theirs, false, random());
            break;
        case 1:  // its own
            named = pick(socket.connection->exposures[socket.side], true, random());
            break;
        case 2: {  // another connection's
            const ModelSocket& other = sockets_[draw.other];
            if (other.phase == Phase::kConnected && other.connection != socket.connection) {
                named = pick(other.connection->exposures[random() % 2], true, random());
            }
            break;
        }
        default:  // damaged
            named = pick(theirs, true, random());
    }
    if (named == nullptr) {
        return;
    }
    post.write = named->rights == MEM_READWRITE ? random() % 2 != 0 : named->permits(true);
    post.descriptor = named->descriptor;
    post.offset = random() % named->length;
    post.length = random() % (std::min(named->length - post.offset, Arena::kBlock) + 1);
    if (way == 3) {
        // It would be wrong without the damage, which must not make it right.
        if (named->rights == MEM_READWRITE) {
            post.offset = named->length;
            post.length = 1 + random() % 100;
        } else {
            post.write = !post.write;
        }
        const std::size_t bit = random() % (8 * post.descriptor.size());
        post.descriptor[bit / 8] = static_cast<char>(post.descriptor[bit / 8] ^ (1 << bit % 8));
        post.damaged = true;
    } else if (way > 3) {
        // What names the memory from another descriptor, which does not allow as much.
        const std::shared_ptr<Exposure> less = pick(theirs, true, random());
        if (less->permits(post.write) && post.offset + post.length <= less->length) {
            return;
        }
        std::copy_n(less->descriptor.begin(), less->descriptor.size() / 2, post.descriptor.begin());
        post.damaged = true;
    }
    start_rdma(draw.slot, post);
}

void AdversarialSwitch::start_rdma(std::size_t slot, const RdmaPost& post) {
    ModelSocket& socket = sockets_[slot];
    if (socket.sends.size() >= 10) {
        harvest(slot);
        return;
    }
    auto operation = std::make_unique<Operation>();
    operation->is_send = true;
    operation->notified = post.offset % 2 != 0;
    operation->hEvent = reinterpret_cast<WSAEVENT>(operation->notified ? 0UL : 1UL);
    operation->length = post.length;
    operation->message = next_message_++;
    operation->rdma = std::make_unique<RdmaPart>();
    RdmaPart& part = *operation->rdma;
    part.write = post.write;
    part.exposure = post.target;
    part.offset = post.offset;
    part.doomed = post.doomed || behind_doomed(socket);
    const auto give_back = [&] {
        for (const std::size_t block : part.blocks) {
            socket.arena->give_back(block);
        }
    };
    for (std::size_t n = 0;
         n < std::max<std::size_t>(1, (post.length + Arena::kBlock - 1) / Arena::kBlock); ++n) {
        const std::size_t block = socket.arena->take();
        if (block == Arena::kBlocks) {
            give_back();
            return;
        }
        part.blocks.push_back(block);
    }
    operation->block = part.blocks.front();
    const std::vector<char> data = pattern(post.length, operation->message);
    std::vector<WSABUFEX> buffers;
    for_each_block(*operation, [&](std::size_t block, std::size_t at, std::size_t length) {
        char* const memory = socket.arena->block(block);
        if (post.write) {
            std::copy_n(data.data() + at, length, memory);
        }
        // In two pieces, with an empty one between them.
        const auto first = static_cast<ULONG>(length / 3);
        buffers.push_back({first, memory, socket.region});
        buffers.push_back({static_cast<ULONG>(length) - first, memory + first, socket.region});
    });
    buffers.insert(buffers.begin() + 1, WSABUFEX{0, nullptr, nullptr});
    int code = WSA_IO_PENDING;
    if (socket.region == nullptr && post.length != 0) {
        code = WSAEINVAL;
    }
    std::vector<int> allowed = socket.or_the_end(code);
    if (post.damaged && socket.broken == 0) {
        allowed.insert(allowed.end(), {WSAEINVAL, WSAEFAULT});
    }
    std::vector<char> descriptor = post.descriptor;
    const auto call = post.write ? &Calls::rdma_write : &Calls::rdma_read;
    const int answer = (san_.*call)(socket.s, buffers.data(), static_cast<DWORD>(buffers.size()),
                                    descriptor.data(), descriptor.size(),
                                    static_cast<DWORD>(post.offset), operation.get(), 0);
    const char* what = post.write ? "WSPRdmaWrite" : "WSPRdmaRead";
    const bool expected = expect(answer, allowed, what);
    if (expected && answer != WSA_IO_PENDING) {
        give_back();
        refused(slot, answer);
        return;
    }
    const bool alone = socket.sends.empty();
    Operation& posted = *operation;
    socket.connection->rdma[socket.side].push_back(&posted);
    socket.sends.push_back(std::move(operation));  // whatever it is, it must stay in memory
    if (!failed_ && alone && post.doomed) {
        check(eventually([&] {
                  if (!posted.done()) {
                      (void)san_.overlapped_result(socket.s, &posted, 0);
                  }
                  return posted.done();
              }),
              "RDMA that must be refused does not end");
        harvest(slot);
    }
}

void AdversarialSwitch::do_bad_rdma(const Draw& draw) {
    ModelSocket& socket = sockets_[draw.slot];
    if (socket.phase != Phase::kConnected || socket.region == nullptr) {
        return;
    }
    const std::shared_ptr<Exposure> target =
        pick(socket.connection->exposures[1 - socket.side], true, draw.size);
    if (target == nullptr) {
        return;
    }
    Operation operation;
    char outside[16] = {};
    bool write = target->permits(true);
    std::vector<char> descriptor = target->descriptor;
    WSABUFEX buffer{1, socket.arena->begin(), socket.region};
    std::vector<WSABUFEX> buffers;
    std::size_t offset = 0;
    DWORD flags = 0;
    LPWSAOVERLAPPED overlapped = &operation;
    SOCKET s = socket.s;
    int code = WSAEFAULT;
    switch (draw.choice % 13) {
        case 0:
            if (target->rights == MEM_READWRITE) {
                return;
            }
            write = !write;
            break;
        case 1:
            offset = target->length + draw.more % 1000;  // one byte there, or beyond
            break;
        case 2:
            buffer.len = static_cast<ULONG>(target->length + 1);
            if (buffer.len > socket.arena->size()) {
                return;
            }
            break;
        case 3:
            buffer.buf = outside;
            break;
        case 4:
            buffer = {1, (write ? socket.write_only : socket.read_only)->begin(),
                      write ? socket.write_only_region : socket.read_only_region};
            break;
        case 5:
            buffer.buf = socket.arena->begin() + socket.arena->size();
            break;
        case 6:
            buffer.handle = nullptr;
            code = WSAEINVAL;
            break;
        case 7: {
            const ModelSocket& other = sockets_[draw.other];
            if (draw.other == draw.slot || other.phase != Phase::kConnected ||
                other.region == nullptr) {
                return;
            }
            buffer.handle = other.region;
            code = WSAEINVAL;
            break;
        }
        case 8:
            buffers.resize(500, buffer);
            code = WSAEINVAL;
            break;
        case 9:
            flags = 1;
            code = WSAEINVAL;
            break;
        case 10:
            overlapped = nullptr;
            code = WSAEINVAL;
            break;
        case 11:
            descriptor.resize(draw.more % descriptor.size());
            code = WSAEINVAL;
            break;
        default:
            if (stale_.empty()) {
                return;
            }
            s = stale_[draw.more % stale_.size()];
    }
    if (buffers.empty()) {
        buffers.push_back(buffer);
    }
    const auto call = write ? &Calls::rdma_write : &Calls::rdma_read;
    const int answer =
        (san_.*call)(s, buffers.data(), static_cast<DWORD>(buffers.size()), descriptor.data(),
                     descriptor.size(), static_cast<DWORD>(offset), overlapped, flags);
    if (s != socket.s) {
        expect(answer, {WSAENOTSOCK}, "RDMA with a descriptor that is none");
        expect(san_.deregister_rdma(s, descriptor.data(), descriptor.size()), {WSAENOTSOCK},
               "WSPDeregisterRdmaMemory with a descriptor that is none");
    } else {
        expect(answer, socket.or_the_end(code), write ? "a bad WSPRdmaWrite" : "a bad WSPRdmaRead");
    }
    check(operation.Internal == 0, "refused RDMA says that it is in progress");
}

// ---- results ------------------------------------------------------------------------------------------

bool AdversarialSwitch::behind_doomed(const ModelSocket& socket) {
    const auto& ours = socket.connection->rdma[socket.side];
    return std::any_of(ours.begin(), ours.end(),
                       [](const Operation* operation) { return operation->rdma->doomed; });
}

void AdversarialSwitch::harvest_rdma(ModelSocket& socket, Operation& operation) {
    Connection& connection = *socket.connection;
    RdmaPart& part = *operation.rdma;
    const bool success = operation.error() == 0;
    auto& pending = connection.rdma[socket.side];
    check(!pending.empty() && pending.front() == &operation, "RDMA out of order");
    pending.pop_front();
    check(!success || !part.doomed, "RDMA succeeds that must be refused");
    if (!success && (part.doomed || part.at_risk)) {
        connection.refused[socket.side] = true;
    }
    ExposedMemory& remote = connection.memory[1 - socket.side];
    const std::vector<char> data = part.write ? pattern(operation.length, operation.message)
                                   : success && !failed_
                                       ? remote.expected(part.remote_offset(), operation.length)
                                       : std::vector<char>();
    for_each_block(operation, [&](std::size_t block, std::size_t at, std::size_t length) {
        char* const memory = socket.arena->block(block);
        if (part.write || success) {
            check(data.size() == operation.length &&
                      std::equal(memory, memory + length,
                                 data.begin() + static_cast<std::ptrdiff_t>(at)),
                  part.write ? "an RDMA write has changed its buffer"
                             : "an RDMA read brings something else than was there");
        }
        check(socket.arena->intact(block, length), "RDMA has written beside its buffer");
        std::memset(memory, kNonsense, length);  // who reads it from now on reads nonsense
        if (block != operation.block) {
            socket.arena->give_back(block);
        }
    });
    if (failed_) {
        return;
    }
    if (success) {
        ++rdma_done_;
        if (part.write) {
            remote.written(part.remote_offset(), data);
        }
    } else if (part.write && !part.doomed) {
        remote.given_up(part.remote_offset(), operation.length);
    }
    check_memory(connection);
}

void AdversarialSwitch::check_written_before(ModelSocket& receiver, std::uint64_t message) {
    const Connection& connection = *receiver.connection;
    const ExposedMemory& memory = connection.memory[receiver.side];
    std::vector<char> expected = memory.expected(0, ExposedMemory::kSize);
    std::vector<char> certain(ExposedMemory::kSize);
    for (const Operation* operation : connection.rdma[1 - receiver.side]) {
        if (!operation->rdma->write || operation->rdma->doomed) {
            continue;
        }
        const std::size_t at = operation->rdma->remote_offset();
        const bool before = operation->message < message;
        fill_pattern(expected.data() + at, operation->length, operation->message);
        std::fill_n(certain.data() + at, operation->length, before ? 1 : 0);
    }
    for (std::size_t i = 0; i < ExposedMemory::kSize && !failed_; ++i) {
        check(certain[i] == 0 || *memory.at(i) == expected[i],
              "a message was delivered before what was written before it");
    }
}

}  // namespace sanpoll::conformance
