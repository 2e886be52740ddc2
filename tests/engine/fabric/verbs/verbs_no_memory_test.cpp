// Listening, connecting and accepting by RDMA CM in threads that get no memory: denied is the first piece that is asked for,
// then the second, and so on. What the fakes ask for is granted.
#include "tests/engine/denied_memory.hpp"
#include "tests/engine/fabric/verbs/verbs_fabric_fixture.hpp"

namespace sanpoll::engine::verbs {
namespace {

using tests::DeniedMemory;
using tests::dial;
using tests::eventually;
using tests::Socket;
using tests::VerbsBacklog;

constexpr int kMostPieces = 300;

/// A function of a library, which has memory.
template <typename Tag, typename Result, typename... Arguments>
struct Granted {
    static inline Result (*inner)(Arguments...) = nullptr;
    static Result call(Arguments... arguments) {
        const DeniedMemory::Pause pause;
        return inner(arguments...);
    }
};

template <typename Tag, typename Result, typename... Arguments>
void grant(Result (*&function)(Arguments...)) {
    Granted<Tag, Result, Arguments...>::inner = function;
    function = &Granted<Tag, Result, Arguments...>::call;
}

class VerbsNoMemoryTest : public VerbsFabricTest, public testing::WithParamInterface<const char*> {
protected:
    void SetUp() override {
        grant<struct CreateId>(api_.cm.create_id);
        grant<struct DestroyId>(api_.cm.destroy_id);
        grant<struct BindAddress>(api_.cm.bind_addr);
        grant<struct Listen>(api_.cm.listen);
        grant<struct ResolveAddress>(api_.cm.resolve_addr);
        grant<struct ResolveRoute>(api_.cm.resolve_route);
        grant<struct CreateQueuePair>(api_.cm.create_qp);
        grant<struct DestroyQueuePair>(api_.cm.destroy_qp);
        grant<struct Connect>(api_.cm.connect);
        grant<struct Accept>(api_.cm.accept);
        grant<struct Reject>(api_.cm.reject);
        grant<struct Disconnect>(api_.cm.disconnect);
        grant<struct GetEvent>(api_.cm.get_cm_event);
        grant<struct AckEvent>(api_.cm.ack_cm_event);
        grant<struct AllocateDomain>(api_.verbs.alloc_pd);
        grant<struct DeallocateDomain>(api_.verbs.dealloc_pd);
        grant<struct Register>(api_.verbs.reg_mr);
        grant<struct RegisterAt>(api_.verbs.reg_mr_iova2);
        grant<struct Deregister>(api_.verbs.dereg_mr);
        grant<struct CreateChannel>(api_.verbs.create_comp_channel);
        grant<struct DestroyChannel>(api_.verbs.destroy_comp_channel);
        grant<struct CreateQueue>(api_.verbs.create_cq);
        grant<struct DestroyQueue>(api_.verbs.destroy_cq);
        for (tests::SharedDevice* device : {here_device_.get(), there_device_.get()}) {
            ibv_context_ops& operations = device->context()->ops;
            grant_once<struct PostSend>(operations.post_send);
            grant_once<struct PostReceive>(operations.post_recv);
            grant_once<struct PollQueue>(operations.poll_cq);
            grant_once<struct RequestNotify>(operations.req_notify_cq);
        }
    }

    template <typename Tag, typename Result, typename... Arguments>
    static void grant_once(Result (*&function)(Arguments...)) {
        if (function != &Granted<Tag, Result, Arguments...>::call) {
            grant<Tag>(function);
        }
    }

    static bool for_good() { return std::string(GetParam()) == "AllFurther"; }

    /// `attempt` gets how many pieces are granted, and returns whether one was denied.
    template <typename Attempt>
    void with_ever_more_memory(Attempt attempt) {
        bool denied = true;
        for (int granted = 0; denied && granted < kMostPieces; ++granted) {
            SCOPED_TRACE("pieces granted: " + std::to_string(granted));
            // Anew, so that no timer of theirs is due while memory is denied.
            here_.reset();
            there_.reset();
            start();
            denied = attempt(granted);
            if (HasFatalFailure()) {
                return;
            }
        }
        EXPECT_FALSE(denied);
    }

    /// Until the end of the scope the host's control thread gets no more than that many pieces.
    class OnControlThread {
    public:
        OnControlThread(tests::VerbsHost& host, int granted) : host_(host) {
            host_.control.post_apart([this, granted] { denial_.emplace(granted, for_good()); });
        }
        /// Whether one was denied. Once.
        bool end() {
            std::promise<bool> denied;
            post([&] {
                const bool result = DeniedMemory::was_denied();
                denial_.reset();
                denied.set_value(result);
            });
            return denied.get_future().get();
        }

    private:
        void post(std::function<void()> task) { host_.control.post_apart(std::move(task)); }

        tests::VerbsHost& host_;
        std::optional<DeniedMemory> denial_;
    };

