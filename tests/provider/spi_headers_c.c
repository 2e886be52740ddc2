/*
 * The interface's headers in C11, before the POSIX headers. Hands what C sees to
 * spi_headers_test.cpp.
 */
/* The order is what is tested. */
/* clang-format off */
#include <sanpoll.h>
#include <ws2san.h>

#include "spi_headers_posix.h"
/* clang-format on */
#include "spi_headers_c.h"

#ifdef __cplusplus
#error "this file is for the C compiler"
#endif

const struct spi_fact spi_facts_seen_by_c[] = {
#define SPI_SIZE(type, bytes) {"sizeof(" #type ")", (long long)sizeof(type), bytes},
#define SPI_OFFSET(type, member, bytes) \
    {#type "." #member, (long long)offsetof(type, member), bytes},
#define SPI_VALUE(name, value) {#name, (long long)(name), value},
#include "spi_headers_facts.inc"
    {0, 0, 0},
};

const GUID spi_guid_seen_by_c = WSAID_REGISTERMEMORY;
const SOCKET spi_invalid_socket_seen_by_c = INVALID_SOCKET;
const WSAEVENT spi_invalid_event_seen_by_c = WSA_INVALID_EVENT;
const WORD spi_version_seen_by_c = MAKEWORD(2, 2);
