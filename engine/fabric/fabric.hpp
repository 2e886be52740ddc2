// The control plane of a fabric: addresses, listening, connecting. The data plane is fabric_port.hpp.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/fabric/endpoint.hpp"
#include "engine/status.hpp"

namespace sanpoll::engine {

/// An IPv4 address and TCP port, in host byte order. Address 0 is the wildcard.
struct Address {
    std::uint32_t ip = 0;
    std::uint16_t port = 0;
    // clang-tidy 14 takes the 0 that its callers compare with for a pointer.
    auto operator<=>(const Address&) const = default;  // NOLINT(modernize-use-nullptr)
};

[[nodiscard]] std::string to_string(const Address& address);

using ConnectData = std::vector<std::byte>;

/// The longest caller or callee data of a connect, bytes.
inline constexpr std::size_t kMaxConnectData = 256;

/// A connection request that waits for its answer. Any thread may call; exactly one of accept() and
/// reject() has an effect, the first. It may be kept beyond the end of its fabric, which withdraws it: then neither has.
/// The fabric must not end while one of them runs.
class IncomingConnection {
public:
    virtual ~IncomingConnection() = default;
    [[nodiscard]] virtual Address remote() const noexcept = 0;
    [[nodiscard]] virtual Address local() const noexcept = 0;  // as the originator dialled it
    [[nodiscard]] virtual const ConnectData& caller_data() const noexcept = 0;
    /// The originator has gone or changed its mind.
    [[nodiscard]] virtual bool withdrawn() const noexcept = 0;
    /// Makes the endpoint, opens the owner's gate, tells the originator. kWithdrawn when it is gone, kTimedOut
    /// when it does not confirm. Throws std::bad_alloc
    /// only while it is unanswered, and leaves it so.
    [[nodiscard]] virtual Status accept(const EndpointOwner& owner,
                                        const ConnectData& callee_data) = 0;
    /// `reason`: kRefused, kNoListener, or kMoved: the originator is to ask once more, by itself.
    virtual void reject(Status reason) = 0;
};

/// A connect on its way. cancel() is idempotent, from any thread; no result is reported after it has
/// returned, unless the report was already running.
class OutgoingConnection {
public:
    virtual ~OutgoingConnection() = default;
    virtual void cancel() = 0;
};

/// Listens until it is destroyed. Requests that nobody has taken by then are refused by their holder.
class Listening {
public:
    virtual ~Listening() = default;
};

/// A socket of another process that a token has led to. Destroyed without use: nobody has it, and a
/// connection's peer is reset. Blocks; not on the control thread.
class Import {
public:
    virtual ~Import() = default;
    [[nodiscard]] virtual bool listening() const noexcept = 0;
    /// What the exporting process gave along. Another process's words: to be checked.
    [[nodiscard]] virtual const std::vector<std::byte>& passenger() const noexcept = 0;
    /// A connection: opens the owner's gate. kNoListener: the peer has ended meanwhile. If it had sent
    /// messages before, the answer is kOk, and its end follows them.
    [[nodiscard]] virtual Status resume(const EndpointOwner& owner) = 0;
    /// A listener: requests come here from now on, also those that came while nobody had it. `local` is
    /// where it listens, as the passenger has it.
    [[nodiscard]] virtual Status listen(
        const Address& local, std::function<bool(std::shared_ptr<IncomingConnection>)> on_request,
        std::unique_ptr<Listening>& listening) = 0;
};

/// Why a connection has the fabric that it has.
enum class Why : std::uint8_t {
    kOnlyFabric,  // this process has no other
    kThisHost,    // the address is this host's, and a process of ours listens there
    kNobodyElse,  // the fabrics that come first lead there, but nobody listens by them
    kOnlyWay,     // no fabric that comes first leads to the address
    kPeer,        // the peer has chosen it
    kHandedOver,  // the process that had the socket before had it so
};

class Fabric {
public:
    virtual ~Fabric() = default;
    [[nodiscard]] virtual std::string_view name() const noexcept = 0;

