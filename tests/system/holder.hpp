// A process that holds one end of a connection, or a listener, and gives it away or takes it as it is told.
#pragma once

#include <string>

#include "tests/system/child.hpp"

namespace sanpoll::system_test {

/// Commands and their answers; "error N" is the provider's answer:
///   connect PORT        ok          to that port, and speaks Numbered
///   listen              PORT
///   accept              ok          at the listener, own or taken, and speaks Numbered
///   give PID            TOKEN SENT RECEIVED; the old descriptor stays open
///   give-listener PID   TOKEN
///   take TOKEN SENT RECEIVED        ok
///   take-listener TOKEN ok
///   work COUNT          ok          that many messages sent, and all of them taken
///   until COUNT         SENT        so many messages have come
///   close-old           ok          closes the descriptors that were given away
///   cleanup             ok          ends the provider
///   exit                            ends the process as any program ends
class Holder {
public:
    explicit Holder(const Environment& knobs = {});

    [[nodiscard]] std::string ask(const std::string& command);
    [[nodiscard]] pid_t pid() const { return child_.pid(); }
    void kill();
    void exit();

    /// What `next` needs to take the connection, or "error N".
    [[nodiscard]] std::string give_to(const Holder& next) {
        return ask("give " + std::to_string(next.pid()));
    }

private:
    Child child_;
};

}  // namespace sanpoll::system_test
