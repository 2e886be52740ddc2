/*
 * Winsock 2 service provider interface: the functions a provider has and the functions it may call.
 *
 * Written from the documented facts for 64-bit Linux, layouts equal to those of 64-bit Windows;
 * compiles as C11 and as C++20, before or after the POSIX socket headers. See wsp/types.h for the
 * types, wsp/constants.h for the constants and for the names that carry a prefix here, wsp/errors.h
 * for the error numbers. Windows Sockets Direct's own part is in ws2san.h.
 *
 * Rules for all functions of WSPPROC_TABLE:
 *  - Any function may be called from any thread at any time, for different sockets or for the same
 *    one. None blocks, except WSPGetOverlappedResult with fWait, and WSPCloseSocket and WSPCleanup
 *    until the pending operations are completed.
 *  - A socket argument is the provider's descriptor (from WSPSocket or WSPAccept). A bad or closed
 *    one is WSAENOTSOCK.
 *  - lpErrno is valid in every call and meaningful when the function fails (wsp/errors.h).
 *  - Lengths are bytes in 32 bits, addresses are struct sockaddr_in of AF_INET.
 *  - An overlapped call that answers WSA_IO_PENDING completes exactly once; any other error starts
 *    nothing and completes never. Buffers and the WSAOVERLAPPED stay the provider's until the
 *    completion.
 * Rules for all upcalls:
 *  - A socket argument is the caller's handle (from WPUCreateSocketHandle), never the provider's
 *    descriptor.
 *  - They may be called from any thread and may call back into the provider: hold no lock.
 *
 * Source: interface documentation, "functions" (the section named after each function) and "types"
 * sections 4 and 5.
 */
#ifndef SANPOLL_WS2SPI_H
#define SANPOLL_WS2SPI_H

#include "wsp/constants.h"
#include "wsp/errors.h"
#include "wsp/types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------- functions of a provider -- */

/*
 * Takes the first queued connection request of a listener, asks lpfnCondition in this thread, and
 * returns the descriptor of the new, connected socket. addr/addrlen (in: space, out: 16) get the
 * peer's address. Empty queue: WSAEWOULDBLOCK; CF_REJECT: WSAECONNREFUSED; CF_DEFER: WSATRY_AGAIN,
 * the request stays first.
 */
typedef SOCKET(WSPAPI* LPWSPACCEPT)(SOCKET s, struct sockaddr* addr, LPINT addrlen,
                                    LPCONDITIONPROC lpfnCondition, DWORD_PTR dwCallbackData,
                                    LPINT lpErrno);

/* Names a socket, once. The port space belongs to TCP/IP: no check against other sockets. */
typedef int(WSPAPI* LPWSPBIND)(SOCKET s, const struct sockaddr* name, int namelen, LPINT lpErrno);

/*
 * Balances one WSPStartupEx. The last one completes what is pending with WSA_OPERATION_ABORTED,
 * closes all sockets, ends the provider's threads, and returns when the library may be unloaded.
 */
typedef int(WSPAPI* LPWSPCLEANUP)(LPINT lpErrno);

/*
 * Ends a socket in any state, also from within an upcall. Pending operations complete with
 * WSA_OPERATION_ABORTED, the peer's with WSAECONNRESET; messages whose send has completed are still
 * delivered. WPUCloseSocketHandle is the last upcall. Does not linger.
 */
typedef int(WSPAPI* LPWSPCLOSESOCKET)(SOCKET s, LPINT lpErrno);

/*
 * Starts (WSAEWOULDBLOCK) or makes a connection; the result is recorded as FD_CONNECT and told by
 * the event of WSPEventSelect. lpCalleeData, if given, stays the provider's until then (len in:
 * capacity, out: bytes received).
 */
typedef int(WSPAPI* LPWSPCONNECT)(SOCKET s, const struct sockaddr* name, int namelen,
                                  LPWSABUF lpCallerData, LPWSABUF lpCalleeData, LPQOS lpSQOS,
                                  LPQOS lpGQOS, LPINT lpErrno);