    /// The host's addresses that this fabric serves, as they are now.
    [[nodiscard]] virtual std::vector<std::uint32_t> addresses() const = 0;
    /// Whether a socket may be bound to `ip`.
    [[nodiscard]] virtual bool serves(std::uint32_t ip) const = 0;
    /// Whether connect() may lead to `ip`: if not, it need not be tried.
    [[nodiscard]] virtual bool reaches(std::uint32_t ip) const = 0;

    /// Called with the turn of the control thread for every request. False: refuse it at once (backlog full).
    using OnRequest = std::function<bool(std::shared_ptr<IncomingConnection>)>;
    /// Blocks shortly. kOk, kAddressInUse (another process listens there), kNoMemory; may throw std::bad_alloc. If it does
    /// not succeed on_request may have been called all the same.
    [[nodiscard]] virtual Status listen(const Address& local, OnRequest on_request,
                                        std::unique_ptr<Listening>& listening) = 0;

    struct ConnectResult {
        Status status = Status::kOk;  // kOk: the owner's gate is open
        ConnectData callee_data;
        Why why = Why::kOnlyFabric;  // for FabricChoice to say
    };
    using OnResult = std::function<void(ConnectResult)>;
    /// Returns at once; on_result is called once, with the turn of the control thread, perhaps before this returns. May throw
    /// std::bad_alloc: it is never called then.
    /// `local` with the wildcard: this host's address on the way to `remote` is taken. kNoListener: certainly
    /// nobody listens there; in doubt it is another status.
    [[nodiscard]] virtual std::shared_ptr<OutgoingConnection> connect(const Address& local,
                                                                      const Address& remote,
                                                                      ConnectData caller_data,
                                                                      const EndpointOwner& owner,
                                                                      OnResult on_result) = 0;

    // ---- from process to process (spec, section 13). These block; not on the control thread ------------

    /// Gives a connection to the process `process`, which passes `token` (not 0, unique among all processes)
    /// to import(), once. The owner's gate has been shut by PostGate::suspend, which gave `sequence`. kOk:
    /// the pending receives have completed with kOk and no bytes, the endpoint is closed as by
    /// FabricPort::close, the peer notices nothing. Otherwise the gate is open again and nothing has changed:
    /// kPending: there are pending sends; kNotOpen: the connection has ended; kTimedOut: the peer does not
    /// answer; kUnreachable: there is no such process; kNoMemory, kNoDescriptors. Registered memory does not
    /// go along.
    [[nodiscard]] virtual Status export_connection(Endpoint& endpoint, std::uint32_t sequence,
                                                   int process, std::vector<std::byte> passenger,
                                                   std::uint32_t& token) = 0;
    /// The same for a listener, which hears nothing any more if the answer is kOk.
    [[nodiscard]] virtual Status export_listening(Listening& listening, int process,
                                                  std::vector<std::byte> passenger,
                                                  std::uint32_t& token) = 0;
    /// kUnknownToken: nobody has issued it for this process, or it was used. kTimedOut: its issuer does not
    /// answer. kNoDescriptors.
    [[nodiscard]] virtual Status import_socket(std::uint32_t token,
                                               std::unique_ptr<Import>& import) = 0;

    /// Any thread that has nothing locked: takes in, here and at once, what other processes have to say about
    /// connects and accepts, unless another thread is at it. Nobody needs to call it: the control thread is woken.
    /// But who calls it all the time is served sooner, for no thread is woken for it. Costs a hundred
    /// nanoseconds and no system call when there is nothing; may call on_request and on_result.
    virtual void progress() {}

    /// In a child of fork(): closes the descriptors that would keep the parent's connections alive.
    /// Async-signal-safe.
    virtual void abandon_in_child() noexcept = 0;
};

}  // namespace sanpoll::engine
