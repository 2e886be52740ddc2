/*
 * Types of the Windows Sockets Direct service provider interface: scalars, structures, layouts.
 *
 * Include ws2spi.h or ws2san.h, not this file.
 *
 * The binary interface is that of 64-bit Windows (LLP64): DWORD, LONG and ULONG have 32 bits,
 * SOCKET, HANDLE and ULONG_PTR those of a pointer, WCHAR is one UTF-16 unit. Linux is LP64,
 * therefore nothing here is spelled `long`, and `u_long` (64 bits in <sys/types.h>) is not used at
 * all: members that are u_long on Windows are ULONG.
 *
 * Addresses are the host's own: struct sockaddr, struct sockaddr_in, AF_*, SOCK_*, IPPROTO_* and
 * INADDR_* come from <sys/socket.h> and <netinet/in.h>. Windows types whose name a POSIX header
 * gives to another layout carry the prefix wsp_: wsp_fd_set, wsp_timeval, wsp_linger.
 *
 * Source: interface documentation, "types", sections 1 to 3. Every layout is checked at the end of
 * this file.
 */
#ifndef SANPOLL_WSP_TYPES_H
#define SANPOLL_WSP_TYPES_H

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#ifndef __cplusplus
#include <uchar.h>
#endif

/* Calling conventions: there is only one on 64-bit Linux. */
#ifndef WSPAPI
#define WSPAPI
#endif
#ifndef WSAAPI
#define WSAAPI
#endif
#ifndef CALLBACK
#define CALLBACK
#endif

#ifndef TRUE
#define TRUE 1
#endif
#ifndef FALSE
#define FALSE 0
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ----------------------------------------------------------------------------------- scalars -- */

typedef uint8_t BYTE;
typedef uint8_t UCHAR;
typedef uint16_t WORD;
typedef uint16_t USHORT;
typedef int16_t SHORT;
typedef int32_t INT;
typedef int32_t BOOL;
typedef uint32_t UINT;
typedef int32_t LONG;
typedef uint32_t DWORD;
typedef uint32_t ULONG;
typedef uint32_t GROUP;
typedef uint32_t SERVICETYPE;
typedef char CHAR;
typedef char16_t WCHAR;

typedef uintptr_t DWORD_PTR;
typedef uintptr_t ULONG_PTR;
typedef uintptr_t UINT_PTR;
typedef uintptr_t SIZE_T;
typedef uintptr_t WPARAM;
typedef intptr_t LPARAM;

/* Unsigned and pointer-sized: compare with INVALID_SOCKET, never with 0. */
typedef uintptr_t SOCKET;

typedef void* PVOID;
typedef void* LPVOID;
typedef void* HANDLE;
typedef HANDLE WSAEVENT;
typedef HANDLE* LPHANDLE;
typedef WSAEVENT* LPWSAEVENT;
typedef void* HWND;

typedef INT* LPINT;
typedef WORD* LPWORD;
typedef DWORD* LPDWORD;
typedef DWORD_PTR* PDWORD_PTR;
typedef WCHAR* LPWSTR;
typedef const WCHAR* LPCWSTR;

typedef struct sockaddr SOCKADDR;
typedef struct sockaddr* LPSOCKADDR;
typedef struct sockaddr_in SOCKADDR_IN;
typedef struct sockaddr_in* LPSOCKADDR_IN;

/* -------------------------------------------------------------------------- sizes of members -- */

#define MAX_PROTOCOL_CHAIN 7
#define WSAPROTOCOL_LEN 255
#define WSPDESCRIPTION_LEN 255
#define FD_MAX_EVENTS 10
/* FD_SETSIZE of Windows; the host's has another meaning. */
#define WSP_FD_SETSIZE 64

/* -------------------------------------------------------------------------------- structures -- */

typedef struct GUID {
    uint32_t Data1;
    uint16_t Data2;
    uint16_t Data3;
    uint8_t Data4[8];
} GUID, *LPGUID;

/*
 * One piece of a message; `len` in bytes. WSPSend and WSPRecv find its registration by the address.
 */