/*
 * Hands a connected or listening socket to process dwProcessId: completes pending receives with
 * success and 0 bytes and stores a token, for one use by that process, in
 * lpProtocolInfo->dwProviderReserved.
 */
typedef int(WSPAPI* LPWSPDUPLICATESOCKET)(SOCKET s, DWORD dwProcessId,
                                          LPWSAPROTOCOL_INFOW lpProtocolInfo, LPINT lpErrno);

/*
 * Moves the record of network events out and resets hEventObject (if not NULL); only reported error
 * codes are written.
 */
typedef int(WSPAPI* LPWSPENUMNETWORKEVENTS)(SOCKET s, WSAEVENT hEventObject,
                                            LPWSANETWORKEVENTS lpNetworkEvents, LPINT lpErrno);

/*
 * Chooses the events (FD_ACCEPT, FD_CONNECT; 0 = none) that are recorded and then told by
 * signalling hEventObject. Replaces the previous choice; what is true already is signalled at once.
 * The event stays the caller's.
 */
typedef int(WSPAPI* LPWSPEVENTSELECT)(SOCKET s, WSAEVENT hEventObject, LONG lNetworkEvents,
                                      LPINT lpErrno);

/*
 * The result of an overlapped operation, FALSE with WSA_IO_INCOMPLETE while it is pending (fWait
 * FALSE), else waits. May race with the completion. *lpcbTransfer and *lpdwFlags are written on
 * TRUE only.
 */
typedef BOOL(WSPAPI* LPWSPGETOVERLAPPEDRESULT)(SOCKET s, LPWSAOVERLAPPED lpOverlapped,
                                               LPDWORD lpcbTransfer, BOOL fWait, LPDWORD lpdwFlags,
                                               LPINT lpErrno);

/* Reads an option; *optlen in: size of optval, out: size of the value. */
typedef int(WSPAPI* LPWSPGETSOCKOPT)(SOCKET s, int level, int optname, CHAR* optval, LPINT optlen,
                                     LPINT lpErrno);

/* Quality of service by name; FALSE with WSAEOPNOTSUPP where there is none. */
typedef BOOL(WSPAPI* LPWSPGETQOSBYNAME)(SOCKET s, LPWSABUF lpQOSName, LPQOS lpQOS, LPINT lpErrno);

/*
 * SIO_GET_EXTENSION_FUNCTION_POINTER (in: GUID, out: function pointer; any `s`),
 * SIO_ADDRESS_LIST_QUERY (out: SOCKET_ADDRESS_LIST; a small buffer is WSAEFAULT with the size in
 * *lpcbBytesReturned), the QoS codes.
 */
typedef int(WSPAPI* LPWSPIOCTL)(SOCKET s, DWORD dwIoControlCode, LPVOID lpvInBuffer,
                                DWORD cbInBuffer, LPVOID lpvOutBuffer, DWORD cbOutBuffer,
                                LPDWORD lpcbBytesReturned, LPWSAOVERLAPPED lpOverlapped,
                                LPWSAOVERLAPPED_COMPLETION_ROUTINE lpCompletionRoutine,
                                LPWSATHREADID lpThreadId, LPINT lpErrno);

/*
 * Accepts requests from now on, `backlog` of them queued; more are refused. Again on a listener: a
 * new backlog.
 */
typedef int(WSPAPI* LPWSPLISTEN)(SOCKET s, int backlog, LPINT lpErrno);

/*
 * Posts a receive: it takes one message, in posting order. The buffers lie in memory registered on
 * this socket with write access and are the provider's until completion; the array lpBuffers may go
 * after the call. WSAEWOULDBLOCK: nothing was started, try again.
 */
typedef int(WSPAPI* LPWSPRECV)(SOCKET s, LPWSABUF lpBuffers, DWORD dwBufferCount,
                               LPDWORD lpNumberOfBytesRecvd, LPDWORD lpFlags,
                               LPWSAOVERLAPPED lpOverlapped,
                               LPWSAOVERLAPPED_COMPLETION_ROUTINE lpCompletionRoutine,
                               LPWSATHREADID lpThreadId, LPINT lpErrno);

