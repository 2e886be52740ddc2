// A fabric that does what a test tells it, for what stands on fabrics.
#pragma once

#include <algorithm>
#include <string>
#include <utility>

#include "engine/control_thread.hpp"
#include "engine/fabric/fabric.hpp"

namespace sanpoll::tests {

/// Everything in it is touched on the control thread, or by a test that has settled it (ControlThread::call).
class FakeFabric final : public engine::Fabric {
public:
    FakeFabric(std::string name, std::vector<std::uint32_t> own)
        : own_addresses(std::move(own)), name_(std::move(name)) {}

    /// A connect that somebody asked for.
    struct Dial final : engine::OutgoingConnection {
        void cancel() override { ++cancels; }
        engine::Address local;
        engine::Address remote;
        engine::ConnectData caller_data;
        engine::EndpointOwner owner;
        OnResult on_result;
        int cancels = 0;
    };
    struct Heard final : engine::Listening {
        Heard(FakeFabric& fabric, const engine::Address& at, OnRequest taker)
            : fabric(fabric), local(at), on_request(std::move(taker)) {
            fabric.listenings.push_back(this);
        }
        ~Heard() override { std::erase(fabric.listenings, this); }
        FakeFabric& fabric;
        const engine::Address local;
        const OnRequest on_request;
    };
    struct Come final : engine::Import {
        Come(FakeFabric& fabric, bool listener) : fabric(fabric), listener(listener) {}
        [[nodiscard]] bool listening() const noexcept override { return listener; }
        [[nodiscard]] const std::vector<std::byte>& passenger() const noexcept override {
            return words;
        }
        [[nodiscard]] engine::Status resume(const engine::EndpointOwner& owner) override {
            fabric.resumed.push_back(owner.owner);
            return engine::Status::kOk;
        }
        [[nodiscard]] engine::Status listen(
            const engine::Address& local, OnRequest on_request,
            std::unique_ptr<engine::Listening>& listening) override {
            return fabric.listen(local, std::move(on_request), listening);
        }
        FakeFabric& fabric;
        const bool listener;
        const std::vector<std::byte> words{std::byte{7}};
    };

    [[nodiscard]] std::string_view name() const noexcept override { return name_; }
    [[nodiscard]] std::vector<std::uint32_t> addresses() const override { return own_addresses; }
    [[nodiscard]] bool serves(std::uint32_t ip) const override { return has(own_addresses, ip); }
    [[nodiscard]] bool reaches(std::uint32_t ip) const override {
        return has(own_addresses, ip) || has(others, ip);
    }
    [[nodiscard]] engine::Status listen(const engine::Address& local, OnRequest on_request,
                                        std::unique_ptr<engine::Listening>& listening) override {
        if (listen_status == engine::Status::kOk) {
            listening = std::make_unique<Heard>(*this, local, std::move(on_request));
        }
        return listen_status;
    }
    [[nodiscard]] std::shared_ptr<engine::OutgoingConnection> connect(
        const engine::Address& local, const engine::Address& remote,
        engine::ConnectData caller_data, const engine::EndpointOwner& owner,
        OnResult on_result) override {
        auto dial = std::make_shared<Dial>();
        dial->local = local;
        dial->remote = remote;
        dial->caller_data = std::move(caller_data);
        dial->owner = owner;
        dial->on_result = std::move(on_result);
        dials.push_back(dial);
        if (answers_at_once) {
            answer(at_once);
        }
        return dial;
    }
    /// Ends the latest connect, once. On the control thread.
    void answer(engine::Status status, engine::ConnectData callee_data = {}) {
        const OnResult report = std::exchange(dials.back()->on_result, nullptr);
        if (dials.back()->cancels == 0) {
            report({status, std::move(callee_data)});
        }
    }

    [[nodiscard]] engine::Status export_connection(engine::Endpoint& endpoint, std::uint32_t,
                                                   int process, std::vector<std::byte>,
                                                   std::uint32_t& token) override {
        exported.emplace_back(&endpoint, process);
        token = 17;
        return export_status;
    }
    [[nodiscard]] engine::Status export_listening(engine::Listening& listening, int process,
                                                  std::vector<std::byte>,
                                                  std::uint32_t& token) override {
        exported.emplace_back(&listening, process);
        token = 18;
        return export_status;
    }
    [[nodiscard]] engine::Status import_socket(std::uint32_t token,
                                               std::unique_ptr<engine::Import>& import) override {
        if (token != known_token) {
            return engine::Status::kUnknownToken;
        }
        import = std::make_unique<Come>(*this, token_is_a_listener);
        return engine::Status::kOk;
    }
    void abandon_in_child() noexcept override { ++abandoned; }

    std::vector<std::uint32_t> own_addresses;
    std::vector<std::uint32_t> others;  // reached, but not this host's
    engine::Status listen_status = engine::Status::kOk;
    engine::Status export_status = engine::Status::kOk;
    bool answers_at_once = false;  // within connect()
    engine::Status at_once = engine::Status::kNoListener;
    std::uint32_t known_token = 0;
    bool token_is_a_listener = false;

    std::vector<std::shared_ptr<Dial>> dials;
    std::vector<Heard*> listenings;
    std::vector<std::pair<void*, int>> exported;
    std::vector<void*> resumed;
    int abandoned = 0;

private:
    static bool has(const std::vector<std::uint32_t>& list, std::uint32_t ip) {
        return std::find(list.begin(), list.end(), ip) != list.end();
    }

    const std::string name_;
};

}  // namespace sanpoll::tests
