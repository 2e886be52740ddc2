#include "bench/scale_end.hpp"

#include <unistd.h>

#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "bench/cpu_placement.hpp"
#include "bench/helper_process.hpp"
#include "bench/idle_crowd.hpp"
#include "bench/light_socket.hpp"
#include "bench/many_loops.hpp"
#include "bench/process_memory.hpp"
#include "bench/program.hpp"
#include "bench/san_connection.hpp"

namespace sanpoll::bench {
namespace {

using nlohmann::json;

constexpr const char* kHere = "127.0.0.1";
constexpr std::uint32_t kBytes = kScaleMessageBytes;

class ScaleEnd {
public:
    ScaleEnd(ScaleRole role, const std::string& library)
        : serves_(role == ScaleRole::kServer), provider_(load_provider(library)) {}

    json obey(const json& command) {
        const std::string what = command.at("do");
        if (what == "start") return start(command);
        if (what == "open") return open(command);
        if (what == "crowd") return crowd(command);
        if (what == "ping") return ping_pong(command.at("skip"), command.at("count"));
        if (what == "stream") return stream(command.at("count"));
        if (what == "echo")
            return echo(command.at("skip"), command.at("count"), command.at("threads"));
        if (what == "memory") {
            const ProcessMemory memory = memory_of(::getpid());
            return {{"resident_kib", memory.resident}, {"anonymous_kib", memory.anonymous}};
        }
        if (what == "close") {
            connections_.clear();
        } else if (what == "disperse") {
            crowd_.reset();
        } else {
            throw ConnectionFault("told '" + what + "', which it does not know");
        }
        return json::object();
    }

private:
    json start(const json& command) {
        rule_.clock = Clock::calibrate();
        rule_.yield = command.at("yield");
        let_open_files(command.at("files"));
        const int cpu = command.at("cpu");
        if (!pin_this_thread(cpu))
            throw ConnectionFault("CPU " + std::to_string(cpu) + " may not be used");
        if (!serves_) return json::object();
        listener_.emplace(*provider_, kHere);
        idle_listener_.emplace(*provider_);
        return {{"port", listener_->port()}, {"idle_port", idle_listener_->port()}};
    }

    json open(const json& command) {
        const ConnectionShape shape{kBytes, command.at("receives"), command.at("sends")};
        const std::size_t count = command.at("connections");
        for (std::size_t i = 0; i < count; ++i) {
            SanSocket socket =
                serves_
                    ? listener_->accept()
                    : SanConnector::begin(*provider_, kHere, kHere, command.at("port")).finish();
            connections_.push_back(std::make_unique<SanConnection>(std::move(socket), shape,
                                                                   Completion::kPolled, rule_));
        }
        next_ = 0;
        return json::object();
    }

    json crowd(const json& command) {
        if (!crowd_) crowd_.emplace(*provider_, command.at("receives"));
        const std::size_t count = command.at("count");
        for (std::size_t i = 0; i < count; ++i) {
            crowd_->add(serves_ ? idle_listener_->accept()
                                : LightConnect(*provider_, event_, command.at("port")).finish());
        }
        return json::object();
    }

    json ping_pong(std::uint64_t skip, std::uint64_t count) {
        SanConnection& connection = *connections_.front();
        LatencyHistogram histogram;
        const std::uint64_t start = rule_.clock.ticks();
        if (serves_) {
            serve(connection, kBytes, next_, skip + count);
        } else {
            ping(connection, rule_.clock, kBytes, next_, skip, count, histogram);
        }
        next_ += skip + count;
        return answer(histogram, rule_.clock.ticks() - start);
    }

    json stream(std::uint64_t count) {
        Pointers data = all();
        SanConnection* acknowledgements = data.back();
        data.pop_back();
        if (serves_) {
            take_round_robin(data, acknowledgements, kBytes, count);
            return json::object();
        }
        const std::uint64_t ticks =
            send_round_robin(data, acknowledgements, rule_.clock, kBytes, count);
        return {{"elapsed_ns", rule_.clock.to_ns(ticks)}};
    }

    json echo(std::uint64_t skip, std::uint64_t count, std::size_t threads) {
        if (serves_) {
            echo_all(all(), rule_, kBytes, skip + count);
            return json::object();
        }
        LatencyHistogram histogram;
        if (threads <= 1) {
            const std::uint64_t ticks = volley(all(), rule_, kBytes, skip, count, histogram);
            return answer(histogram, ticks);
        }
        return echo_of_threads(skip, count, threads);
    }

    // Each thread drives the connections t, t + threads, ...; it has its share of the messages.
    json echo_of_threads(std::uint64_t skip, std::uint64_t count, std::size_t threads) {
        std::vector<LatencyHistogram> histograms(threads);
        std::exception_ptr fault;
        std::mutex mutex;  // of fault
        std::vector<std::thread> running;
        const std::uint64_t start = rule_.clock.ticks();
        for (std::size_t t = 0; t < threads; ++t) {
            running.emplace_back([&, t] {
                try {
                    Pointers own;
                    for (std::size_t i = t; i < connections_.size(); i += threads)
                        own.push_back(connections_[i].get());
                    volley(own, rule_, kBytes, skip / threads, count / threads, histograms[t]);
                } catch (...) {
                    const std::lock_guard lock(mutex);
                    fault = std::current_exception();
                }
            });
        }
        for (std::thread& thread : running)
            thread.join();
        // With what is skipped: the threads do not end skipping at the same moment.
        const std::uint64_t ticks = rule_.clock.ticks() - start;
        if (fault) std::rethrow_exception(fault);
        for (std::size_t t = 1; t < threads; ++t)
            histograms[0].merge(histograms[t]);
        return answer(histograms[0], ticks);
    }

    using Pointers = std::vector<SanConnection*>;
    Pointers all() {
        Pointers pointers;
        pointers.reserve(connections_.size());
        for (const auto& connection : connections_)
            pointers.push_back(connection.get());
        return pointers;
    }

    json answer(const LatencyHistogram& histogram, std::uint64_t ticks) const {
        return {{"p50", histogram.quantile(0.5)},
                {"p99", histogram.quantile(0.99)},
                {"elapsed_ns", rule_.clock.to_ns(ticks)}};
    }

    bool serves_;
    SpinRule rule_;
    std::unique_ptr<sanpoll_switch::Provider> provider_;
    SanEvent event_;
    std::optional<SanListener> listener_;
    std::optional<LightListener> idle_listener_;
    std::optional<IdleCrowd> crowd_;
    std::vector<std::unique_ptr<SanConnection>> connections_;
    std::uint64_t next_ = 0;  // number of the first connection's next message
};

}  // namespace

int run_scale_end(ScaleRole role, const std::string& library, int control_fd) {
    std::unique_ptr<ScaleEnd> end;
    return obey_leader(control_fd, [&](const json& command) {
        if (!end) end = std::make_unique<ScaleEnd>(role, library);
        return end->obey(command);
    });
}

}  // namespace sanpoll::bench