typedef struct WSABUF {
    ULONG len;
    CHAR* buf;
} WSABUF, *LPWSABUF;

/*
 * The record of one overlapped operation. Its owner is the caller until the operation starts, the
 * provider while Internal is WSS_OPERATION_IN_PROGRESS, and the caller again afterwards: the write
 * to Internal is the last touch.
 */
typedef struct WSAOVERLAPPED {
    ULONG_PTR Internal;     /* WSS_OPERATION_IN_PROGRESS until completion */
    ULONG_PTR InternalHigh; /* number of bytes moved, valid before Internal changes */
    DWORD Offset;           /* written by the provider: resulting flags */
    DWORD OffsetHigh;       /* written by the provider: resulting WSA error, 0 = success */
    /* Low-order bit 1: completion is polled for, no upcall; 0: upcall. Else an event or NULL. */
    WSAEVENT hEvent;
} WSAOVERLAPPED, *LPWSAOVERLAPPED;

typedef WSAOVERLAPPED OVERLAPPED;
typedef WSAOVERLAPPED* LPOVERLAPPED;

typedef struct WSAPROTOCOLCHAIN {
    INT ChainLen; /* LAYERED_PROTOCOL, BASE_PROTOCOL or the length of a chain */
    DWORD ChainEntries[MAX_PROTOCOL_CHAIN];
} WSAPROTOCOLCHAIN, *LPWSAPROTOCOLCHAIN;

typedef struct WSAPROTOCOL_INFOW {
    DWORD dwServiceFlags1; /* XP1_* */
    DWORD dwServiceFlags2;
    DWORD dwServiceFlags3;
    DWORD dwServiceFlags4;
    DWORD dwProviderFlags; /* PFL_* */
    GUID ProviderId;
    DWORD dwCatalogEntryId;
    WSAPROTOCOLCHAIN ProtocolChain;
    INT iVersion;
    INT iAddressFamily;
    INT iMaxSockAddr;
    INT iMinSockAddr;
    INT iSocketType;
    INT iProtocol;
    INT iProtocolMaxOffset;
    INT iNetworkByteOrder;
    INT iSecurityScheme;
    DWORD dwMessageSize; /* 0 = stream, 1 = depends on the outbound MTU, 0xFFFFFFFF = no limit */
    DWORD dwProviderReserved; /* token of a duplicated socket, else 0 */
    WCHAR szProtocol[WSAPROTOCOL_LEN + 1];
} WSAPROTOCOL_INFOW, *LPWSAPROTOCOL_INFOW;

typedef struct WSPDATA {
    WORD wVersion; /* low byte major, high byte minor */
    WORD wHighVersion;
    WCHAR szDescription[WSPDESCRIPTION_LEN + 1];
} WSPDATA, *LPWSPDATA;

typedef struct WSANETWORKEVENTS {
    LONG lNetworkEvents;           /* FD_* */
    INT iErrorCode[FD_MAX_EVENTS]; /* indexed with FD_*_BIT; valid where the bit is set */
} WSANETWORKEVENTS, *LPWSANETWORKEVENTS;

typedef struct WSATHREADID {
    HANDLE ThreadHandle;
    DWORD_PTR Reserved;
} WSATHREADID, *LPWSATHREADID;

typedef struct SOCKET_ADDRESS {
    LPSOCKADDR lpSockaddr;
    INT iSockaddrLength;
} SOCKET_ADDRESS, *PSOCKET_ADDRESS, *LPSOCKET_ADDRESS;

/*
 * Followed by iAddressCount - 1 more entries and, in the same buffer, by the addresses they point
 * to.
 */
typedef struct SOCKET_ADDRESS_LIST {
    INT iAddressCount;
    SOCKET_ADDRESS Address[1];
} SOCKET_ADDRESS_LIST, *PSOCKET_ADDRESS_LIST, *LPSOCKET_ADDRESS_LIST;

