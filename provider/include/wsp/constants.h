/*
 * Constants of the Windows Sockets Direct service provider interface.
 *
 * Include ws2spi.h or ws2san.h, not this file.
 *
 * Names that a POSIX header defines with another value are prefixed with WSP_ here, all of their
 * family, so that both sets can be used in one source file and neither depends on the order of the
 * includes:
 *
 *   Windows                      here
 *   SOL_SOCKET                   WSP_SOL_SOCKET
 *   SO_DEBUG ... SO_TYPE         WSP_SO_DEBUG ... WSP_SO_TYPE
 *   SOMAXCONN                    WSP_SOMAXCONN
 *   MSG_OOB ... MSG_PARTIAL      WSP_MSG_OOB ... WSP_MSG_PARTIAL
 *   FIONREAD, FIONBIO, FIOASYNC  WSP_FIONREAD, WSP_FIONBIO, WSP_FIOASYNC
 *   SIOCATMARK                   WSP_SIOCATMARK
 *   IOC_IN, IOC_OUT, ...         WSP_IOC_IN, WSP_IOC_OUT, ...
 *
 * Names that POSIX does not know keep Windows' spelling: SO_MAX_MSG_SIZE, SO_GROUP_ID, FD_ACCEPT,
 * SIO_*, ... AF_*, SOCK_*, IPPROTO_*, INADDR_* and TCP_NODELAY are the host's (the values agree,
 * except for AF_INET6, where the host's counts).
 *
 * Source: interface documentation, "types", section 6.
 */
#ifndef SANPOLL_WSP_CONSTANTS_H
#define SANPOLL_WSP_CONSTANTS_H

#include "types.h"

/* ----------------------------------------------------------------------------------- general -- */

#define INVALID_SOCKET UINTPTR_MAX
#define SOCKET_ERROR (-1)
#define WSP_SOMAXCONN 0x7FFFFFFF /* backlog: as many as the provider finds reasonable */
#define WSA_INVALID_EVENT NULL
#define WSS_OPERATION_IN_PROGRESS \
    0x00000103 /* WSAOVERLAPPED::Internal while the operation is pending */
#define FROM_PROTOCOL_INFO (-1)
#ifndef MAKEWORD
#define MAKEWORD(low, high) \
    (((low)&0xFF) | (((high)&0xFF) << 8)) /* MAKEWORD(2, 2) is version 2.2 */
#endif
#ifndef LOBYTE
#define LOBYTE(word) ((word)&0xFF)
#endif
#ifndef HIBYTE
#define HIBYTE(word) (((word) >> 8) & 0xFF)
#endif

/* ----------------------------------------------- condition function, shutdown, message flags -- */

#define CF_ACCEPT 0
#define CF_REJECT 1
#define CF_DEFER 2

#define SD_RECEIVE 0
#define SD_SEND 1
#define SD_BOTH 2

#define WSP_MSG_OOB 0x1
#define WSP_MSG_PEEK 0x2
#define WSP_MSG_DONTROUTE 0x4
#define WSP_MSG_WAITALL 0x8
#define WSP_MSG_INTERRUPT 0x10
#define WSP_MSG_PARTIAL 0x8000

/* ---------------------------------------------------------------------------- network events -- */

/*
 * FD_*_BIT is an index into WSANETWORKEVENTS::iErrorCode. A SAN provider sees only FD_ACCEPT and
 * FD_CONNECT.
 */
#define FD_READ_BIT 0
#define FD_WRITE_BIT 1
#define FD_OOB_BIT 2
#define FD_ACCEPT_BIT 3
#define FD_CONNECT_BIT 4
#define FD_CLOSE_BIT 5
#define FD_QOS_BIT 6
#define FD_GROUP_QOS_BIT 7
#define FD_ROUTING_INTERFACE_CHANGE_BIT 8
#define FD_ADDRESS_LIST_CHANGE_BIT 9
#define FD_READ (1 << FD_READ_BIT)
#define FD_WRITE (1 << FD_WRITE_BIT)
#define FD_OOB (1 << FD_OOB_BIT)
#define FD_ACCEPT (1 << FD_ACCEPT_BIT)
#define FD_CONNECT (1 << FD_CONNECT_BIT)
#define FD_CLOSE (1 << FD_CLOSE_BIT)
#define FD_QOS (1 << FD_QOS_BIT)
#define FD_GROUP_QOS (1 << FD_GROUP_QOS_BIT)
#define FD_ROUTING_INTERFACE_CHANGE (1 << FD_ROUTING_INTERFACE_CHANGE_BIT)
#define FD_ADDRESS_LIST_CHANGE (1 << FD_ADDRESS_LIST_CHANGE_BIT)
#define FD_ALL_EVENTS ((1 << FD_MAX_EVENTS) - 1)

