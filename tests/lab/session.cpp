#include "tests/lab/session.hpp"

#include <array>
#include <stdexcept>
#include <thread>

#include "tests/system/san.hpp"

namespace sanpoll::lab {
namespace {

using system_test::kPolled;

// Turns the core and gives the processor away, which the kernel's part of a soft device needs; sleeps when
// nothing comes for long.
template <class Done>
bool wait_until(Done&& done) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    for (std::uint32_t turn = 0; !done(); ++turn) {
        if (turn < 2000) {
            std::this_thread::yield();
            continue;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        if (std::chrono::steady_clock::now() > deadline) {
            return false;
        }
    }
    return true;
}

}  // namespace

Session::Session(const sanpoll_switch::Provider& provider, bench::SanSocket socket)
    : provider_(provider),
      memory_(std::size_t{2} * kOutstanding * kLongest),
      rdma_(kRdmaBytes),
      socket_(std::move(socket)) {
    char* next = memory_.data();
    for (Ring* ring : {&receives_, &sends_}) {
        for (Operation& operation : ring->operations) {
            operation.memory = next;
            next += kLongest;
        }
    }
    const SOCKET s = socket_.descriptor();
    try {
        (void)system_test::register_memory(provider_, s, memory_.data(), memory_.size(),
                                           MEM_READWRITE);
        rdma_region_ =
            system_test::register_memory(provider_, s, rdma_.data(), rdma_.size(), MEM_READWRITE);
    } catch (const std::runtime_error& fault) {
        throw std::runtime_error(std::string("registering memory: ") + fault.what());
    }
    for (std::uint32_t i = 0; i < kOutstanding; ++i) {
        post_receive();
    }
}

void Session::post_receive() {
    Operation& operation =
        receives_.operations[(receives_.first + receives_.pending) % kOutstanding];
    operation.overlapped = {};
    operation.overlapped.hEvent = kPolled;
    WSABUF buffer{kLongest, operation.memory};
    if (const int error = system_test::post_receive(provider_, socket_.descriptor(), &buffer, 1,
                                                    &operation.overlapped);
        error != 0) {
        throw Ended{error};
    }
    ++receives_.pending;
}

std::uint32_t Session::wait(WSAOVERLAPPED& overlapped) {
    std::optional<system_test::Result> result;
    if (!wait_until([&] {
            result = system_test::result_of(provider_, socket_.descriptor(), &overlapped);
            return result.has_value();
        })) {
        throw std::runtime_error("an operation does not end");
    }
    if (result->error != 0) {
        throw Ended{result->error};
    }
    return result->bytes;
}

std::uint32_t Session::finish_first(Ring& ring) {
    WSAOVERLAPPED& overlapped = ring.operations[ring.first].overlapped;
    const auto taken = [&] {
        ring.first = (ring.first + 1) % kOutstanding;
        --ring.pending;
    };
    try {
        const std::uint32_t length = wait(overlapped);
        taken();
        return length;
    } catch (const Ended&) {
        taken();
        throw;
    }
}

void Session::send(std::string_view bytes) {
    if (sends_.pending == kOutstanding) {
        (void)finish_first(sends_);
    }
    Operation& operation = sends_.operations[(sends_.first + sends_.pending) % kOutstanding];
    bytes.copy(operation.memory, bytes.size());
    operation.overlapped = {};
    operation.overlapped.hEvent = kPolled;
    WSABUF buffer{static_cast<ULONG>(bytes.size()), operation.memory};
    if (const int error = system_test::post_send(provider_, socket_.descriptor(), &buffer, 1,
                                                 &operation.overlapped);
        error != 0) {
        throw Ended{error};
    }
    ++sends_.pending;
}

void Session::drain() {
    while (sends_.pending != 0) {
        (void)finish_first(sends_);
    }
}

std::string_view Session::receive() {
    if (taken_) {
        taken_ = false;
        post_receive();
    }
    const char* const memory = receives_.operations[receives_.first].memory;
    const std::uint32_t length = finish_first(receives_);
    taken_ = true;
    return {memory, length};
}

std::string Session::expose() {
    std::string descriptor(64, '\0');
    auto length = static_cast<DWORD>(descriptor.size());
    int error = 0;
    if (provider_.extensions().register_rdma_memory(socket_.descriptor(), rdma_.data(), kRdmaBytes,
                                                    MEM_READWRITE, descriptor.data(), &length,
                                                    &error) != 0) {
        system_test::fail("WSPRegisterRdmaMemory", error);
    }
    descriptor.resize(length);
    return descriptor;
}

void Session::conceal(std::string descriptor) {
    int error = 0;
    if (provider_.extensions().deregister_rdma_memory(socket_.descriptor(), descriptor.data(),
                                                      static_cast<DWORD>(descriptor.size()),
                                                      &error) != 0) {
        system_test::fail("WSPDeregisterRdmaMemory", error);
    }
}

void Session::rdma(bool writes, std::string descriptor) {
    constexpr std::size_t kPieces = kRdmaBytes / kRdmaPiece;
    const auto function =
        writes ? provider_.extensions().rdma_write : provider_.extensions().rdma_read;
    std::array<WSAOVERLAPPED, kPieces> operations{};
    std::size_t posted = 0;
    std::optional<Ended> ended;
    for (; posted < kPieces && !ended; ++posted) {
        const auto offset = static_cast<DWORD>(posted * kRdmaPiece);
        operations[posted].hEvent = kPolled;
        WSABUFEX buffer{kRdmaPiece, rdma_.data() + offset, rdma_region_};
        DWORD bytes = 0;
        int error = 0;
        function(socket_.descriptor(), &buffer, 1, descriptor.data(),
                 static_cast<DWORD>(descriptor.size()), offset, &bytes, 0, &operations[posted],
                 nullptr, nullptr, &error);
        if (error != WSA_IO_PENDING) {
            ended = Ended{error};
            break;
        }
    }
    // All of them, before the records go.
    for (std::size_t i = 0; i < posted; ++i) {
        try {
            if (wait(operations[i]) != kRdmaPiece) {
                throw std::runtime_error("an RDMA operation moved less than it was to");
            }
        } catch (const Ended& end) {
            ended = end;
        }
    }
    if (ended) {
        throw *ended;
    }
}

std::uint32_t Session::await_rest(int error) {
    std::uint32_t count = 0;
    for (Ring* ring : {&sends_, &receives_}) {
        while (ring->pending != 0) {
            try {
                // What the peer had sent before its end may still be received.
                (void)finish_first(*ring);
            } catch (const Ended& end) {
                if (end.error != error) {
                    throw std::runtime_error(
                        std::string("of one connection, operations ended with ") +
                        sanpoll_switch::wsa_error_name(error) + " and with " +
                        sanpoll_switch::wsa_error_name(end.error));
                }
            }
            ++count;
        }
    }
    return count;
}

std::string bytes_of(std::uint64_t number, std::size_t length) {
    std::string bytes(length, '\0');
    std::uint64_t state = number * 0x9E3779B97F4A7C15ULL + length + 1;
    for (char& byte : bytes) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        byte = static_cast<char>(state >> 24);
    }
    return bytes;
}

std::size_t length_of(std::uint64_t number) {
    static constexpr std::size_t kLengths[] = {0,    1,    64,    200,   1000,  4096,    8192,
                                               9000, 1500, 16384, 16385, 65536, kLongest};
    return kLengths[number % std::size(kLengths)];
}

}  // namespace sanpoll::lab
