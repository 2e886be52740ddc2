/*
 * Windows Sockets Direct: what a SAN service provider has beyond the general interface of ws2spi.h.
 *
 * A caller loads the provider's library, looks WSPStartupEx up by name, calls it, and fetches the
 * extension functions with WSPIoctl(SIO_GET_EXTENSION_FUNCTION_POINTER). Nothing else of the
 * library is called by name.
 *
 * The rules of ws2spi.h hold here too: any thread, no blocking, WSAENOTSOCK for a bad descriptor.
 *
 * Source: interface documentation, "functions" (WSPStartupEx and part B) and "types" sections 2.2,
 * 5, 6.6 and 6.9.
 */
#ifndef SANPOLL_WS2SAN_H
#define SANPOLL_WS2SAN_H

#include "ws2spi.h"

/* --------------------------------------------------------------------------------- constants -- */

/*
 * Access to registered memory. WSPRegisterMemory: what the local transfer does (MEM_READ: source of
 * a send or RDMA write, MEM_WRITE: destination of a receive or RDMA read). WSPRegisterRdmaMemory:
 * what the peer may do.
 */
#define MEM_READ 1
#define MEM_WRITE 2
#define MEM_READWRITE 3

/*
 * Initialisers of a GUID, input of SIO_GET_EXTENSION_FUNCTION_POINTER. The last two functions are
 * optional.
 */
/* clang-format off */
#define WSAID_REGISTERMEMORY \
  { 0xC0B422F5u, 0xF58C, 0x11D1, { 0xAD, 0x6C, 0x00, 0xC0, 0x4F, 0xA3, 0x4A, 0x2D } }
#define WSAID_DEREGISTERMEMORY \
  { 0xC0B422F6u, 0xF58C, 0x11D1, { 0xAD, 0x6C, 0x00, 0xC0, 0x4F, 0xA3, 0x4A, 0x2D } }
#define WSAID_REGISTERRDMAMEMORY \
  { 0xC0B422F7u, 0xF58C, 0x11D1, { 0xAD, 0x6C, 0x00, 0xC0, 0x4F, 0xA3, 0x4A, 0x2D } }
#define WSAID_DEREGISTERRDMAMEMORY \
  { 0xC0B422F8u, 0xF58C, 0x11D1, { 0xAD, 0x6C, 0x00, 0xC0, 0x4F, 0xA3, 0x4A, 0x2D } }
#define WSAID_RDMAWRITE \
  { 0xC0B422F9u, 0xF58C, 0x11D1, { 0xAD, 0x6C, 0x00, 0xC0, 0x4F, 0xA3, 0x4A, 0x2D } }
#define WSAID_RDMAREAD \
  { 0xC0B422FAu, 0xF58C, 0x11D1, { 0xAD, 0x6C, 0x00, 0xC0, 0x4F, 0xA3, 0x4A, 0x2D } }
#define WSAID_MEMORYREGISTRATIONCACHECALLBACK \
  { 0xE5DA4AF8u, 0xD824, 0x48CD, { 0xA7, 0x99, 0x63, 0x37, 0xA9, 0x8E, 0xD2, 0xAF } }
/* clang-format on */

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------------------------- types -- */

/*
 * One piece of memory of an RDMA transfer; handle is that of WSPRegisterMemory on the same socket.
 */
typedef struct WSABUFEX {
    ULONG len;
    CHAR* buf;
    HANDLE handle;
} WSABUFEX, *LPWSABUFEX;

/*
 * Reports the completion of an operation whose hEvent had the low-order bit 0: sets InternalHigh,
 * then Internal, then signals hEvent or queues to a completion port, as the caller's side has it.
 * The provider writes Offset and OffsetHigh before and touches nothing after; `s` is the handle of
 * WPUCreateSocketHandle. SOCKET_ERROR: WSAEINVAL.
 */
typedef int(WSPAPI* LPWPUCOMPLETEOVERLAPPEDREQUEST)(SOCKET s, LPWSAOVERLAPPED lpOverlapped,
                                                    DWORD dwError, DWORD cbTransferred,
                                                    LPINT lpErrno);

/*
 * Passed by pointer; the provider copies it during WSPStartupEx. The first 15 are those of
 * WSPUPCALLTABLE.
 */