/*
 * Sends one message, which is one receive's completion at the peer. The buffers lie in memory
 * registered on this socket with read access and must not change until completion; the array
 * lpBuffers may go after the call. dwFlags 0. WSAEWOULDBLOCK: nothing was started, try again.
 */
typedef int(WSPAPI* LPWSPSEND)(SOCKET s, LPWSABUF lpBuffers, DWORD dwBufferCount,
                               LPDWORD lpNumberOfBytesSent, DWORD dwFlags,
                               LPWSAOVERLAPPED lpOverlapped,
                               LPWSAOVERLAPPED_COMPLETION_ROUTINE lpCompletionRoutine,
                               LPWSATHREADID lpThreadId, LPINT lpErrno);

typedef int(WSPAPI* LPWSPSETSOCKOPT)(SOCKET s, int level, int optname, const CHAR* optval,
                                     int optlen, LPINT lpErrno);

/*
 * Makes a socket (AF_INET, SOCK_STREAM, IPPROTO_TCP, WSA_FLAG_OVERLAPPED), or attaches to a
 * duplicated one when lpProtocolInfo->dwProviderReserved is not 0. Calls WPUCreateSocketHandle in
 * this thread for a new one.
 */
typedef SOCKET(WSPAPI* LPWSPSOCKET)(int af, int type, int protocol,
                                    LPWSAPROTOCOL_INFOW lpProtocolInfo, GROUP g, DWORD dwFlags,
                                    LPINT lpErrno);

/* Functions that a SAN provider does not have; their entries are NULL. */
typedef INT(WSPAPI* LPWSPADDRESSTOSTRING)(LPSOCKADDR lpsaAddress, DWORD dwAddressLength,
                                          LPWSAPROTOCOL_INFOW lpProtocolInfo,
                                          LPWSTR lpszAddressString, LPDWORD lpdwAddressStringLength,
                                          LPINT lpErrno);
typedef int(WSPAPI* LPWSPASYNCSELECT)(SOCKET s, HWND hWnd, UINT wMsg, LONG lEvent, LPINT lpErrno);
typedef int(WSPAPI* LPWSPCANCELBLOCKINGCALL)(LPINT lpErrno);
typedef int(WSPAPI* LPWSPGETPEERNAME)(SOCKET s, struct sockaddr* name, LPINT namelen,
                                      LPINT lpErrno);
typedef int(WSPAPI* LPWSPGETSOCKNAME)(SOCKET s, struct sockaddr* name, LPINT namelen,
                                      LPINT lpErrno);
typedef SOCKET(WSPAPI* LPWSPJOINLEAF)(SOCKET s, const struct sockaddr* name, int namelen,
                                      LPWSABUF lpCallerData, LPWSABUF lpCalleeData, LPQOS lpSQOS,
                                      LPQOS lpGQOS, DWORD dwFlags, LPINT lpErrno);
typedef int(WSPAPI* LPWSPRECVDISCONNECT)(SOCKET s, LPWSABUF lpInboundDisconnectData, LPINT lpErrno);
typedef int(WSPAPI* LPWSPRECVFROM)(SOCKET s, LPWSABUF lpBuffers, DWORD dwBufferCount,
                                   LPDWORD lpNumberOfBytesRecvd, LPDWORD lpFlags,
                                   struct sockaddr* lpFrom, LPINT lpFromlen,
                                   LPWSAOVERLAPPED lpOverlapped,
                                   LPWSAOVERLAPPED_COMPLETION_ROUTINE lpCompletionRoutine,
                                   LPWSATHREADID lpThreadId, LPINT lpErrno);
typedef int(WSPAPI* LPWSPSELECT)(int nfds, wsp_fd_set* readfds, wsp_fd_set* writefds,
                                 wsp_fd_set* exceptfds, const wsp_timeval* timeout, LPINT lpErrno);
typedef int(WSPAPI* LPWSPSENDDISCONNECT)(SOCKET s, LPWSABUF lpOutboundDisconnectData,
                                         LPINT lpErrno);