/* ------------------------------------------------------------------------ flags of WSPSocket -- */

#define WSA_FLAG_OVERLAPPED 0x01
#define WSA_FLAG_MULTIPOINT_C_ROOT 0x02
#define WSA_FLAG_MULTIPOINT_C_LEAF 0x04
#define WSA_FLAG_MULTIPOINT_D_ROOT 0x08
#define WSA_FLAG_MULTIPOINT_D_LEAF 0x10
#define WSA_FLAG_ACCESS_SYSTEM_SECURITY 0x40
#define WSA_FLAG_NO_HANDLE_INHERIT 0x80
#define WSA_FLAG_REGISTERED_IO 0x100

/* Groups are reserved: WSPSocket gets 0. */
#define SG_UNCONSTRAINED_GROUP 0x01
#define SG_CONSTRAINED_GROUP 0x02

/* ---------------------------------------------------------------------- protocol information -- */

#define PFL_MULTIPLE_PROTO_ENTRIES 0x00000001
#define PFL_RECOMMENDED_PROTO_ENTRY 0x00000002
#define PFL_HIDDEN 0x00000004
#define PFL_MATCHES_PROTOCOL_ZERO 0x00000008
#define PFL_NETWORKDIRECT_PROVIDER 0x00000010

#define XP1_CONNECTIONLESS 0x00000001
#define XP1_GUARANTEED_DELIVERY 0x00000002
#define XP1_GUARANTEED_ORDER 0x00000004
#define XP1_MESSAGE_ORIENTED 0x00000008
#define XP1_PSEUDO_STREAM 0x00000010
#define XP1_GRACEFUL_CLOSE 0x00000020
#define XP1_EXPEDITED_DATA 0x00000040
#define XP1_CONNECT_DATA 0x00000080
#define XP1_DISCONNECT_DATA 0x00000100
#define XP1_SUPPORT_BROADCAST 0x00000200
#define XP1_SUPPORT_MULTIPOINT 0x00000400
#define XP1_MULTIPOINT_CONTROL_PLANE 0x00000800
#define XP1_MULTIPOINT_DATA_PLANE 0x00001000
#define XP1_QOS_SUPPORTED 0x00002000
#define XP1_INTERRUPT 0x00004000
#define XP1_UNI_SEND 0x00008000
#define XP1_UNI_RECV 0x00010000
#define XP1_IFS_HANDLES 0x00020000
#define XP1_PARTIAL_MESSAGE 0x00040000
#define XP1_SAN_SUPPORT_SDP 0x00080000

#define LAYERED_PROTOCOL 0
#define BASE_PROTOCOL 1
#define BIGENDIAN 0x0000
#define LITTLEENDIAN 0x0001
#define SECURITY_PROTOCOL_NONE 0x0000

/* ---------------------------------------------------------------------------- socket options -- */

#define WSP_SOL_SOCKET 0xFFFF

#define WSP_SO_DEBUG 0x0001
#define WSP_SO_ACCEPTCONN 0x0002
#define WSP_SO_REUSEADDR 0x0004
#define WSP_SO_KEEPALIVE 0x0008
#define WSP_SO_DONTROUTE 0x0010
#define WSP_SO_BROADCAST 0x0020
#define WSP_SO_LINGER 0x0080
#define WSP_SO_OOBINLINE 0x0100
#define WSP_SO_SNDBUF 0x1001
#define WSP_SO_RCVBUF 0x1002
#define WSP_SO_SNDLOWAT 0x1003
#define WSP_SO_RCVLOWAT 0x1004
#define WSP_SO_SNDTIMEO 0x1005
#define WSP_SO_RCVTIMEO 0x1006
#define WSP_SO_ERROR 0x1007
#define WSP_SO_TYPE 0x1008

