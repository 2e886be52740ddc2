/*
 * The interface's headers in C11, after the POSIX headers, whose own names must have kept their
 * meaning.
 */
/* The order is what is tested. */
/* clang-format off */
#include <sanpoll.h>
#include <ws2san.h>

#include "spi_headers_posix.h"
/* clang-format on */

_Static_assert(SOL_SOCKET != WSP_SOL_SOCKET, "the host's SOL_SOCKET is untouched");
_Static_assert(SO_REUSEADDR != WSP_SO_REUSEADDR, "the host's SO_REUSEADDR is untouched");
_Static_assert(SOMAXCONN != WSP_SOMAXCONN, "the host's SOMAXCONN is untouched");
_Static_assert(FIONBIO != WSP_FIONBIO, "the host's FIONBIO is untouched");
_Static_assert(sizeof(fd_set) != sizeof(wsp_fd_set), "the host's fd_set is untouched");
_Static_assert(sizeof(struct timeval) != sizeof(wsp_timeval), "the host's timeval is untouched");
_Static_assert(sizeof(struct linger) != sizeof(wsp_linger), "the host's linger is untouched");
_Static_assert(SOCK_STREAM == 1 && IPPROTO_TCP == 6 && AF_INET == 2 && TCP_NODELAY == 1,
               "same on both");

/* ISO C wants a translation unit not to be empty. */
extern LPWSPSTARTUPEX spi_startup_seen_by_c;
LPWSPSTARTUPEX spi_startup_seen_by_c = 0;