typedef int(WSPAPI* LPWSPSENDTO)(SOCKET s, LPWSABUF lpBuffers, DWORD dwBufferCount,
                                 LPDWORD lpNumberOfBytesSent, DWORD dwFlags,
                                 const struct sockaddr* lpTo, int iTolen,
                                 LPWSAOVERLAPPED lpOverlapped,
                                 LPWSAOVERLAPPED_COMPLETION_ROUTINE lpCompletionRoutine,
                                 LPWSATHREADID lpThreadId, LPINT lpErrno);
typedef int(WSPAPI* LPWSPSHUTDOWN)(SOCKET s, int how, LPINT lpErrno);
typedef INT(WSPAPI* LPWSPSTRINGTOADDRESS)(LPWSTR AddressString, INT AddressFamily,
                                          LPWSAPROTOCOL_INFOW lpProtocolInfo, LPSOCKADDR lpAddress,
                                          LPINT lpAddressLength, LPINT lpErrno);

/*
 * Filled by WSPStartupEx. The order is part of the binary interface; GetSockOpt before GetQOSByName
 * is no mistake. The functions stay valid until the last WSPCleanup.
 */
typedef struct WSPPROC_TABLE {
    LPWSPACCEPT lpWSPAccept;
    LPWSPADDRESSTOSTRING lpWSPAddressToString; /* NULL */
    LPWSPASYNCSELECT lpWSPAsyncSelect;         /* NULL */
    LPWSPBIND lpWSPBind;
    LPWSPCANCELBLOCKINGCALL lpWSPCancelBlockingCall; /* NULL */
    LPWSPCLEANUP lpWSPCleanup;
    LPWSPCLOSESOCKET lpWSPCloseSocket;
    LPWSPCONNECT lpWSPConnect;
    LPWSPDUPLICATESOCKET lpWSPDuplicateSocket;
    LPWSPENUMNETWORKEVENTS lpWSPEnumNetworkEvents;
    LPWSPEVENTSELECT lpWSPEventSelect;
    LPWSPGETOVERLAPPEDRESULT lpWSPGetOverlappedResult;
    LPWSPGETPEERNAME lpWSPGetPeerName; /* NULL */
    LPWSPGETSOCKNAME lpWSPGetSockName; /* NULL */
    LPWSPGETSOCKOPT lpWSPGetSockOpt;
    LPWSPGETQOSBYNAME lpWSPGetQOSByName;
    LPWSPIOCTL lpWSPIoctl;
    LPWSPJOINLEAF lpWSPJoinLeaf; /* NULL */
    LPWSPLISTEN lpWSPListen;
    LPWSPRECV lpWSPRecv;
    LPWSPRECVDISCONNECT lpWSPRecvDisconnect; /* NULL */
    LPWSPRECVFROM lpWSPRecvFrom;             /* NULL */
    LPWSPSELECT lpWSPSelect;                 /* NULL */
    LPWSPSEND lpWSPSend;
    LPWSPSENDDISCONNECT lpWSPSendDisconnect; /* NULL */
    LPWSPSENDTO lpWSPSendTo;                 /* NULL */
    LPWSPSETSOCKOPT lpWSPSetSockOpt;
    LPWSPSHUTDOWN lpWSPShutdown; /* NULL */
    LPWSPSOCKET lpWSPSocket;
    LPWSPSTRINGTOADDRESS lpWSPStringToAddress; /* NULL */
} WSPPROC_TABLE, *LPWSPPROC_TABLE;

/* ----------------------------------------------------------------------------------- upcalls -- */

/* Closes an event that the provider made. FALSE: WSA_INVALID_HANDLE. */
typedef BOOL(WSPAPI* LPWPUCLOSEEVENT)(WSAEVENT hEvent, LPINT lpErrno);

/*
 * Closes a handle of WPUCreateSocketHandle: the last upcall for a socket. SOCKET_ERROR:
 * WSAENOTSOCK.
 */