    void expect_that_a_connection_can_be_made(VerbsBacklog& backlog) {
        Socket from;
        Socket to;
        join(backlog, from, to);
        close_all({&from, &to});
    }
};

TEST_P(VerbsNoMemoryTest, Listen) {
    int failures = 0;
    with_ever_more_memory([&](int granted) {
        std::unique_ptr<Listening> listening;
        bool denied = false;
        Status status = Status::kOk;
        {
            const DeniedMemory denial(granted, for_good());
            try {
                status = there_->fabric.listen(
                    {kThere, kPort},
                    [](const std::shared_ptr<IncomingConnection>&) { return false; }, listening);
            } catch (const std::bad_alloc&) {
                status = Status::kNoMemory;
            }
            denied = DeniedMemory::was_denied();
        }
        if (status != Status::kOk) {
            ++failures;
            EXPECT_EQ(status, Status::kNoMemory);
            EXPECT_EQ(listening, nullptr);
            expect_only(0);
        }
        listening.reset();
        VerbsBacklog backlog(*there_, {kThere, kPort});
        EXPECT_EQ(backlog.status, Status::kOk);
        expect_that_a_connection_can_be_made(backlog);
        return denied;
    });
    EXPECT_GT(failures, 0);
}

TEST_P(VerbsNoMemoryTest, AcceptThatCannotBegin) {
    int failures = 0;
    with_ever_more_memory([&](int granted) {
        VerbsBacklog backlog(*there_, {kThere, kPort});
        Socket from;
        const auto outcome = dial(*here_, {kHere, 1}, {kThere, kPort}, from);
        const auto request = backlog.next();
        EXPECT_NE(request, nullptr);
        Socket to;
        bool denied = false;
        bool thrown = false;
        {
            const DeniedMemory denial(granted, for_good());
            try {
                EXPECT_EQ(request->accept(to.owner(), {}), Status::kOk);
            } catch (const std::bad_alloc&) {
                thrown = true;
            }
            denied = DeniedMemory::was_denied();
        }
        if (thrown) {
            ++failures;
            EXPECT_FALSE(request->withdrawn());
            EXPECT_EQ(request->accept(to.owner(), {}), Status::kOk) << "it was unanswered";
        }
        EXPECT_EQ(outcome->result().status, Status::kOk);
        close_all({&from, &to});
        return denied;
    });
    EXPECT_GT(failures, 0);
}

TEST_P(VerbsNoMemoryTest, AcceptOnTheControlThread) {
    int failures = 0;
    with_ever_more_memory([&](int granted) {
        VerbsBacklog backlog(*there_, {kThere, kPort});
        Socket from;
        const auto outcome = dial(*here_, {kHere, 1}, {kThere, kPort}, from, numbered(250));
        const auto request = backlog.next();
        EXPECT_NE(request, nullptr);
        Socket to;
        OnControlThread denial(*there_, granted);
        const Status status = request->accept(to.owner(), numbered(20));
        const bool denied = denial.end();
        if (status == Status::kOk) {
            EXPECT_EQ(outcome->result().status, Status::kOk);
            close_all({&from, &to});
        } else {
            ++failures;
            EXPECT_EQ(status, Status::kNoMemory);
            EXPECT_EQ(to.gate.view().state, PostGate::State::kShut);
            EXPECT_EQ(outcome->result().status, Status::kTimedOut) << "it may ask TCP/IP";
        }
        expect_only(1);
        expect_that_a_connection_can_be_made(backlog);
        return denied;
    });
    EXPECT_GT(failures, 0);
}

TEST_P(VerbsNoMemoryTest, ConnectOnTheControlThread) {
    int failures = 0;
    with_ever_more_memory([&](int granted) {
        VerbsBacklog backlog(*there_, {kThere, kPort});
        Socket from;
        Socket to;
        OnControlThread denial(*here_, granted);
        const auto outcome = dial(*here_, {kHere, 1}, {kThere, kPort}, from, numbered(250));
        std::shared_ptr<IncomingConnection> request;
        EXPECT_TRUE(eventually([&] {
            request = backlog.look();
            return request != nullptr || outcome->ready();
        }));
        const bool accepted = request != nullptr && request->accept(to.owner(), {}) == Status::kOk;
        const Status status = outcome->result().status;
        const bool denied = denial.end();
        if (status == Status::kOk) {
            EXPECT_TRUE(accepted);
            close_all({&from, &to});
        } else {
            ++failures;
            EXPECT_EQ(status, Status::kNoMemory);
            EXPECT_EQ(from.gate.view().state, PostGate::State::kShut);
            if (accepted) {
                close_all({&to});
            }
        }
        expect_only(1);
        expect_that_a_connection_can_be_made(backlog);
        return denied;
    });
    EXPECT_GT(failures, 0);
}

INSTANTIATE_TEST_SUITE_P(Denied, VerbsNoMemoryTest, testing::Values("OneAlone", "AllFurther"),
                         [](const auto& which) { return std::string(which.param); });

}  // namespace
}  // namespace sanpoll::engine::verbs