#define SO_EXCLUSIVEADDRUSE (~WSP_SO_REUSEADDR)
#define SO_DONTLINGER (~WSP_SO_LINGER)
#define SO_GROUP_ID 0x2001       /* GROUP, get only */
#define SO_GROUP_PRIORITY 0x2002 /* int */
#define SO_MAX_MSG_SIZE 0x2003   /* bytes in 4 bytes, get only: largest message */
#define SO_PROTOCOL_INFOA 0x2004
#define SO_PROTOCOL_INFOW 0x2005
#define PVD_CONFIG 0x3001
#define SO_CONDITIONAL_ACCEPT 0x3002
#define SO_UPDATE_ACCEPT_CONTEXT 0x700B
#define SO_CONNECT_TIME 0x700C
#define SO_MAX_RDMA_SIZE 0x700D       /* bytes in 4 bytes, get only: largest RDMA transfer */
#define SO_RDMA_THRESHOLD_SIZE 0x700E /* bytes in 4 bytes: larger transfers go by RDMA */

/* ------------------------------------------------------------------------- I/O control codes -- */

#define WSP_IOC_IN 0x80000000u
#define WSP_IOC_OUT 0x40000000u
#define WSP_IOC_INOUT (WSP_IOC_IN | WSP_IOC_OUT)
#define WSP_IOC_VOID 0x20000000u
#define WSP_IOC_UNIX 0x00000000u
#define WSP_IOC_WS2 0x08000000u
#define WSP_IOC_PROTOCOL 0x10000000u
#define WSP_IOC_VENDOR 0x18000000u

#define SIO_ASSOCIATE_HANDLE 0x88000001u
#define SIO_ENABLE_CIRCULAR_QUEUEING 0x28000002u
#define SIO_FIND_ROUTE 0x48000003u
#define SIO_FLUSH 0x28000004u
#define SIO_GET_BROADCAST_ADDRESS 0x48000005u
#define SIO_GET_EXTENSION_FUNCTION_POINTER 0xC8000006u
#define SIO_GET_QOS 0xC8000007u
#define SIO_GET_GROUP_QOS 0xC8000008u
#define SIO_MULTIPOINT_LOOPBACK 0x88000009u
#define SIO_MULTICAST_SCOPE 0x8800000Au
#define SIO_SET_QOS 0x8800000Bu
#define SIO_SET_GROUP_QOS 0x8800000Cu
#define SIO_TRANSLATE_HANDLE 0xC800000Du
#define SIO_ROUTING_INTERFACE_QUERY 0xC8000014u
#define SIO_ROUTING_INTERFACE_CHANGE 0x88000015u
#define SIO_ADDRESS_LIST_QUERY 0x48000016u
#define SIO_ADDRESS_LIST_CHANGE 0x28000017u
#define SIO_QUERY_TARGET_PNP_HANDLE 0x48000018u
#define SIO_ADDRESS_LIST_SORT 0xC8000019u
#define WSP_FIONREAD 0x4004667Fu
#define WSP_FIONBIO 0x8004667Eu
#define WSP_FIOASYNC 0x8004667Du
#define WSP_SIOCATMARK 0x40047307u

/* ------------------------------------------------------------------------ quality of service -- */

#define SERVICETYPE_NOTRAFFIC 0x00000000u
#define SERVICETYPE_BESTEFFORT 0x00000001u
#define SERVICETYPE_CONTROLLEDLOAD 0x00000002u
#define SERVICETYPE_GUARANTEED 0x00000003u
#define SERVICETYPE_NETWORK_UNAVAILABLE 0x00000004u
#define SERVICETYPE_GENERAL_INFORMATION 0x00000005u
#define SERVICETYPE_NOCHANGE 0x00000006u
#define SERVICETYPE_NONCONFORMING 0x00000009u
#define SERVICETYPE_NETWORK_CONTROL 0x0000000Au
#define SERVICETYPE_QUALITATIVE 0x0000000Du

#define SERVICE_BESTEFFORT 0x80010000u
#define SERVICE_CONTROLLEDLOAD 0x80020000u
#define SERVICE_GUARANTEED 0x80040000u
#define SERVICE_QUALITATIVE 0x80200000u
#define SERVICE_NO_TRAFFIC_CONTROL 0x81000000u
#define SERVICE_NO_QOS_SIGNALING 0x40000000u

#define QOS_NOT_SPECIFIED 0xFFFFFFFFu
#define POSITIVE_INFINITY_RATE 0xFFFFFFFEu
#define QOS_GENERAL_ID_BASE 2000
#define QOS_OBJECT_END_OF_LIST 2001
#define QOS_OBJECT_SD_MODE 2002
#define QOS_OBJECT_SHAPING_RATE 2003
#define QOS_OBJECT_DESTADDR 2004

#endif /* SANPOLL_WSP_CONSTANTS_H */
