// Control operations of fabrics.
#pragma once

#include "engine/polling_core.hpp"

namespace sanpoll::engine {

/// Runs a lambda on the port's core and waits.
template <typename Port, typename Body>
void on_core(Port& port, Body body) {
    struct Op final : ControlOp {
        explicit Op(Body& body) : body(body) {}
        void run() noexcept override { body(); }
        Body& body;
    } op(body);
    port.core().run(op);
}

}  // namespace sanpoll::engine