typedef struct WSPUPCALLTABLEEX {
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
    LPWPUCOMPLETEOVERLAPPEDREQUEST lpWPUCompleteOverlappedRequest;
} WSPUPCALLTABLEEX, *LPWSPUPCALLTABLEEX;

/* --------------------------------------------------------------------------------- functions -- */

/*
 * Registers [lpBuffer, lpBuffer + dwBufferLength) for transfers on a connected socket; dwFlags
 * MEM_*. Every page of it has to be mapped, readable, and writable for MEM_WRITE: WSAEFAULT
 * otherwise, with a line in the log; WSAENOBUFS if there is no memory for its pages. Short ranges are
 * faulted in by that, so that transfers need not; a mapping of a file or copied on write then has
 * pages as if it had been written to. The memory stays the caller's, and so do its mapping and
 * protection: both are looked at during this call only, and must stay good as long as the memory is
 * registered. A transfer that finds the memory gone or protected ends this process by SIGSEGV, as any
 * other access to it would. The handle is good for this socket in this process. NULL on failure.
 */
typedef HANDLE(WSPAPI* LPFN_WSPREGISTERMEMORY)(SOCKET s, PVOID lpBuffer, DWORD dwBufferLength,
                                               DWORD dwFlags, LPINT lpErrno);

/* Undoes one WSPRegisterMemory. WSAEINVAL while a transfer uses the memory: it stays registered. */
typedef int(WSPAPI* LPFN_WSPDEREGISTERMEMORY)(SOCKET s, HANDLE Handle, LPINT lpErrno);

/*
 * Exposes memory to the connected peer (dwFlags MEM_*: what the peer may do) and writes an opaque
 * descriptor, which the caller sends to the peer. *lpdwDescriptorLength in: space, out: size; too
 * small is WSAEFAULT with the size. The memory is checked as above, and must stay mapped and as accessible
 * as it is until it is deregistered: the peer's transfers, too, may be carried out by this process.
 */
typedef int(WSPAPI* LPFN_WSPREGISTERRDMAMEMORY)(SOCKET s, PVOID lpBuffer, DWORD dwBufferLength,
                                                DWORD dwFlags, LPVOID lpRdmaBufferDescriptor,
                                                LPDWORD lpdwDescriptorLength, LPINT lpErrno);

/* Undoes one WSPRegisterRdmaMemory. When it has returned, the peer reaches not one byte more. */
typedef int(WSPAPI* LPFN_WSPDEREGISTERRDMAMEMORY)(SOCKET s, LPVOID lpRdmaBufferDescriptor,
                                                  DWORD dwDescriptorLength, LPINT lpErrno);

/*
 * Overlapped copy from local buffers into the peer's exposed memory, at dwTargetBufferOffset bytes.
 * Visible there before any message that is sent afterwards. Local buffers are the provider's until
 * completion.
 */
typedef int(WSPAPI* LPFN_WSPRDMAWRITE)(SOCKET s, LPWSABUFEX lpBuffers, DWORD dwBufferCount,
                                       LPVOID lpTargetBufferDescriptor,
                                       DWORD dwTargetDescriptorLength, DWORD dwTargetBufferOffset,
                                       LPDWORD lpdwNumberOfBytesWritten, DWORD dwFlags,
                                       LPWSAOVERLAPPED lpOverlapped,
                                       LPWSAOVERLAPPED_COMPLETION_ROUTINE lpCompletionRoutine,
                                       LPWSATHREADID lpThreadId, LPINT lpErrno);

/*
 * Overlapped copy from the peer's exposed memory into local buffers. A message sent afterwards
 * waits for it.
 */
typedef int(WSPAPI* LPFN_WSPRDMAREAD)(SOCKET s, LPWSABUFEX lpBuffers, DWORD dwBufferCount,
                                      LPVOID lpTargetBufferDescriptor,
                                      DWORD dwTargetDescriptorLength, DWORD dwTargetBufferOffset,
                                      LPDWORD lpdwNumberOfBytesRead, DWORD dwFlags,
                                      LPWSAOVERLAPPED lpOverlapped,
                                      LPWSAOVERLAPPED_COMPLETION_ROUTINE lpCompletionRoutine,
                                      LPWSATHREADID lpThreadId, LPINT lpErrno);

