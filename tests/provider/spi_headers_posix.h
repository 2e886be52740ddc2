/*
 * The POSIX headers that a program with sockets includes, for the tests of both orders of
 * inclusion.
 */
#ifndef SANPOLL_TESTS_SPI_HEADERS_POSIX_H
#define SANPOLL_TESTS_SPI_HEADERS_POSIX_H

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#endif
