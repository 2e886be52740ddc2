// Several fabrics as one: the fabric of a connection follows from its addresses.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "engine/config.hpp"
#include "engine/control_thread.hpp"
#include "engine/fabric/fabric.hpp"

namespace sanpoll::engine {

/// The words for a user who asks why. `knob`: the knob `fabric`, which may be what leaves no choice.
[[nodiscard]] std::string_view to_words(Why why, FabricKind knob) noexcept;

/// The rules, where "first" is the order in which the fabrics were given, shared memory before devices:
///
///   listening   on every fabric that serves the address; on all of them for the wildcard. All or none.
///   connecting  by the first fabric that reaches the remote address and serves the local one. If it says that
///               nobody listens there (kNoListener), or that whoever does is none of ours (kNotAllowed), the
///               next such fabric is asked: an address of this host may be listened to by a process that has
///               a device but no shared memory with us, in a container for instance. Any other failure is the
///               listener's own answer, or leaves open whether it would hear a second request beside the
///               first, and ends the attempt. The last answer counts, unless it is kNoListener: that somebody
///               listens by another fabric stays true. If no fabric leads there: kTimedOut, by which a switch
///               tries TCP/IP.
///   moving      (export, import) is the business of the fabric that has the endpoint. Of a listener only the
///               first fabric's part can move: in the next process it listens anew on the others.
///
/// An engine with one fabric uses that fabric itself, so that a choice costs only those who have one.
/// The fabrics' connect() and the cancel() of what it returned are called on the control thread.
class FabricChoice final : public Fabric {
public:
    /// The fabrics, two at least, outlive it.
    FabricChoice(ControlThread& control, std::vector<Fabric*> fabrics)
        : control_(control), fabrics_(std::move(fabrics)) {}

    [[nodiscard]] std::string_view name() const noexcept override { return "auto"; }
    [[nodiscard]] std::vector<std::uint32_t> addresses() const override;
    [[nodiscard]] bool serves(std::uint32_t ip) const override;
    [[nodiscard]] bool reaches(std::uint32_t ip) const override;
    [[nodiscard]] Status listen(const Address& local, OnRequest on_request,
                                std::unique_ptr<Listening>& listening) override;
    [[nodiscard]] std::shared_ptr<OutgoingConnection> connect(const Address& local,
                                                              const Address& remote,
                                                              ConnectData caller_data,
                                                              const EndpointOwner& owner,
                                                              OnResult on_result) override;
    [[nodiscard]] Status export_connection(Endpoint& endpoint, std::uint32_t sequence, int process,
                                           std::vector<std::byte> passenger,
                                           std::uint32_t& token) override;
    [[nodiscard]] Status export_listening(Listening& listening, int process,
                                          std::vector<std::byte> passenger,
                                          std::uint32_t& token) override;
    [[nodiscard]] Status import_socket(std::uint32_t token,
                                       std::unique_ptr<Import>& import) override;
    void progress() override;
    void abandon_in_child() noexcept override;

private:
    class Attempt;
    class ListeningOnAll;
    class ListenerImport;

    [[nodiscard]] Status listen_on_others(const Address& local, const OnRequest& on_request,
                                          const Fabric* but, ListeningOnAll& all);

    ControlThread& control_;
    const std::vector<Fabric*> fabrics_;
};

}  // namespace sanpoll::engine
