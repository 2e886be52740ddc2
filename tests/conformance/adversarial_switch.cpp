#include "tests/conformance/adversarial_switch.hpp"

#include <algorithm>
#include <cstring>
#include <sstream>

namespace sanpoll::conformance {
namespace {

constexpr std::size_t kTraceLength = 60;
constexpr std::size_t kGraves = 500;
constexpr int kGraveByte = 0x5A;

}  // namespace

const std::vector<AdversarialSwitch::Action>& AdversarialSwitch::actions() {
    using Self = AdversarialSwitch;
    static const std::vector<Action> all{
        {"socket", 6, &Self::do_socket},
        {"bind", 8, &Self::do_bind},
        {"listen", 6, &Self::do_listen},
        {"connect", 8, &Self::do_connect},
        {"accept", 8, &Self::do_accept},
        {"connect a pair", 12, &Self::do_connect_pair},
        {"select events", 4, &Self::do_event_select},
        {"enumerate events", 4, &Self::do_enum_events},
        {"close", 8, &Self::do_close},
        {"stale descriptor", 4, &Self::do_stale},
        {"nonsense", 4, &Self::do_nonsense},
        {"register", 3, &Self::do_register},
        {"deregister", 3, &Self::do_deregister},
        {"expose", 10, &Self::do_expose},
        {"conceal", 6, &Self::do_conceal},
        {"RDMA", 70, &Self::do_rdma},
        {"doomed RDMA", 2, &Self::do_doomed_rdma},
        {"bad RDMA", 6, &Self::do_bad_rdma},
        {"bad exposure", 3, &Self::do_bad_expose},
        {"duplicate", 4, &Self::do_duplicate},
        {"send", 60, &Self::do_send},
        {"receive", 65, &Self::do_receive},
        {"bad transfer", 6, &Self::do_bad_transfer},
        {"result", 12, &Self::do_result},
        {"harvest", 12, &Self::do_harvest},
    };
    return all;
}

AdversarialSwitch::AdversarialSwitch(Calls& san, RecordingSwitch& upcalls, std::uint64_t seed)
    : san_(san),
      upcalls_(upcalls),
      seed_(seed),
      random_(seed),
      acting_(upcalls.on_complete([this](const Upcall& call) {
          auto* operation = static_cast<Operation*>(call.overlapped);
          operation->upcall_error = call.error;
          operation->upcall_bytes = call.bytes;
          operation->upcall_handle = call.handle;
          operation->upcall_number = ++upcall_count_;
          operation->upcalls.fetch_add(1, std::memory_order_release);
      })) {}

AdversarialSwitch::~AdversarialSwitch() {
    // After a failure too: the provider may still write into operations that the model owns.
    for (ModelSocket& socket : sockets_) {
        if (socket.phase != Phase::kNone) {
            (void)san_.close(socket.s);
        }
    }
}

void AdversarialSwitch::run(std::uint64_t steps) {
    unsigned total = 0;
    for (const Action& action : actions()) {
        total += action.weight;
    }
    for (step_ = 1; step_ <= steps && !failed_; ++step_) {
        auto pick = static_cast<unsigned>(random_() % total);
        const std::uint64_t where = random_();
        const std::uint64_t what = random_();
        const Draw draw{where % kSlots, where / kSlots % kSlots,
                        static_cast<std::uint32_t>(what & 0xFFFF),
                        static_cast<std::uint32_t>(what >> 16 & 0xFFFFFF),
                        static_cast<std::uint32_t>(what >> 40)};
        for (const Action& action : actions()) {
            if (pick < action.weight) {
                action_ = action.name;
                slot_ = draw.slot;
                (this->*action.run)(draw);
                break;
            }
            pick -= action.weight;
        }
        if (step_ % 64 == 0) {
            for (std::size_t slot = 0; slot < kSlots && !failed_; ++slot) {
                harvest(slot);
                if (!failed_ && sockets_[slot].phase == Phase::kConnected) {
                    check_memory(*sockets_[slot].connection);
                }
            }
        }
    }
}

void AdversarialSwitch::finish() {
    action_ = "finish";
    for (std::size_t slot = 0; slot < kSlots && !failed_; ++slot) {
        if (sockets_[slot].phase != Phase::kNone) {
            do_close({slot, slot, 1, 0, 0});
        }
    }
    while (!graves_.empty() && !failed_) {
        bury(nullptr);
    }
    if (!failed_) {
        check(upcalls_.open_handles() == 0, "a handle is left open");
        const std::vector<std::string> violations = upcalls_.violations();
        if (!violations.empty()) {
            fail("the switch noted: " + violations.front());
        }
    }
}

// ---- connects that end -----------------------------------------------------------------------------------

std::vector<int> AdversarialSwitch::by_phase(const ModelSocket& socket,
                                             std::array<int, 5> answers) const {
    std::vector<int> allowed{answers[static_cast<std::size_t>(socket.phase) - 1]};
    if (socket.phase == Phase::kConnecting && (socket.may_be_refused || socket.may_be_reset)) {
        allowed.push_back(answers[1]);  // it may have failed just now
    }
    return allowed;
}

// A connect to the wildcard only looks at the state: it answers for it, or that nobody is there.
void AdversarialSwitch::refresh(std::size_t slot) {
    ModelSocket& socket = sockets_[slot];
    if (socket.phase != Phase::kConnecting) {
        return;
    }
    const int answer = san_.connect(socket.s, address_of(INADDR_ANY, 0));
    if (answer == WSAEALREADY) {
        return;
    }
    if (check(answer == WSAEADDRNOTAVAIL, "a connect ended as if it had been accepted") &&
        check(socket.may_be_refused || socket.may_be_reset, "a connect failed without a reason")) {
        connect_failed(slot);
    }
}

void AdversarialSwitch::settle(std::size_t slot) {
    check(eventually([&] {
              refresh(slot);
              return failed_ || sockets_[slot].phase != Phase::kConnecting;
          }),
          "a connect that must fail does not end");
}

void AdversarialSwitch::connect_failed(std::size_t slot) {
    caller_leaves(slot);
    sockets_[slot].phase = Phase::kBound;
    sockets_[slot].connect_unreported = true;
}

void AdversarialSwitch::caller_leaves(std::size_t slot) {
    for (ModelSocket& listener : sockets_) {
        std::erase(listener.callers, slot);
    }
}

void AdversarialSwitch::judge_backlog(ModelSocket& listener) {
    // Requests need not arrive in the order of the calls, and those that were withdrawn may still count.
    if (listener.callers.size() + listener.withdrawn.size() >
        static_cast<std::size_t>(listener.backlog)) {
        for (const std::size_t caller : listener.callers) {
            sockets_[caller].may_be_refused = true;
        }
    }
}

// ---- verdicts -----------------------------------------------------------------------------------------------

void AdversarialSwitch::bury(std::unique_ptr<Operation> operation) {
    if (operation) {
        const int upcalls = operation->upcalls.load(std::memory_order_acquire);
        check(upcalls == (operation->notified ? 1 : 0), "a completion too many or too few");
        std::memset(static_cast<WSAOVERLAPPED*>(operation.get()), kGraveByte,
                    sizeof(WSAOVERLAPPED));
        graves_.push_back(std::move(operation));
        if (graves_.size() <= kGraves) {
            return;
        }
    }
    Operation& oldest = *graves_.front();
    const auto* bytes = reinterpret_cast<const char*>(static_cast<WSAOVERLAPPED*>(&oldest));
    check(std::all_of(bytes, bytes + sizeof(WSAOVERLAPPED),
                      [](char c) { return c == static_cast<char>(kGraveByte); }),
          "a WSAOVERLAPPED was touched after its completion");
    check(oldest.upcalls.load(std::memory_order_acquire) == (oldest.notified ? 1 : 0),
          "a second completion came later");
    graves_.pop_front();
}

void AdversarialSwitch::note(const char* what, int answer) {
    ++calls_;
    std::ostringstream line;
    line << "step " << step_ << " slot " << slot_ << " " << action_ << ": " << what << " -> "
         << answer;
    trace_.push_back(line.str());
    if (trace_.size() > kTraceLength) {
        trace_.pop_front();
    }
}

bool AdversarialSwitch::expect(int answer, const std::vector<int>& allowed, const char* what) {
    note(what, answer);
    if (answer == WSAEINTR || answer == WSAEINPROGRESS) {
        fail(std::string(what) + " answers a code that is never used");
        return false;
    }
    if (std::find(allowed.begin(), allowed.end(), answer) == allowed.end()) {
        fail(std::string(what) + " answers " + std::to_string(answer) + ", not one of " +
             testing::PrintToString(allowed));
        return false;
    }
    return true;
}

bool AdversarialSwitch::check(bool sound, const char* what) {
    if (!sound) {
        fail(what);
    }
    return sound;
}

void AdversarialSwitch::fail(const std::string& what) {
    if (failed_) {
        return;  // the first one is what matters
    }
    failed_ = true;
    std::ostringstream text;
    text << "seed " << seed_ << " (SANPOLL_ADVERSARIAL_SEED), step " << step_ << ", slot " << slot_
         << ", " << action_ << ": " << what << "\nthe latest calls:";
    for (const std::string& line : trace_) {
        text << "\n  " << line;
    }
    ADD_FAILURE() << text.str();
}

}  // namespace sanpoll::conformance
