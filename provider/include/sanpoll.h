/*
 * What sanpoll has beyond the Windows Sockets Direct interface. A caller that knows nothing of it
 * misses nothing.
 */
#ifndef SANPOLL_SANPOLL_H
#define SANPOLL_SANPOLL_H

#include "ws2san.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * WSPIoctl: which fabric carries a connection, and why. No input; the output is a SANPOLL_FABRIC.
 * Completes at once. Also for a connection that has ended, until its socket is closed.
 *
 *   WSAEFAULT    lpcbBytesReturned is NULL, or the output buffer is, or it is too small: then
 *                *lpcbBytesReturned is the size that is needed
 *   WSAENOTCONN  the socket is not connected, or has been given to another process
 *   WSAENOTSOCK  not a socket
 */
#define SIO_SANPOLL_FABRIC 0x58000001u

/*
 * Texts in ASCII, each ended by a zero. `reason` is for people: its words may change.
 */
typedef struct SANPOLL_FABRIC {
    CHAR fabric[16];  /* "shm": shared memory within this host; "verbs": an RDMA device */
    CHAR device[64];  /* "rxe0", for example; empty if the fabric has none */
    CHAR reason[176]; /* why this fabric */
} SANPOLL_FABRIC;

#ifdef __cplusplus
}
#endif

#endif /* SANPOLL_SANPOLL_H */