/*
 * Called before [lpvAddress, lpvAddress + Size) is unmapped or remapped: cached registrations there
 * end.
 */
typedef int(WSPAPI* LPFN_WSPMEMORYREGISTRATIONCACHECALLBACK)(PVOID lpvAddress, SIZE_T Size,
                                                             LPINT lpErrno);

typedef int(WSPAPI* LPWSPSTARTUPEX)(WORD wVersionRequested, LPWSPDATA lpWSPData,
                                    LPWSAPROTOCOL_INFOW lpProtocolInfo,
                                    LPWSPUPCALLTABLEEX lpUpcallTable, LPWSPPROC_TABLE lpProcTable);

/*
 * The library's entry point. wVersionRequested is MAKEWORD(2, 2), lpProtocolInfo the TCP/IP
 * provider's. Copies the upcall table, fills *lpWSPData and *lpProcTable (17 entries, the others
 * NULL). Counted: one WSPCleanup for each. Returns 0 or the error number: WSASYSNOTREADY,
 * WSAVERNOTSUPPORTED, WSAEPROCLIM, WSAEFAULT, WSAEPROVIDERFAILEDINIT.
 */
__attribute__((visibility("default"))) int WSPAPI WSPStartupEx(WORD wVersionRequested,
                                                               LPWSPDATA lpWSPData,
                                                               LPWSAPROTOCOL_INFOW lpProtocolInfo,
                                                               LPWSPUPCALLTABLEEX lpUpcallTable,
                                                               LPWSPPROC_TABLE lpProcTable);

#ifdef __cplusplus
}
#endif

/* ----------------------------------------------------------------------------------- layouts -- */

WSP_ASSERT_SIZE(WSABUFEX, 24);
WSP_ASSERT_OFFSET(WSABUFEX, len, 0);
WSP_ASSERT_OFFSET(WSABUFEX, buf, 8);
WSP_ASSERT_OFFSET(WSABUFEX, handle, 16);

WSP_ASSERT_SIZE(WSPUPCALLTABLEEX, 128);
WSP_ASSERT_OFFSET(WSPUPCALLTABLEEX, lpWPUCloseEvent, 0);
WSP_ASSERT_OFFSET(WSPUPCALLTABLEEX, lpWPUCloseSocketHandle, 8);
WSP_ASSERT_OFFSET(WSPUPCALLTABLEEX, lpWPUCreateEvent, 16);
WSP_ASSERT_OFFSET(WSPUPCALLTABLEEX, lpWPUCreateSocketHandle, 24);
WSP_ASSERT_OFFSET(WSPUPCALLTABLEEX, lpWPUFDIsSet, 32);
WSP_ASSERT_OFFSET(WSPUPCALLTABLEEX, lpWPUGetProviderPath, 40);
WSP_ASSERT_OFFSET(WSPUPCALLTABLEEX, lpWPUModifyIFSHandle, 48);
WSP_ASSERT_OFFSET(WSPUPCALLTABLEEX, lpWPUPostMessage, 56);
WSP_ASSERT_OFFSET(WSPUPCALLTABLEEX, lpWPUQueryBlockingCallback, 64);
WSP_ASSERT_OFFSET(WSPUPCALLTABLEEX, lpWPUQuerySocketHandleContext, 72);
WSP_ASSERT_OFFSET(WSPUPCALLTABLEEX, lpWPUQueueApc, 80);
WSP_ASSERT_OFFSET(WSPUPCALLTABLEEX, lpWPUResetEvent, 88);
WSP_ASSERT_OFFSET(WSPUPCALLTABLEEX, lpWPUSetEvent, 96);
WSP_ASSERT_OFFSET(WSPUPCALLTABLEEX, lpWPUOpenCurrentThread, 104);
WSP_ASSERT_OFFSET(WSPUPCALLTABLEEX, lpWPUCloseThread, 112);
WSP_ASSERT_OFFSET(WSPUPCALLTABLEEX, lpWPUCompleteOverlappedRequest, 120);

#endif /* SANPOLL_WS2SAN_H */
