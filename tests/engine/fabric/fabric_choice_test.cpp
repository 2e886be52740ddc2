#include "engine/fabric/fabric_choice.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <optional>
#include <thread>

#include "engine/fabric/fabric_port.hpp"
#include "tests/engine/fabric/fake_fabric.hpp"

namespace sanpoll::engine {
namespace {

using tests::FakeFabric;

constexpr std::uint32_t kLoopback = 0x7F000001;
constexpr std::uint32_t kOurs = 0x0A000001;       // an interface with a device
constexpr std::uint32_t kOurOther = 0xC0A80101;   // an interface without one
constexpr std::uint32_t kNeighbour = 0x0A000002;  // in the device's network
constexpr std::uint32_t kStranger = 0x08080808;

class FabricChoiceTest : public testing::Test {
protected:
    void SetUp() override {
        ASSERT_EQ(control_.start(), "");
        device_.others = {kNeighbour};
    }
    void TearDown() override {
        attempt_.reset();
        control_.stop();
    }

    // What was posted before has run when this returns.
    void settle() {
        control_.call([] {});
    }
    void on_control(const std::function<void()>& body) { control_.call(body); }

    void dial(const Address& remote, const Address& local = {0, 40000}, ConnectData data = {}) {
        EndpointOwner owner;
        owner.owner = this;
        attempt_ = choice_.connect(local, remote, std::move(data), owner,
                                   [this](Fabric::ConnectResult result) {
                                       ++reports_;
                                       result_ = std::move(result);
                                   });
        settle();
    }
    [[nodiscard]] Status listen_at(std::uint32_t ip) {
        return choice_.listen(
            {ip, 80},
            [this](std::shared_ptr<IncomingConnection>) {
                ++requests_;
                return true;
            },
            listening_);
    }

