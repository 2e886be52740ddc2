#include "engine/fabric/fabric_choice.hpp"

#include <algorithm>
#include <atomic>
#include <new>

#include "engine/fabric/fabric_port.hpp"
#include "engine/log.hpp"

namespace sanpoll::engine {

std::string_view to_words(Why why, FabricKind knob) noexcept {
    switch (why) {
        case Why::kOnlyFabric:
            return knob == FabricKind::kAuto ? "this process has no other fabric"
                                             : "the knob 'fabric' leaves no other";
        case Why::kThisHost:
            return "the address is one of this host";
        case Why::kNobodyElse:
            return "the address is one of this host, but nobody listens there by shared memory";
        case Why::kOnlyWay:
            return "the address is in the network of the device";
        case Why::kPeer:
            return "the peer connected by it";
        case Why::kHandedOver:
            return "the process that had the socket before had it so";
    }
    return {};
}

// ---- addresses --------------------------------------------------------------------------------------

std::vector<std::uint32_t> FabricChoice::addresses() const {
    std::vector<std::uint32_t> all;
    for (const Fabric* fabric : fabrics_) {
        const std::vector<std::uint32_t> some = fabric->addresses();
        all.insert(all.end(), some.begin(), some.end());
    }
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    return all;
}

bool FabricChoice::serves(std::uint32_t ip) const {
    return std::any_of(fabrics_.begin(), fabrics_.end(),
                       [ip](const Fabric* fabric) { return fabric->serves(ip); });
}

bool FabricChoice::reaches(std::uint32_t ip) const {
    return std::any_of(fabrics_.begin(), fabrics_.end(),
                       [ip](const Fabric* fabric) { return fabric->reaches(ip); });
}

// ---- listening --------------------------------------------------------------------------------------

class FabricChoice::ListeningOnAll final : public Listening {
public:
    struct Part {
        Fabric* fabric;
        std::unique_ptr<Listening> listening;
    };
    std::vector<Part>
        parts;  // in the order of the fabrics, except for what was imported: that is the first
};

// kOk also if no other fabric serves the address.
Status FabricChoice::listen_on_others(const Address& local, const OnRequest& on_request,
                                      const Fabric* but, ListeningOnAll& all) {
    for (Fabric* fabric : fabrics_) {
        if (fabric == but || (local.ip != 0 && !fabric->serves(local.ip))) {
            continue;
        }
        std::unique_ptr<Listening> listening;
        if (const Status status = fabric->listen(local, on_request, listening);
            status != Status::kOk) {
            return status;
        }
        all.parts.push_back({fabric, std::move(listening)});
    }
    return Status::kOk;
}

Status FabricChoice::listen(const Address& local, OnRequest on_request,
                            std::unique_ptr<Listening>& listening) {
    auto all = std::make_unique<ListeningOnAll>();
    if (const Status status = listen_on_others(local, on_request, nullptr, *all);
        status != Status::kOk) {
        return status;
    }
    if (all->parts.empty()) {
        return Status::kAddressNotAvailable;  // it was served when the socket was bound
    }
    listening = std::move(all);
    return Status::kOk;
}

// ---- connecting -------------------------------------------------------------------------------------

// State belongs to the control thread; cancelled_ may be set by any.
class FabricChoice::Attempt final : public OutgoingConnection,
                                    public std::enable_shared_from_this<Attempt> {
public:
    Attempt(FabricChoice& choice, const Address& local, const Address& remote, ConnectData data,
            const EndpointOwner& owner, OnResult on_result)
        : choice_(choice),
          local_(local),
          remote_(remote),
          caller_data_(std::move(data)),
          owner_(owner),
          on_result_(std::move(on_result)) {}

    void begin() {
        try {
            for (Fabric* fabric : choice_.fabrics_) {
                if (fabric->reaches(remote_.ip) && (local_.ip == 0 || fabric->serves(local_.ip))) {
                    ways_.push_back(fabric);
                }
            }
        } catch (const std::bad_alloc&) {
            finish({Status::kNoMemory, {}});
            return;
        }
        ask_next();
    }

    void cancel() override {
        // Relaxed: what orders is the call below.
        cancelled_.store(true, std::memory_order_relaxed);
        // Waits: after this nothing may touch the owner any more, which may be reused at once.
        const auto take_back = [self = shared_from_this()] {
            if (const auto current = std::move(self->current_)) {
                current->cancel();
            }
            self->on_result_ = nullptr;
        };
        if (choice_.control_.is_this_thread()) {
            take_back();
        } else {
            choice_.control_.call(take_back);
        }
    }

private:
    void ask_next() {
        if (cancelled_.load(std::memory_order_relaxed)) {
            return;
        }
        if (asked_ == ways_.size()) {
            finish({failure_, {}});
            return;
        }
        Fabric& fabric = *ways_[asked_++];
        const std::size_t turn = asked_;
        std::shared_ptr<OutgoingConnection> outgoing;
        try {
            outgoing = fabric.connect(local_, remote_, caller_data_, owner_,
                                      [self = shared_from_this()](ConnectResult result) {
                                          self->answered(std::move(result));
                                      });
        } catch (const std::bad_alloc&) {
            finish({Status::kNoMemory, {}});
            return;
        }
        // The answer may have come before this, and the next fabric have been asked.
        if (asked_ == turn && on_result_ != nullptr) {
            current_ = std::move(outgoing);
        }
    }

    void answered(ConnectResult result) {
        current_.reset();
        if (result.status == Status::kNoListener || result.status == Status::kNotAllowed) {
            if (asked_ == 1 || result.status != Status::kNoListener) {
                failure_ = result.status;
            }
            ask_next();
            return;
        }
        result.why = asked_ > 1                                  ? Why::kNobodyElse
                     : ways_.front() == choice_.fabrics_.front() ? Why::kThisHost
                                                                 : Why::kOnlyWay;
        finish(std::move(result));
    }

    void finish(ConnectResult result) {
        if (!cancelled_.load(std::memory_order_relaxed) && on_result_ != nullptr) {
            const OnResult report = std::move(on_result_);
            on_result_ = nullptr;
            report(std::move(result));
        }
    }

    FabricChoice& choice_;
    const Address local_;
    const Address remote_;
    const ConnectData caller_data_;
    const EndpointOwner owner_;
    OnResult on_result_;
    std::atomic<bool> cancelled_{false};
    std::vector<Fabric*> ways_;
    std::size_t asked_ = 0;               // of ways_
    Status failure_ = Status::kTimedOut;  // if no way is left
    std::shared_ptr<OutgoingConnection> current_;
};

std::shared_ptr<OutgoingConnection> FabricChoice::connect(const Address& local,
                                                          const Address& remote,
                                                          ConnectData caller_data,
                                                          const EndpointOwner& owner,
                                                          OnResult on_result) {
    auto attempt = std::make_shared<Attempt>(*this, local, remote, std::move(caller_data), owner,
                                             std::move(on_result));
    control_.post([attempt] { attempt->begin(); });
    return attempt;
}

// ---- from process to process ------------------------------------------------------------------------

Status FabricChoice::export_connection(Endpoint& endpoint, std::uint32_t sequence, int process,
                                       std::vector<std::byte> passenger, std::uint32_t& token) {
    const auto found = std::find_if(fabrics_.begin(), fabrics_.end(), [&](const Fabric* fabric) {
        return fabric->name() == endpoint.port->fabric();
    });
    return (*found)->export_connection(endpoint, sequence, process, std::move(passenger), token);
}

Status FabricChoice::export_listening(Listening& listening, int process,
                                      std::vector<std::byte> passenger, std::uint32_t& token) {
    auto& all = static_cast<ListeningOnAll&>(listening);
    ListeningOnAll::Part& first = all.parts.front();
    const Status status =
        first.fabric->export_listening(*first.listening, process, std::move(passenger), token);
    if (status == Status::kOk) {
        all.parts.resize(1);  // before the next process listens there
    }
    return status;
}

class FabricChoice::ListenerImport final : public Import {
public:
    ListenerImport(FabricChoice& choice, Fabric& fabric, std::unique_ptr<Import> import)
        : choice_(choice), fabric_(fabric), import_(std::move(import)) {}

