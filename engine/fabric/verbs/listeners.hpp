// Who listens by RDMA CM in this process, and the requests that come.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "engine/fabric/fabric.hpp"
#include "engine/fabric/verbs/incoming.hpp"

namespace sanpoll::engine::verbs {

class VerbsFabric;

/// One identifier for each address and port. RDMA CM could listen at the wildcard by itself, but then all
/// devices would have to listen at the same port (see cm_port). All functions run on the control thread.
class Listeners {
public:
    /// Names one who takes requests.
    using Taker = const void*;

    explicit Listeners(VerbsFabric& fabric) : fabric_(fabric) {}

    /// kOk, kAddressInUse, kAddressNotAvailable, kNoMemory, kNoDescriptors. Several takers may share an
    /// address; the first gets the requests. At the wildcard it is listened on every device there is, and on
    /// those that come; there need not be one.
    [[nodiscard]] Status add(const Address& local, Taker taker, Fabric::OnRequest on_request);
    void remove(const Address& local, Taker taker);
    void close();

    /// Listens on devices that have come, or come back. True if some listener still lacks its own.
    bool listen_again();

    /// An originator will make its request once more, for the rest of the answer.
    void expect_again(std::uint32_t ip, std::uint64_t attempt, std::weak_ptr<Incoming> incoming);

private:
    using Takers = std::vector<std::pair<Taker, Fabric::OnRequest>>;
    // One connect of one host, whose data comes in several messages.
    using AttemptKey = std::pair<std::uint32_t, std::uint64_t>;
    struct Attempt {
        ConnectData data;
        std::weak_ptr<Incoming> incoming;
        std::uint64_t timer = 0;
    };

    [[nodiscard]] Status cover(const Address& local);
    [[nodiscard]] Status listen(const Address& at, bool iwarp);
    void forget_unwanted();
    void on_event(const Address& at, const CmEvent& event);
    [[nodiscard]] const Takers* takers_of(const Address& at) const;
    void take_request(const Address& at, const CmEvent& event);
    void hear(const std::shared_ptr<Session>& session, const Address& at, const CmEvent& event);
    void take_part(const std::shared_ptr<Session>& session, const AttemptKey& key,
                   const PrivateData& message);
    [[nodiscard]] bool fit(const AttemptKey& key, const PrivateData& message, ConnectData& data);
    [[nodiscard]] Attempt* attempt_of(const AttemptKey& key);
    void forget(const AttemptKey& key);

    VerbsFabric& fabric_;
    std::map<Address, Takers> takers_;       // by where they listen, perhaps the wildcard
    std::map<Address, rdma_cm_id*> points_;  // by the real address
    std::map<AttemptKey, Attempt> attempts_;
};

}  // namespace sanpoll::engine::verbs