    ControlThread control_{Clock::steady()};
    FakeFabric memory_{"memory", {kLoopback, kOurs, kOurOther}};
    FakeFabric device_{"device", {kOurs}};
    FabricChoice choice_{control_, {&memory_, &device_}};
    std::unique_ptr<Listening> listening_;
    std::shared_ptr<OutgoingConnection> attempt_;
    int requests_ = 0;
    int reports_ = 0;  // on the control thread; read after settle()
    std::optional<Fabric::ConnectResult> result_;
};

TEST_F(FabricChoiceTest, AddressesAreThoseOfAllFabricsOnce) {
    EXPECT_EQ(choice_.addresses(), (std::vector<std::uint32_t>{kOurs, kLoopback, kOurOther}));
    EXPECT_TRUE(choice_.serves(kOurOther));
    EXPECT_FALSE(choice_.serves(kNeighbour)) << "reached, but not ours to be bound to";
    EXPECT_TRUE(choice_.reaches(kNeighbour));
    EXPECT_TRUE(choice_.reaches(kLoopback));
    EXPECT_FALSE(choice_.reaches(kStranger));
}

// ---- listening --------------------------------------------------------------------------------------

TEST_F(FabricChoiceTest, ListensOnEveryFabricThatServesTheAddress) {
    ASSERT_EQ(listen_at(kOurs), Status::kOk);
    ASSERT_EQ(memory_.listenings.size(), 1U);
    ASSERT_EQ(device_.listenings.size(), 1U);
    EXPECT_EQ(device_.listenings[0]->local, (Address{kOurs, 80}));
    EXPECT_TRUE(memory_.listenings[0]->on_request(nullptr));
    EXPECT_TRUE(device_.listenings[0]->on_request(nullptr));
    EXPECT_EQ(requests_, 2);
    listening_.reset();
    EXPECT_TRUE(memory_.listenings.empty());
    EXPECT_TRUE(device_.listenings.empty());
}

TEST_F(FabricChoiceTest, ListensOnNoFabricThatDoesNotServeTheAddress) {
    ASSERT_EQ(listen_at(kOurOther), Status::kOk);
    EXPECT_EQ(memory_.listenings.size(), 1U);
    EXPECT_TRUE(device_.listenings.empty());
}

TEST_F(FabricChoiceTest, TheWildcardIsHeardOnAllFabricsWhateverTheyServeNow) {
    device_.own_addresses.clear();
    ASSERT_EQ(listen_at(0), Status::kOk);
    EXPECT_EQ(memory_.listenings.size(), 1U);
    EXPECT_EQ(device_.listenings.size(), 1U);
}

TEST_F(FabricChoiceTest, ListensEverywhereOrNowhere) {
    device_.listen_status = Status::kAddressInUse;
    EXPECT_EQ(listen_at(kOurs), Status::kAddressInUse);
    EXPECT_EQ(listening_, nullptr);
    EXPECT_TRUE(memory_.listenings.empty());
}

TEST_F(FabricChoiceTest, AnAddressThatHasGoneSinceTheBindIsNotListenedAt) {
    EXPECT_EQ(listen_at(kStranger), Status::kAddressNotAvailable);
    EXPECT_EQ(listening_, nullptr);
}

// ---- connecting -------------------------------------------------------------------------------------

TEST_F(FabricChoiceTest, AnAddressOfThisHostGoesByTheFirstFabric) {
    dial({kOurs, 80}, {0, 40000}, ConnectData(3, std::byte{5}));
    ASSERT_EQ(memory_.dials.size(), 1U);
    EXPECT_EQ(memory_.dials[0]->local, (Address{0, 40000}));
    EXPECT_EQ(memory_.dials[0]->remote, (Address{kOurs, 80}));
    EXPECT_EQ(memory_.dials[0]->caller_data, ConnectData(3, std::byte{5}));
    EXPECT_EQ(memory_.dials[0]->owner.owner, this);
    on_control([&] { memory_.answer(Status::kOk, ConnectData(2, std::byte{6})); });
    EXPECT_EQ(reports_, 1);
    EXPECT_EQ(result_->status, Status::kOk);
    EXPECT_EQ(result_->callee_data, ConnectData(2, std::byte{6}));
    EXPECT_EQ(result_->why, Why::kThisHost);
    EXPECT_TRUE(device_.dials.empty());
}

TEST_F(FabricChoiceTest, AnAddressElsewhereGoesByTheFabricThatReachesIt) {
    dial({kNeighbour, 80});
    EXPECT_TRUE(memory_.dials.empty());
    ASSERT_EQ(device_.dials.size(), 1U);
    on_control([&] { device_.answer(Status::kOk); });
    EXPECT_EQ(result_->status, Status::kOk);
    EXPECT_EQ(result_->why, Why::kOnlyWay);
}

TEST_F(FabricChoiceTest, IfNobodyListensByTheFirstFabricTheNextOneIsAsked) {
    dial({kOurs, 80}, {kOurs, 40000}, ConnectData(3, std::byte{5}));
    on_control([&] { memory_.answer(Status::kNoListener); });
    EXPECT_EQ(reports_, 0);
    ASSERT_EQ(device_.dials.size(), 1U);
    EXPECT_EQ(device_.dials[0]->local, (Address{kOurs, 40000}));
    EXPECT_EQ(device_.dials[0]->remote, (Address{kOurs, 80}));
    EXPECT_EQ(device_.dials[0]->caller_data, ConnectData(3, std::byte{5}));
    EXPECT_EQ(device_.dials[0]->owner.owner, this);
    on_control([&] { device_.answer(Status::kOk); });
    EXPECT_EQ(reports_, 1);
    EXPECT_EQ(result_->status, Status::kOk);
    EXPECT_EQ(result_->why, Why::kNobodyElse);
}

TEST_F(FabricChoiceTest, AnswersWithinConnectAreAnswersToo) {
    memory_.answers_at_once = true;
    device_.answers_at_once = true;
    device_.at_once = Status::kRefused;
    dial({kOurs, 80});
    EXPECT_EQ(reports_, 1);
    EXPECT_EQ(result_->status, Status::kRefused);
    attempt_->cancel();
    EXPECT_EQ(memory_.dials[0]->cancels, 0) << "it had answered";
    EXPECT_EQ(device_.dials[0]->cancels, 0);
}

TEST_F(FabricChoiceTest, TheListenersOwnAnswerEndsTheAttempt) {
    for (const Status status : {Status::kRefused, Status::kTimedOut, Status::kUnreachable,
                                Status::kNoMemory, Status::kNotOpen}) {
        dial({kOurs, 80});
        on_control([&] { memory_.answer(status); });
        EXPECT_EQ(result_->status, status);
    }
    EXPECT_EQ(reports_, 5);
    EXPECT_TRUE(device_.dials.empty());
}

TEST_F(FabricChoiceTest, OfTwoFailuresTheOneThatTellsMoreIsReported) {
    const struct {
        Status first;
        Status second;
        Status reported;
    } cases[] = {
        {Status::kNoListener, Status::kNoListener, Status::kNoListener},
        {Status::kNoListener, Status::kRefused, Status::kRefused},
        {Status::kNoListener, Status::kTimedOut, Status::kTimedOut},
        {Status::kNoListener, Status::kNotAllowed, Status::kNotAllowed},
        {Status::kNotAllowed, Status::kNoListener, Status::kNotAllowed},
        {Status::kNotAllowed, Status::kRefused, Status::kRefused},
    };
    for (const auto& one : cases) {
        reports_ = 0;
        dial({kOurs, 80});
        on_control([&] { memory_.answer(one.first); });
        on_control([&] { device_.answer(one.second); });
        EXPECT_EQ(reports_, 1);
        EXPECT_EQ(result_->status, one.reported);
    }
}

TEST_F(FabricChoiceTest, WithoutASecondWayTheFirstAnswerIsFinal) {
    dial({kOurOther, 80});
    on_control([&] { memory_.answer(Status::kNoListener); });
    EXPECT_EQ(reports_, 1);
    EXPECT_EQ(result_->status, Status::kNoListener);
}

TEST_F(FabricChoiceTest, TheLocalAddressCountsToo) {
    dial({kOurs, 80}, {kLoopback, 40000});
    on_control([&] { memory_.answer(Status::kNoListener); });
    EXPECT_EQ(result_->status, Status::kNoListener);
    EXPECT_TRUE(device_.dials.empty()) << "the device does not serve the address that is bound";
    dial({kNeighbour, 80}, {kOurOther, 40000});
    EXPECT_TRUE(device_.dials.empty());
    EXPECT_EQ(reports_, 2);
    EXPECT_EQ(result_->status, Status::kTimedOut);
}

TEST_F(FabricChoiceTest, WhereNoFabricLeadsASwitchMayTryTcp) {
    dial({kStranger, 80});
    EXPECT_EQ(reports_, 1);
    EXPECT_EQ(result_->status, Status::kTimedOut);
    EXPECT_TRUE(memory_.dials.empty() && device_.dials.empty());
}

// ---- cancelling -------------------------------------------------------------------------------------

TEST_F(FabricChoiceTest, CancelReachesTheFabricThatIsAsked) {
    dial({kOurs, 80});
    attempt_->cancel();
    attempt_->cancel();
    EXPECT_EQ(memory_.dials[0]->cancels, 1);
    on_control([&] { memory_.answer(Status::kOk); });
    EXPECT_EQ(reports_, 0);
}

TEST_F(FabricChoiceTest, CancelReachesTheSecondFabricToo) {
    dial({kOurs, 80});
    on_control([&] { memory_.answer(Status::kNoListener); });
    attempt_->cancel();
    EXPECT_EQ(memory_.dials[0]->cancels, 0);
    EXPECT_EQ(device_.dials[0]->cancels, 1);
    EXPECT_EQ(reports_, 0);
}

TEST_F(FabricChoiceTest, CancelBeforeTheAttemptHasBegunAsksNobody) {
    // The control thread is held until the connect and its end have been asked for.
    std::promise<void> held;
    control_.post([&] { held.get_future().wait(); });
    attempt_ = choice_.connect({0, 1}, {kOurs, 80}, {}, {},
                               [this](const Fabric::ConnectResult&) { ++reports_; });
    std::thread canceller([&] { attempt_->cancel(); });
    held.set_value();
    canceller.join();
    settle();
    // Whichever came first: asked and cancelled, or not asked at all.
    for (const auto& dial : memory_.dials) {
        EXPECT_EQ(dial->cancels, 1);
    }
    EXPECT_EQ(reports_, 0);
}

TEST_F(FabricChoiceTest, CancelBetweenTwoAnswersOnTheControlThreadIsTheEnd) {
    dial({kOurs, 80});
    on_control([&] {
        attempt_->cancel();
        EXPECT_EQ(memory_.dials[0]->cancels, 1);
        // A report that was already on its way when the cancel came.
        memory_.dials[0]->on_result({Status::kNoListener, {}});
    });
    settle();
    EXPECT_TRUE(device_.dials.empty());
    EXPECT_EQ(reports_, 0);
}

TEST_F(FabricChoiceTest, CancelFromWithinTheReportIsHarmless) {
    EndpointOwner owner;
    std::shared_ptr<OutgoingConnection> attempt;
    attempt = choice_.connect({0, 1}, {kOurs, 80}, {}, owner, [&](const Fabric::ConnectResult&) {
        ++reports_;
        attempt->cancel();
        attempt.reset();
    });
    settle();
    on_control([&] { memory_.answer(Status::kRefused); });
    EXPECT_EQ(reports_, 1);
}

// ---- from process to process ------------------------------------------------------------------------

struct PortOf final : FabricPort {
    explicit PortOf(std::string_view name) : name(name) {}
    [[nodiscard]] std::string_view fabric() const noexcept override { return name; }
    void post(Endpoint&, const WorkRequest&) noexcept override {}
    void close(Endpoint&) noexcept override {}
    std::uint32_t poll(std::uint32_t) noexcept override { return 0; }
    void arm() noexcept override {}
    void disarm() noexcept override {}
    const std::string_view name;
};
struct PlainEndpoint final : Endpoint {};

TEST_F(FabricChoiceTest, AConnectionIsExportedByTheFabricThatHasIt) {
    PortOf port("device");
    PlainEndpoint endpoint;
    endpoint.port = &port;
    std::uint32_t token = 0;
    device_.export_status = Status::kPending;
    EXPECT_EQ(choice_.export_connection(endpoint, 0, 4711, {}, token), Status::kPending);
    EXPECT_TRUE(memory_.exported.empty());
    ASSERT_EQ(device_.exported.size(), 1U);
    EXPECT_EQ(device_.exported[0].first, &endpoint);
    EXPECT_EQ(device_.exported[0].second, 4711);
}

TEST_F(FabricChoiceTest, AListenerThatMovesLeavesAllFabrics) {
    ASSERT_EQ(listen_at(0), Status::kOk);
    std::uint32_t token = 0;
    memory_.export_status = Status::kUnreachable;
    EXPECT_EQ(choice_.export_listening(*listening_, 4711, {}, token), Status::kUnreachable);
    EXPECT_EQ(device_.listenings.size(), 1U) << "nothing has changed";
    memory_.export_status = Status::kOk;
    EXPECT_EQ(choice_.export_listening(*listening_, 4711, {}, token), Status::kOk);
    EXPECT_EQ(token, 18U);
    EXPECT_EQ(memory_.exported.back().first, static_cast<Listening*>(memory_.listenings[0]));
    EXPECT_TRUE(device_.listenings.empty());
}

TEST_F(FabricChoiceTest, AListenerThatHasComeListensOnTheOthersAnew) {
    memory_.known_token = 18;
    memory_.token_is_a_listener = true;
    std::unique_ptr<Import> import;
    ASSERT_EQ(choice_.import_socket(18, import), Status::kOk);
    EXPECT_TRUE(import->listening());
    EXPECT_EQ(import->passenger(), std::vector<std::byte>{std::byte{7}});
    ASSERT_EQ(import->listen(
                  {kOurs, 80}, [](const auto&) { return true; }, listening_),
              Status::kOk);
    EXPECT_EQ(memory_.listenings.size(), 1U);
    ASSERT_EQ(device_.listenings.size(), 1U);
    EXPECT_EQ(device_.listenings[0]->local, (Address{kOurs, 80}));
    listening_.reset();
    EXPECT_TRUE(memory_.listenings.empty() && device_.listenings.empty());
}

TEST_F(FabricChoiceTest, AListenerThatHasComeIsKeptThoughTheOthersRefuse) {
    memory_.known_token = 18;
    memory_.token_is_a_listener = true;
    device_.listen_status = Status::kAddressInUse;
    std::unique_ptr<Import> import;
    ASSERT_EQ(choice_.import_socket(18, import), Status::kOk);
    ASSERT_EQ(import->listen(
                  {kOurs, 80}, [](const auto&) { return true; }, listening_),
              Status::kOk);
    EXPECT_EQ(memory_.listenings.size(), 1U);
}

TEST_F(FabricChoiceTest, AConnectionIsImportedFromWhoeverKnowsTheToken) {
    device_.known_token = 17;
    std::unique_ptr<Import> import;
    ASSERT_EQ(choice_.import_socket(17, import), Status::kOk);
    EXPECT_FALSE(import->listening());
    EndpointOwner owner;
    owner.owner = this;
    EXPECT_EQ(import->resume(owner), Status::kOk);
    EXPECT_EQ(device_.resumed, std::vector<void*>{this});
    EXPECT_EQ(choice_.import_socket(19, import), Status::kUnknownToken);
}

TEST_F(FabricChoiceTest, AChildOfForkLeavesAllFabricsAlone) {
    choice_.abandon_in_child();
    EXPECT_EQ(memory_.abandoned, 1);
    EXPECT_EQ(device_.abandoned, 1);
}

// ---- words ------------------------------------------------------------------------------------------

TEST(FabricChoiceWords, EveryReasonHasItsOwn) {
    std::vector<std::string_view> seen;
    for (const Why why : {Why::kOnlyFabric, Why::kThisHost, Why::kNobodyElse, Why::kOnlyWay,
                          Why::kPeer, Why::kHandedOver}) {
        const std::string_view words = to_words(why, FabricKind::kAuto);
        EXPECT_FALSE(words.empty());
        EXPECT_EQ(std::count(seen.begin(), seen.end(), words), 0) << words;
        seen.push_back(words);
    }
    EXPECT_NE(to_words(Why::kOnlyFabric, FabricKind::kShm), seen.front());
    EXPECT_EQ(to_words(Why::kPeer, FabricKind::kShm), to_words(Why::kPeer, FabricKind::kAuto));
}

}  // namespace
}  // namespace sanpoll::engine