typedef int(WSPAPI* LPWPUCLOSESOCKETHANDLE)(SOCKET s, LPINT lpErrno);

/* New event, manual-reset, nonsignaled. WSA_INVALID_EVENT: WSA_NOT_ENOUGH_MEMORY. */
typedef WSAEVENT(WSPAPI* LPWPUCREATEEVENT)(LPINT lpErrno);

/* New handle that carries the provider's dwContext. INVALID_SOCKET: WSAENOBUFS. */
typedef SOCKET(WSPAPI* LPWPUCREATESOCKETHANDLE)(DWORD dwCatalogEntryId, DWORD_PTR dwContext,
                                                LPINT lpErrno);

/* Not 0 if the set contains the handle. */
typedef int(WSPAPI* LPWPUFDISSET)(SOCKET s, wsp_fd_set* fdset);

/*
 * Path of a provider's library; *lpProviderDllPathLen in UTF-16 units. SOCKET_ERROR: WSAEINVAL,
 * WSAEFAULT.
 */
typedef int(WSPAPI* LPWPUGETPROVIDERPATH)(LPGUID lpProviderId, LPWSTR lpszProviderDllPath,
                                          LPINT lpProviderDllPathLen, LPINT lpErrno);

/*
 * For providers whose descriptors are file handles; a SAN provider's are not. INVALID_SOCKET:
 * WSAEINVAL.
 */
typedef SOCKET(WSPAPI* LPWPUMODIFYIFSHANDLE)(DWORD dwCatalogEntryId, SOCKET ProposedHandle,
                                             LPINT lpErrno);

/* Posts a window message. */
typedef BOOL(WSPAPI* LPWPUPOSTMESSAGE)(HWND hWnd, UINT Msg, WPARAM wParam, LPARAM lParam);

/* 0, with a NULL callback if there is none. SOCKET_ERROR: WSAEFAULT, WSAEINVAL. */
typedef int(WSPAPI* LPWPUQUERYBLOCKINGCALLBACK)(DWORD dwCatalogEntryId,
                                                LPBLOCKINGCALLBACK* lplpfnCallback,
                                                PDWORD_PTR lpdwContext, LPINT lpErrno);

/* Reads the context of WPUCreateSocketHandle back. SOCKET_ERROR: WSAENOTSOCK. */
typedef int(WSPAPI* LPWPUQUERYSOCKETHANDLECONTEXT)(SOCKET s, PDWORD_PTR lpContext, LPINT lpErrno);

/* Queues a user APC for a thread. SOCKET_ERROR: WSAEFAULT. */
typedef int(WSPAPI* LPWPUQUEUEAPC)(LPWSATHREADID lpThreadId, LPWSAUSERAPC lpfnUserApc,
                                   DWORD_PTR dwContext, LPINT lpErrno);

/*
 * Nonsignaled or signaled; what was written before WPUSetEvent is seen after the wait. FALSE:
 * WSA_INVALID_HANDLE.
 */
typedef BOOL(WSPAPI* LPWPURESETEVENT)(WSAEVENT hEvent, LPINT lpErrno);
typedef BOOL(WSPAPI* LPWPUSETEVENT)(WSAEVENT hEvent, LPINT lpErrno);

/* A handle to the calling thread, and its end. SOCKET_ERROR: WSANOTINITIALISED. */
typedef int(WSPAPI* LPWPUOPENCURRENTTHREAD)(LPWSATHREADID lpThreadId, LPINT lpErrno);
typedef int(WSPAPI* LPWPUCLOSETHREAD)(LPWSATHREADID lpThreadId, LPINT lpErrno);

/*
 * The upcalls of general Winsock. Windows Sockets Direct passes WSPUPCALLTABLEEX (ws2san.h), which
 * begins the same.
 */
