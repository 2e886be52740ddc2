// The calling thread's last error, for the functions that Windows lets report that way.
#pragma once

namespace sanpoll_switch::detail {

void set_last_error(int error);

// `return fail(WSA_INVALID_HANDLE, FALSE);`
template <class Result>
Result fail(int error, Result result) {
    set_last_error(error);
    return result;
}

}  // namespace sanpoll_switch::detail
