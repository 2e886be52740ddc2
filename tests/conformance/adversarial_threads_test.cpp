// Random calls of several threads on the same sockets. Which answer comes depends on who was first, so each
// call has a set of answers; what must hold in every order is checked exactly: one completion an operation,
// whole messages, each at most once and in the order of their senders, nothing beside the buffers, and in
// exposed memory what was written there last. Each thread has a part of every end's exposed memory.
#include <array>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <random>

#include "tests/conformance/adversarial_model.hpp"

namespace sanpoll::conformance {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t kSteps = 4'000;
#else
constexpr std::uint64_t kSteps = 100'000;
#endif

constexpr std::size_t kPairs = 3;
constexpr std::size_t kThreads = 4;
constexpr std::size_t kBlocks = 8;  // of a thread at an end
constexpr std::size_t kBlock = 1024;
constexpr std::size_t kCanary = 64;
constexpr std::size_t kStride = kBlock + 2 * kCanary;
constexpr std::size_t kEndBytes = kThreads * kBlocks * kStride;
constexpr char kCanaryByte = '\x5C';

struct Header {
    std::uint64_t number;
    std::uint32_t thread;
    std::uint32_t generation;  // of the pair
    std::uint32_t end;         // 0 or 1, the sender's
    std::uint32_t length;
};

struct SharedEnd {
    std::atomic<SOCKET> s{INVALID_SOCKET};
    std::atomic<HANDLE> region{nullptr};  // of `memory`; never older than `s`, read in that order
    std::vector<char> memory = std::vector<char>(kEndBytes, kCanaryByte);
    std::vector<char> exposed = std::vector<char>(kThreads * kBlock);
    std::mutex mutex;
    std::vector<char> descriptor;  // of `exposed`; never older than `s`, read in that order
};

struct SharedPair {
    SharedEnd ends[2];
    std::atomic<int> open{0};
    std::atomic<std::uint32_t> generation{0};
};

class AdversarialThreadsTest : public ConformanceTest,
                               public testing::WithParamInterface<std::uint64_t> {
protected:
    struct Posted {
        Operation operation;
        std::size_t pair = 0;
        std::size_t end = 0;
        SOCKET s = INVALID_SOCKET;
        bool reads =
            false;  // by RDMA, and `operation.message` is what was written there; 0: nothing
    };
    // What one thread owns.
    struct Worker {
        std::size_t index = 0;
        std::mt19937_64 random;
        std::deque<std::unique_ptr<Posted>> posted;
        bool used[kPairs][2][kBlocks] = {};
        // What was written last by RDMA, on which socket.
        std::pair<SOCKET, std::uint64_t> written[kPairs][2] = {};
        // Number of the last message by generation, sender's end and sender, at each pair.
        std::map<std::array<std::uint64_t, 4>, std::uint64_t> last;
    };

    void make(SharedPair& pair);
    void step(Worker& me);
    void post(Worker& me, std::size_t pair, std::size_t end);
    [[nodiscard]] int post_rdma(Worker& me, Posted& posted, char* at);
    void close(SharedPair& pair, std::size_t end);
    void collect(Worker& me, bool all);
    void judge(Worker& me, Posted& posted);
    void look(Worker& me, SOCKET s);
    void expect(int answer, std::initializer_list<int> allowed, const char* what) {
        if (std::find(allowed.begin(), allowed.end(), answer) == allowed.end()) {
            fail(std::string(what) + " answers " + std::to_string(answer));
        }
    }
    void fail(const std::string& what) {
        if (!failed.exchange(true)) {
            ADD_FAILURE() << "seed " << seed << " (SANPOLL_ADVERSARIAL_SEED): " << what;
        }
    }

    static char* block(SharedEnd& end, std::size_t thread, std::size_t index) {
        return end.memory.data() + (thread * kBlocks + index) * kStride + kCanary;
    }

    std::uint64_t seed = 0;
    std::array<SharedPair, kPairs> pairs;
    std::atomic<bool> failed{false};
    std::atomic<std::uint64_t> next_message{1};
    std::vector<std::atomic<char>> seen = std::vector<std::atomic<char>>(kThreads * kSteps + 1);
    std::atomic<std::uint64_t> delivered{0};
    std::atomic<std::uint64_t> reached{0};  // by RDMA
};

void AdversarialThreadsTest::make(SharedPair& pair) {
    Pair made = connected(64);
    ++pair.generation;
    pair.open = 2;
    End* const ends[] = {&made.client, &made.server};
    for (std::size_t i = 0; i < 2; ++i) {
        int error = 0;
        pair.ends[i].region = san.register_memory(ends[i]->s, pair.ends[i].memory.data(), kEndBytes,
                                                  MEM_READWRITE, &error);
        expect(error, {0}, "WSPRegisterMemory of a new connection");
        SharedEnd& end = pair.ends[i];
        std::fill(end.exposed.begin(), end.exposed.end(), '\0');
        std::vector<char> descriptor(64);
        auto size = static_cast<DWORD>(descriptor.size());
        expect(san.register_rdma(ends[i]->s, end.exposed.data(), end.exposed.size(), MEM_READWRITE,
                                 descriptor.data(), &size),
               {0}, "WSPRegisterRdmaMemory of a new connection");
        descriptor.resize(size);
        const std::lock_guard lock(end.mutex);
        end.descriptor = std::move(descriptor);
    }
    for (std::size_t i = 0; i < 2; ++i) {
        pair.ends[i].s = ends[i]->s;  // from here on the others use it
    }
}

void AdversarialThreadsTest::step(Worker& me) {
    const std::size_t which = me.random() % kPairs;
    const std::size_t end = me.random() % 2;
    SharedPair& pair = pairs[which];
    switch (me.random() % 40) {
        case 0:
            if (me.random() % 8 == 0) {
                close(pair, end);
            }
            break;
        case 1:
        case 2:
        case 3:
            look(me, pair.ends[end].s);
            break;
        case 4:
        case 5:
        case 6:
            if (!me.posted.empty()) {
                Posted& posted = *me.posted[me.random() % me.posted.size()];
                const int error = san.overlapped_result(posted.s, &posted.operation, 0).error;
                expect(error,
                       {0, WSA_IO_INCOMPLETE, WSAENOTSOCK, WSAECONNRESET, WSA_OPERATION_ABORTED,
                        WSAEMSGSIZE},
                       "WSPGetOverlappedResult");
            }
            break;
        default:
            post(me, which, end);
    }
    collect(me, false);
}

void AdversarialThreadsTest::look(Worker& me, SOCKET s) {
    char byte = 0;
    int error = 0;
    WSANETWORKEVENTS events{};
    Operation operation;
    switch (me.random() % 10) {
        case 0:
            expect(san.bind(s, fresh_address()), {WSAEINVAL, WSAENOTSOCK}, "WSPBind");
            break;
        case 1:
            expect(san.listen(s, 5), {WSAEISCONN, WSAEINVAL, WSAENOTSOCK}, "WSPListen");
            break;
        case 2:
            expect(san.connect(s, fresh_address()), {WSAEISCONN, WSAEINVAL, WSAENOTSOCK},
                   "WSPConnect");
            break;
        case 3:
            (void)san.accept(s, &error);
            expect(error, {WSAEINVAL, WSAENOTSOCK}, "WSPAccept");
            break;
        case 4:
            expect(san.event_select(s, upcalls.create_event(), FD_ACCEPT), {0, WSAENOTSOCK},
                   "WSPEventSelect");
            break;
        case 5:
            expect(san.enum_events(s, nullptr, &events), {0, WSAENOTSOCK}, "WSPEnumNetworkEvents");
            break;
        case 6: {
            std::vector<char> memory(100);
            HANDLE handle = san.register_memory(s, memory.data(), memory.size(), MEM_READ, &error);
            expect(error, {0, WSAENOTCONN, WSAENOTSOCK}, "WSPRegisterMemory");
            if (error == 0) {
                expect(san.deregister_memory(s, handle), {0, WSAENOTSOCK}, "WSPDeregisterMemory");
            }
            break;
        }
        case 7: {
            std::vector<char> memory(100);
            char descriptor[64];
            DWORD size = sizeof(descriptor);
            error = san.register_rdma(s, memory.data(), memory.size(), MEM_READ, descriptor, &size);
            expect(error, {0, WSAENOTCONN, WSAENOTSOCK}, "WSPRegisterRdmaMemory");
            if (error == 0) {
                expect(san.deregister_rdma(s, descriptor, size), {0, WSAEINVAL, WSAENOTSOCK},
                       "WSPDeregisterRdmaMemory");
            }
            break;
        }
        case 8:
            expect(san.send(s, &byte, 1, &operation), {WSAEFAULT, WSAECONNRESET, WSAENOTSOCK},
                   "WSPSend of memory that is not registered");
            break;
        default:
            expect(san.deregister_memory(s, this), {WSAEINVAL, WSAENOTSOCK},
                   "WSPDeregisterMemory of nothing");
    }
}

void AdversarialThreadsTest::post(Worker& me, std::size_t which, std::size_t end) {
    std::size_t index = 0;
    while (index < kBlocks && me.used[which][end][index]) {
        ++index;
    }
    if (index == kBlocks) {
        return;
    }
    SharedPair& pair = pairs[which];
    auto posted = std::make_unique<Posted>();
    Operation& operation = posted->operation;
    posted->pair = which;
    posted->end = end;
    operation.block = index;
    const std::uint64_t kind = me.random() % 6;
    operation.is_send = kind % 2 != 0 || kind == 4;
    operation.notified = me.random() % 2 != 0;
    operation.hEvent = reinterpret_cast<WSAEVENT>(operation.notified ? 0UL : 1UL);
    char* const at = block(pair.ends[end], me.index, index);
    std::memset(at - kCanary, kCanaryByte, kStride);
    operation.length = kBlock;
    // The generation first: with a newer descriptor the message says too old a one, and never the reverse.
    const std::uint32_t generation = pair.generation;
    const SOCKET s = pair.ends[end].s;
    posted->s = s;
    const bool rdma = kind > 3;
    if (operation.is_send && !rdma) {
        operation.length = sizeof(Header) + me.random() % (kBlock - sizeof(Header));
        operation.message = next_message++;
        const Header header{operation.message, static_cast<std::uint32_t>(me.index), generation,
                            static_cast<std::uint32_t>(end),
                            static_cast<std::uint32_t>(operation.length)};
        fill_pattern(at, operation.length, operation.message);
        std::memcpy(at, &header, sizeof(header));
    }
    const int answer = rdma                ? post_rdma(me, *posted, at)
                       : operation.is_send ? san.send(s, at, operation.length, &operation)
                                           : san.recv(s, at, operation.length, &operation);
    expect(answer, {WSA_IO_PENDING, WSAENOTSOCK, WSAECONNRESET, WSAEWOULDBLOCK},
           rdma                ? "RDMA"
           : operation.is_send ? "WSPSend"
                               : "WSPRecv");
    if (answer == WSA_IO_PENDING) {
        me.used[which][end][index] = true;
        me.posted.push_back(std::move(posted));
    }
}

// A write of this thread's part of the peer's memory, or a read of what it wrote there last.
int AdversarialThreadsTest::post_rdma(Worker& me, Posted& posted, char* at) {
    SharedPair& pair = pairs[posted.pair];
    SharedEnd& target = pair.ends[1 - posted.end];
    Operation& operation = posted.operation;
    auto& written = me.written[posted.pair][posted.end];
    if (written.first != posted.s) {
        written = {posted.s, 0};
    }
    std::vector<char> descriptor;
    {
        const std::lock_guard lock(target.mutex);
        descriptor = target.descriptor;
    }
    WSABUFEX buffer{kBlock, at, pair.ends[posted.end].region};
    const auto offset = static_cast<DWORD>(me.index * kBlock);
    posted.reads = me.random() % 2 != 0;
    if (posted.reads) {
        operation.message = written.second;
        return san.rdma_read(posted.s, &buffer, 1, descriptor.data(), descriptor.size(), offset,
                             &operation);
    }
    operation.message = next_message++;
    operation.rdma = std::make_unique<RdmaPart>();
    fill_pattern(at, kBlock, operation.message);
    const int answer = san.rdma_write(posted.s, &buffer, 1, descriptor.data(), descriptor.size(),
                                      offset, &operation);
    if (answer == WSA_IO_PENDING) {
        written.second = operation.message;
    }
    return answer;
}

void AdversarialThreadsTest::close(SharedPair& pair, std::size_t end) {
    const SOCKET s = pair.ends[end].s;
    const int answer = san.close(s);
    expect(answer, {0, WSAENOTSOCK}, "WSPCloseSocket");
    if (answer != 0) {
        return;
    }
    expect(san.close(s), {WSAENOTSOCK}, "a second WSPCloseSocket");
    if (pair.open.fetch_sub(1) == 1) {  // both are: the last one to close makes them anew
        make(pair);
    }
}

void AdversarialThreadsTest::collect(Worker& me, bool all) {
    for (std::size_t i = 0; i < me.posted.size() && !failed;) {
        Posted& posted = *me.posted[i];
        if (all && !eventually([&] { return posted.operation.done(); })) {
            fail("an operation does not complete although its socket is closed");
        }
        // Receives are filled in the order of posting, but what is told by upcall is seen later.
        const auto before = me.posted.begin() + static_cast<std::ptrdiff_t>(i);
        if (!posted.operation.done() ||
            std::any_of(me.posted.begin(), before, [&](const std::unique_ptr<Posted>& earlier) {
                return earlier->s == posted.s &&
                       earlier->operation.is_send == posted.operation.is_send;
            })) {
            ++i;
            continue;
        }
        judge(me, posted);
        me.used[posted.pair][posted.end][posted.operation.block] = false;
        me.posted.erase(me.posted.begin() + static_cast<std::ptrdiff_t>(i));
    }
}

void AdversarialThreadsTest::judge(Worker& me, Posted& posted) {
    Operation& operation = posted.operation;
    const int error = operation.error();
    if (operation.upcalls != (operation.notified ? 1 : 0)) {
        fail("a completion too many");
    }
    expect(error, {0, WSAECONNRESET, WSA_OPERATION_ABORTED}, "a completion");
    char* const at = block(pairs[posted.pair].ends[posted.end], me.index, operation.block);
    const std::size_t used = operation.is_send ? operation.length : kBlock;
    for (std::size_t i = 0; i < kCanary; ++i) {
        if (at[static_cast<std::ptrdiff_t>(i) - static_cast<std::ptrdiff_t>(kCanary)] !=
                kCanaryByte ||
            at[used + i] != kCanaryByte) {
            fail("bytes were written beside a buffer");
            return;
        }
    }
    if (error != 0) {
        return;
    }
    if (posted.reads || operation.rdma != nullptr) {
        const bool untouched = operation.message == 0;  // it was nothing but zeros
        if (operation.bytes() != kBlock ||
            (untouched ? std::any_of(at, at + kBlock, [](char c) { return c != 0; })
                       : !has_pattern(at, kBlock, operation.message))) {
            fail(posted.reads ? "RDMA reads something else than was written"
                              : "an RDMA write has changed its buffer");
        }
        ++reached;
        return;
    }
    Header header;
    std::memcpy(&header, at, sizeof(header));
    if (operation.is_send) {
        if (header.number != operation.message || operation.bytes() != operation.length) {
            fail("a send has changed its buffer or its length");
        }
        return;
    }
    std::vector<char> expected(std::min<std::size_t>(header.length, kBlock));
    fill_pattern(expected.data(), expected.size(), header.number);
    if (operation.bytes() != header.length || header.length < sizeof(header) ||
        std::memcmp(at + sizeof(header), expected.data() + sizeof(header),
                    expected.size() - sizeof(header)) != 0) {
        fail("a message is not whole");
        return;
    }
    if (header.end == posted.end) {
        fail("a message came back to its sender");
    }
    if (header.number >= seen.size() || seen[header.number].exchange(1) != 0) {
        fail("a message came twice");
    }
    ++delivered;
    // Messages of one sender to receives of one thread: both in order.
    std::uint64_t& last = me.last[{posted.pair, posted.s, header.end, header.thread}];
    if (header.number <= last) {
        fail("messages out of order");
    }
    last = header.number;
}

// [R18.1 P7 P8 R10.8 R12.6 R15.4 P6 R7.6 F.WSPRdma.3]
TEST_P(AdversarialThreadsTest, WhateverTheOrderNothingIsLostDoubledOrMixedUp) {
    seed = GetParam();
    if (const char* text = std::getenv("SANPOLL_ADVERSARIAL_SEED")) {
        seed = std::strtoull(text, nullptr, 0);
    }
    std::uint64_t steps = kSteps;
    if (const char* text = std::getenv("SANPOLL_ADVERSARIAL_STEPS")) {
        steps = std::min<std::uint64_t>(std::strtoull(text, nullptr, 0), kSteps);
    }
    const ActionScope acting = upcalls.on_complete([](const Upcall& call) {
        auto* operation = static_cast<Operation*>(call.overlapped);
        operation->upcall_error = call.error;
        operation->upcall_bytes = call.bytes;
        operation->upcalls.fetch_add(1, std::memory_order_release);
    });
    for (SharedPair& pair : pairs) {
        make(pair);
    }
    std::vector<Worker> workers(kThreads);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < kThreads; ++i) {
        workers[i].index = i;
        workers[i].random.seed(seed * 1000 + i);
        threads.emplace_back([this, steps, &me = workers[i]] {
            for (std::uint64_t step_count = 0; step_count < steps && !failed; ++step_count) {
                step(me);
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    for (SharedPair& pair : pairs) {
        for (SharedEnd& end : pair.ends) {
            const int answer = san.close(end.s);
            EXPECT_TRUE(answer == 0 || answer == WSAENOTSOCK) << answer;
        }
    }
    for (Worker& worker : workers) {
        collect(worker, true);
    }
    EXPECT_TRUE(failed || delivered > 100) << "they hardly talk: " << delivered;
    EXPECT_TRUE(failed || reached > 100) << "they hardly reach each other's memory: " << reached;
    if (failed) {
        stop();  // before the operations that may be pending go
    }
}

INSTANTIATE_TEST_SUITE_P(Seeds, AdversarialThreadsTest, testing::Values(11, 12));

}  // namespace
}  // namespace sanpoll::conformance
