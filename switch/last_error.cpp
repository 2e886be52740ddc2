#include "switch/last_error.hpp"

#include <sanpoll/switch.hpp>

namespace sanpoll_switch {
namespace {

thread_local int last_error = 0;

}  // namespace

namespace detail {

void set_last_error(int error) { last_error = error; }

}  // namespace detail

int WSAGetLastError() { return last_error; }

void WSASetLastError(int error) { last_error = error; }

}  // namespace sanpoll_switch