    [[nodiscard]] bool listening() const noexcept override { return true; }
    [[nodiscard]] const std::vector<std::byte>& passenger() const noexcept override {
        return import_->passenger();
    }
    [[nodiscard]] Status resume(const EndpointOwner& owner) override {
        return import_->resume(owner);
    }
    [[nodiscard]] Status listen(const Address& local, OnRequest on_request,
                                std::unique_ptr<Listening>& listening) override {
        auto all = std::make_unique<ListeningOnAll>();
        all->parts.push_back({&fabric_, nullptr});
        if (const Status status = import_->listen(local, on_request, all->parts.front().listening);
            status != Status::kOk) {
            return status;
        }
        // Nobody else has the listener any more, so what has come is kept, whatever becomes of the rest.
        if (const Status status = choice_.listen_on_others(local, on_request, &fabric_, *all);
            status != Status::kOk) {
            log(LogLevel::kWarn,
                "the listener at {} came from another process, but could not be opened again for "
                "devices; it hears this host's processes only",
                to_string(local));
        }
        listening = std::move(all);
        return Status::kOk;
    }

private:
    FabricChoice& choice_;
    Fabric& fabric_;
    const std::unique_ptr<Import> import_;
};

Status FabricChoice::import_socket(std::uint32_t token, std::unique_ptr<Import>& import) {
    Status status = Status::kUnknownToken;
    for (Fabric* fabric : fabrics_) {
        status = fabric->import_socket(token, import);
        if (status == Status::kOk && import->listening()) {
            import = std::make_unique<ListenerImport>(*this, *fabric, std::move(import));
        }
        if (status != Status::kUnknownToken) {
            return status;
        }
    }
    return status;
}

void FabricChoice::progress() {
    for (Fabric* fabric : fabrics_) {
        fabric->progress();
    }
}

void FabricChoice::abandon_in_child() noexcept {
    for (Fabric* fabric : fabrics_) {
        fabric->abandon_in_child();
    }
}

}  // namespace sanpoll::engine