typedef struct WSPUPCALLTABLE {
    LPWPUCLOSEEVENT lpWPUCloseEvent;
    LPWPUCLOSESOCKETHANDLE lpWPUCloseSocketHandle;
    LPWPUCREATEEVENT lpWPUCreateEvent;
    LPWPUCREATESOCKETHANDLE lpWPUCreateSocketHandle;
    LPWPUFDISSET lpWPUFDIsSet;
    LPWPUGETPROVIDERPATH lpWPUGetProviderPath;
    LPWPUMODIFYIFSHANDLE lpWPUModifyIFSHandle;
    LPWPUPOSTMESSAGE lpWPUPostMessage;
    LPWPUQUERYBLOCKINGCALLBACK lpWPUQueryBlockingCallback;
    LPWPUQUERYSOCKETHANDLECONTEXT lpWPUQuerySocketHandleContext;
    LPWPUQUEUEAPC lpWPUQueueApc;
    LPWPURESETEVENT lpWPUResetEvent;
    LPWPUSETEVENT lpWPUSetEvent;
    LPWPUOPENCURRENTTHREAD lpWPUOpenCurrentThread;
    LPWPUCLOSETHREAD lpWPUCloseThread;
} WSPUPCALLTABLE, *LPWSPUPCALLTABLE;

#ifdef __cplusplus
}
#endif

/* ----------------------------------------------------------------------------------- layouts -- */

WSP_ASSERT_SIZE(WSPPROC_TABLE, 240);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPAccept, 0);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPAddressToString, 8);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPAsyncSelect, 16);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPBind, 24);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPCancelBlockingCall, 32);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPCleanup, 40);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPCloseSocket, 48);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPConnect, 56);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPDuplicateSocket, 64);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPEnumNetworkEvents, 72);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPEventSelect, 80);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPGetOverlappedResult, 88);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPGetPeerName, 96);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPGetSockName, 104);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPGetSockOpt, 112);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPGetQOSByName, 120);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPIoctl, 128);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPJoinLeaf, 136);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPListen, 144);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPRecv, 152);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPRecvDisconnect, 160);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPRecvFrom, 168);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPSelect, 176);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPSend, 184);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPSendDisconnect, 192);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPSendTo, 200);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPSetSockOpt, 208);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPShutdown, 216);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPSocket, 224);
WSP_ASSERT_OFFSET(WSPPROC_TABLE, lpWSPStringToAddress, 232);

WSP_ASSERT_SIZE(WSPUPCALLTABLE, 120);
WSP_ASSERT_OFFSET(WSPUPCALLTABLE, lpWPUCloseEvent, 0);
WSP_ASSERT_OFFSET(WSPUPCALLTABLE, lpWPUCloseSocketHandle, 8);
WSP_ASSERT_OFFSET(WSPUPCALLTABLE, lpWPUCreateEvent, 16);
WSP_ASSERT_OFFSET(WSPUPCALLTABLE, lpWPUCreateSocketHandle, 24);
WSP_ASSERT_OFFSET(WSPUPCALLTABLE, lpWPUFDIsSet, 32);
WSP_ASSERT_OFFSET(WSPUPCALLTABLE, lpWPUGetProviderPath, 40);
WSP_ASSERT_OFFSET(WSPUPCALLTABLE, lpWPUModifyIFSHandle, 48);
WSP_ASSERT_OFFSET(WSPUPCALLTABLE, lpWPUPostMessage, 56);
WSP_ASSERT_OFFSET(WSPUPCALLTABLE, lpWPUQueryBlockingCallback, 64);
WSP_ASSERT_OFFSET(WSPUPCALLTABLE, lpWPUQuerySocketHandleContext, 72);
WSP_ASSERT_OFFSET(WSPUPCALLTABLE, lpWPUQueueApc, 80);
WSP_ASSERT_OFFSET(WSPUPCALLTABLE, lpWPUResetEvent, 88);
WSP_ASSERT_OFFSET(WSPUPCALLTABLE, lpWPUSetEvent, 96);
WSP_ASSERT_OFFSET(WSPUPCALLTABLE, lpWPUOpenCurrentThread, 104);
WSP_ASSERT_OFFSET(WSPUPCALLTABLE, lpWPUCloseThread, 112);

#endif /* SANPOLL_WS2SPI_H */