typedef struct FLOWSPEC {
    ULONG TokenRate;       /* bytes a second */
    ULONG TokenBucketSize; /* bytes */
    ULONG PeakBandwidth;   /* bytes a second */
    ULONG Latency;         /* microseconds */
    ULONG DelayVariation;  /* microseconds */
    SERVICETYPE ServiceType;
    ULONG MaxSduSize;         /* bytes */
    ULONG MinimumPolicedSize; /* bytes */
} FLOWSPEC, *PFLOWSPEC, *LPFLOWSPEC;

typedef struct QOS {
    FLOWSPEC SendingFlowspec;
    FLOWSPEC ReceivingFlowspec;
    WSABUF ProviderSpecific;
} QOS, *LPQOS;

typedef struct QOS_OBJECT_HDR {
    ULONG ObjectType;
    ULONG ObjectLength;
} QOS_OBJECT_HDR, *LPQOS_OBJECT_HDR;

/* Windows' fd_set: a counted array of sockets, not a bit map. */
typedef struct wsp_fd_set {
    UINT fd_count;
    SOCKET fd_array[WSP_FD_SETSIZE];
} wsp_fd_set;

/* Windows' struct timeval: two 32-bit members. */
typedef struct wsp_timeval {
    LONG tv_sec;
    LONG tv_usec;
} wsp_timeval;

/* Windows' struct linger: two 16-bit members. */
typedef struct wsp_linger {
    USHORT l_onoff;
    USHORT l_linger;
} wsp_linger;

/* --------------------------------------------------------------------------------- callbacks -- */

/*
 * Decides about one connection request. Called by the provider inside WSPAccept, in the thread that
 * called it, with no provider lock held. All pointers are valid only during the call. Returns
 * CF_ACCEPT, CF_REJECT or CF_DEFER.
 */
typedef int(CALLBACK* LPCONDITIONPROC)(LPWSABUF lpCallerId, LPWSABUF lpCallerData, LPQOS lpSQOS,
                                       LPQOS lpGQOS, LPWSABUF lpCalleeId, LPWSABUF lpCalleeData,
                                       GROUP* g, DWORD_PTR dwCallbackData);

/* Never used in Windows Sockets Direct: the caller passes NULL. */
typedef void(CALLBACK* LPWSAOVERLAPPED_COMPLETION_ROUTINE)(DWORD dwError, DWORD cbTransferred,
                                                           LPWSAOVERLAPPED lpOverlapped,
                                                           DWORD dwFlags);
typedef void(CALLBACK* LPWSAUSERAPC)(DWORD_PTR dwContext);
typedef BOOL(CALLBACK* LPBLOCKINGCALLBACK)(DWORD_PTR dwContext);

#ifdef __cplusplus
}
#endif

/* ----------------------------------------------------------------------------------- layouts -- */

