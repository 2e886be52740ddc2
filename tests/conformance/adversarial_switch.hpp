// Calls the provider at random, legally and not, from a seed, and checks each answer and each completion
// against the model.
#pragma once

#include <array>
#include <initializer_list>
#include <random>

#include "tests/conformance/adversarial_model.hpp"

namespace sanpoll::conformance {

// One thread. The draws of a step do not depend on what the provider answered before, so a seed gives
// the same calls again as far as the provider lets them be the same.
class AdversarialSwitch {
public:
    AdversarialSwitch(Calls& san, RecordingSwitch& upcalls, std::uint64_t seed);
    ~AdversarialSwitch();
    AdversarialSwitch(const AdversarialSwitch&) = delete;
    AdversarialSwitch& operator=(const AdversarialSwitch&) = delete;

    /// Runs until so many steps are done or something is wrong.
    void run(std::uint64_t steps);
    /// Closes what is open and checks that nothing is left.
    void finish();
    [[nodiscard]] bool failed() const { return failed_; }
    [[nodiscard]] std::uint64_t messages_delivered() const { return delivered_; }
    [[nodiscard]] std::uint64_t rdma_done() const { return rdma_done_; }
    [[nodiscard]] std::uint64_t calls() const { return calls_; }

private:
    static constexpr std::size_t kSlots = 10;

    /// What a step may use, drawn before it looks at anything.
    struct Draw {
        std::size_t slot;
        std::size_t other;
        std::uint32_t choice;
        std::uint32_t size;
        std::uint32_t more;
    };
    struct Action {
        const char* name;
        unsigned weight;
        void (AdversarialSwitch::*run)(const Draw& draw);
    };
    /// Everything it does: more operations of the interface are more lines there.
    static const std::vector<Action>& actions();

    // ---- actions: sockets (adversarial_sockets.cpp)
    void do_socket(const Draw& draw);
    void do_bind(const Draw& draw);
    void do_listen(const Draw& draw);
    void do_connect(const Draw& draw);
    void do_accept(const Draw& draw);
    void do_connect_pair(const Draw& draw);
    void do_event_select(const Draw& draw);
    void do_enum_events(const Draw& draw);
    void do_close(const Draw& draw);
    void do_stale(const Draw& draw);
    void do_nonsense(const Draw& draw);
    // ---- actions: transfers (adversarial_transfers.cpp)
    void do_register(const Draw& draw);
    void do_deregister(const Draw& draw);
    void do_send(const Draw& draw) { transfer(draw, true); }
    void do_receive(const Draw& draw) { transfer(draw, false); }
    void do_bad_transfer(const Draw& draw);
    void do_result(const Draw& draw);
    void do_harvest(const Draw& draw);

    // ---- actions: exposed memory (adversarial_memory.cpp)
    void do_expose(const Draw& draw);
    void do_bad_expose(const Draw& draw);
    void do_conceal(const Draw& draw);
    // ---- actions: RDMA (adversarial_rdma.cpp)
    void do_rdma(const Draw& draw);
    void do_doomed_rdma(const Draw& draw);
    void do_bad_rdma(const Draw& draw);

    // ---- actions: changes of process (adversarial_moves.cpp)
    void do_duplicate(const Draw& draw);
    void take_back(std::size_t slot, WSAPROTOCOL_INFOW& info, bool close_first);

    // ---- model
    /// The answers to a call that only looks at the state: one for each phase from kCreated on.
    [[nodiscard]] std::vector<int> by_phase(const ModelSocket& socket,
                                            std::array<int, 5> answers) const;
    /// Learns whether a connect has ended.
    void refresh(std::size_t slot);
    /// Waits until a connect has ended that must end.
    void settle(std::size_t slot);
    void connect_failed(std::size_t slot);
    void became_connected(std::size_t slot, std::shared_ptr<Connection> connection, int side,
                          std::size_t peer);
    void register_arenas(std::size_t slot);
    void caller_leaves(std::size_t slot);
    /// More may be on their way to a listener than its backlog holds.
    void judge_backlog(ModelSocket& listener);
    void transfer(const Draw& draw, bool is_send);
    /// Looks at the oldest operations of a socket and checks those that are done.
    void harvest(std::size_t slot, bool closed_here = false);
    void harvest_send(ModelSocket& socket, Operation& operation, bool closed_here);
    void harvest_receive(ModelSocket& socket, Operation& operation, bool closed_here);
    void check_order(ModelSocket& socket);
    void connection_seen_broken(ModelSocket& socket, int error);
    void refused(std::size_t slot, int answer);

    // ---- model: RDMA (adversarial_rdma.cpp, adversarial_memory.cpp)
    /// How an operation is posted: into or out of `target`.
    struct RdmaPost {
        bool write = false;
        std::vector<char> descriptor;
        std::shared_ptr<Exposure> target;  // may be none if it is doomed
        std::size_t offset = 0;
        std::size_t length = 0;
        bool doomed = false;
        bool damaged = false;  // it may be seen at once
    };
    void start_rdma(std::size_t slot, const RdmaPost& post);
    void harvest_rdma(ModelSocket& socket, Operation& operation);
    [[nodiscard]] static bool behind_doomed(const ModelSocket& socket);
    /// What was written before a message was sent is in place when the message is received.
    void check_written_before(ModelSocket& receiver, std::uint64_t message);
    void check_memory(const Connection& connection);
    void conceal(std::size_t slot, const std::shared_ptr<Exposure>& exposure);
    void revoke(Connection& connection, int owner, Exposure& exposure);
    void conceal_all(ModelSocket& socket);
    void bury(std::unique_ptr<Operation> operation);

    // ---- verdicts
    /// The answer to a call must be one of these.
    bool expect(int answer, std::initializer_list<int> allowed, const char* what) {
        return expect(answer, std::vector<int>(allowed), what);
    }
    bool expect(int answer, const std::vector<int>& allowed, const char* what);
    bool check(bool sound, const char* what);
    void note(const char* what, int answer);
    void fail(const std::string& what);

    Calls& san_;
    RecordingSwitch& upcalls_;
    std::uint64_t seed_;
    std::mt19937_64 random_;
    std::array<ModelSocket, kSlots> sockets_;
    std::vector<SOCKET> stale_;
    /// Operations whose result was seen, for a while: nobody may touch them any more.
    std::deque<std::unique_ptr<Operation>> graves_;
    std::atomic<std::uint64_t> upcall_count_{0};
    std::uint64_t next_message_ = 1;
    std::uint64_t delivered_ = 0;
    std::uint64_t rdma_done_ = 0;
    std::uint64_t calls_ = 0;
    std::uint64_t step_ = 0;
    const char* action_ = "";
    std::size_t slot_ = 0;
    bool failed_ = false;
    std::deque<std::string> trace_;  // the latest calls
    ActionScope acting_;
};

}  // namespace sanpoll::conformance