#ifdef __cplusplus
#define WSP_STATIC_ASSERT(condition, text) static_assert(condition, text)
#else
#define WSP_STATIC_ASSERT(condition, text) _Static_assert(condition, text)
#endif
#define WSP_ASSERT_SIZE(type, size) WSP_STATIC_ASSERT(sizeof(type) == (size), "size of " #type)
#define WSP_ASSERT_OFFSET(type, member, offset) \
    WSP_STATIC_ASSERT(offsetof(type, member) == (offset), "offset of " #type "::" #member)

WSP_ASSERT_SIZE(void*, 8);
WSP_ASSERT_SIZE(int, 4);
WSP_ASSERT_SIZE(WORD, 2);
WSP_ASSERT_SIZE(WCHAR, 2);
WSP_ASSERT_SIZE(DWORD, 4);
WSP_ASSERT_SIZE(LONG, 4);
WSP_ASSERT_SIZE(BOOL, 4);
WSP_ASSERT_SIZE(GROUP, 4);
WSP_ASSERT_SIZE(SOCKET, 8);
WSP_ASSERT_SIZE(HANDLE, 8);
WSP_ASSERT_SIZE(ULONG_PTR, 8);

/* The host's addresses have Windows' layout. */
WSP_ASSERT_SIZE(struct sockaddr, 16);
WSP_ASSERT_OFFSET(struct sockaddr, sa_family, 0);
WSP_ASSERT_OFFSET(struct sockaddr, sa_data, 2);
WSP_ASSERT_SIZE(struct sockaddr_in, 16);
WSP_ASSERT_OFFSET(struct sockaddr_in, sin_family, 0);
WSP_ASSERT_OFFSET(struct sockaddr_in, sin_port, 2);
WSP_ASSERT_OFFSET(struct sockaddr_in, sin_addr, 4);
WSP_ASSERT_OFFSET(struct sockaddr_in, sin_zero, 8);

WSP_ASSERT_SIZE(GUID, 16);
WSP_ASSERT_OFFSET(GUID, Data1, 0);
WSP_ASSERT_OFFSET(GUID, Data2, 4);
WSP_ASSERT_OFFSET(GUID, Data3, 6);
WSP_ASSERT_OFFSET(GUID, Data4, 8);

WSP_ASSERT_SIZE(WSABUF, 16);
WSP_ASSERT_OFFSET(WSABUF, len, 0);
WSP_ASSERT_OFFSET(WSABUF, buf, 8);

WSP_ASSERT_SIZE(WSAOVERLAPPED, 32);
WSP_ASSERT_OFFSET(WSAOVERLAPPED, Internal, 0);
WSP_ASSERT_OFFSET(WSAOVERLAPPED, InternalHigh, 8);
WSP_ASSERT_OFFSET(WSAOVERLAPPED, Offset, 16);
WSP_ASSERT_OFFSET(WSAOVERLAPPED, OffsetHigh, 20);
WSP_ASSERT_OFFSET(WSAOVERLAPPED, hEvent, 24);

WSP_ASSERT_SIZE(WSAPROTOCOLCHAIN, 32);
WSP_ASSERT_OFFSET(WSAPROTOCOLCHAIN, ChainLen, 0);
WSP_ASSERT_OFFSET(WSAPROTOCOLCHAIN, ChainEntries, 4);

WSP_ASSERT_SIZE(WSAPROTOCOL_INFOW, 628);
WSP_ASSERT_OFFSET(WSAPROTOCOL_INFOW, dwServiceFlags1, 0);
WSP_ASSERT_OFFSET(WSAPROTOCOL_INFOW, dwServiceFlags2, 4);
WSP_ASSERT_OFFSET(WSAPROTOCOL_INFOW, dwServiceFlags3, 8);
WSP_ASSERT_OFFSET(WSAPROTOCOL_INFOW, dwServiceFlags4, 12);
WSP_ASSERT_OFFSET(WSAPROTOCOL_INFOW, dwProviderFlags, 16);
WSP_ASSERT_OFFSET(WSAPROTOCOL_INFOW, ProviderId, 20);
WSP_ASSERT_OFFSET(WSAPROTOCOL_INFOW, dwCatalogEntryId, 36);
WSP_ASSERT_OFFSET(WSAPROTOCOL_INFOW, ProtocolChain, 40);
WSP_ASSERT_OFFSET(WSAPROTOCOL_INFOW, iVersion, 72);
WSP_ASSERT_OFFSET(WSAPROTOCOL_INFOW, iAddressFamily, 76);
WSP_ASSERT_OFFSET(WSAPROTOCOL_INFOW, iMaxSockAddr, 80);
WSP_ASSERT_OFFSET(WSAPROTOCOL_INFOW, iMinSockAddr, 84);
WSP_ASSERT_OFFSET(WSAPROTOCOL_INFOW, iSocketType, 88);
WSP_ASSERT_OFFSET(WSAPROTOCOL_INFOW, iProtocol, 92);
WSP_ASSERT_OFFSET(WSAPROTOCOL_INFOW, iProtocolMaxOffset, 96);
WSP_ASSERT_OFFSET(WSAPROTOCOL_INFOW, iNetworkByteOrder, 100);
WSP_ASSERT_OFFSET(WSAPROTOCOL_INFOW, iSecurityScheme, 104);
WSP_ASSERT_OFFSET(WSAPROTOCOL_INFOW, dwMessageSize, 108);
WSP_ASSERT_OFFSET(WSAPROTOCOL_INFOW, dwProviderReserved, 112);
WSP_ASSERT_OFFSET(WSAPROTOCOL_INFOW, szProtocol, 116);

WSP_ASSERT_SIZE(WSPDATA, 516);
WSP_ASSERT_OFFSET(WSPDATA, wVersion, 0);
WSP_ASSERT_OFFSET(WSPDATA, wHighVersion, 2);
WSP_ASSERT_OFFSET(WSPDATA, szDescription, 4);

WSP_ASSERT_SIZE(WSANETWORKEVENTS, 44);
WSP_ASSERT_OFFSET(WSANETWORKEVENTS, lNetworkEvents, 0);
WSP_ASSERT_OFFSET(WSANETWORKEVENTS, iErrorCode, 4);

WSP_ASSERT_SIZE(WSATHREADID, 16);
WSP_ASSERT_OFFSET(WSATHREADID, ThreadHandle, 0);
WSP_ASSERT_OFFSET(WSATHREADID, Reserved, 8);

WSP_ASSERT_SIZE(SOCKET_ADDRESS, 16);
WSP_ASSERT_OFFSET(SOCKET_ADDRESS, lpSockaddr, 0);
WSP_ASSERT_OFFSET(SOCKET_ADDRESS, iSockaddrLength, 8);

WSP_ASSERT_SIZE(SOCKET_ADDRESS_LIST, 24);
WSP_ASSERT_OFFSET(SOCKET_ADDRESS_LIST, iAddressCount, 0);
WSP_ASSERT_OFFSET(SOCKET_ADDRESS_LIST, Address, 8);

WSP_ASSERT_SIZE(FLOWSPEC, 32);
WSP_ASSERT_OFFSET(FLOWSPEC, TokenRate, 0);
WSP_ASSERT_OFFSET(FLOWSPEC, TokenBucketSize, 4);
WSP_ASSERT_OFFSET(FLOWSPEC, PeakBandwidth, 8);
WSP_ASSERT_OFFSET(FLOWSPEC, Latency, 12);
WSP_ASSERT_OFFSET(FLOWSPEC, DelayVariation, 16);
WSP_ASSERT_OFFSET(FLOWSPEC, ServiceType, 20);
WSP_ASSERT_OFFSET(FLOWSPEC, MaxSduSize, 24);
WSP_ASSERT_OFFSET(FLOWSPEC, MinimumPolicedSize, 28);

WSP_ASSERT_SIZE(QOS, 80);
WSP_ASSERT_OFFSET(QOS, SendingFlowspec, 0);
WSP_ASSERT_OFFSET(QOS, ReceivingFlowspec, 32);
WSP_ASSERT_OFFSET(QOS, ProviderSpecific, 64);

WSP_ASSERT_SIZE(QOS_OBJECT_HDR, 8);
WSP_ASSERT_OFFSET(QOS_OBJECT_HDR, ObjectType, 0);
WSP_ASSERT_OFFSET(QOS_OBJECT_HDR, ObjectLength, 4);

WSP_ASSERT_SIZE(wsp_fd_set, 520);
WSP_ASSERT_OFFSET(wsp_fd_set, fd_count, 0);
WSP_ASSERT_OFFSET(wsp_fd_set, fd_array, 8);

WSP_ASSERT_SIZE(wsp_timeval, 8);
WSP_ASSERT_OFFSET(wsp_timeval, tv_sec, 0);
WSP_ASSERT_OFFSET(wsp_timeval, tv_usec, 4);

WSP_ASSERT_SIZE(wsp_linger, 4);
WSP_ASSERT_OFFSET(wsp_linger, l_onoff, 0);
WSP_ASSERT_OFFSET(wsp_linger, l_linger, 2);

#endif /* SANPOLL_WSP_TYPES_H */
