/* What spi_headers_c.c hands over. */
#ifndef SANPOLL_TESTS_SPI_HEADERS_C_H
#define SANPOLL_TESTS_SPI_HEADERS_C_H

#include <ws2san.h>

#ifdef __cplusplus
extern "C" {
#endif

struct spi_fact {
    const char* name; /* null ends the list */
    long long seen;
    long long documented;
};

extern const struct spi_fact spi_facts_seen_by_c[];
extern const GUID spi_guid_seen_by_c;
extern const SOCKET spi_invalid_socket_seen_by_c;
extern const WSAEVENT spi_invalid_event_seen_by_c;
extern const WORD spi_version_seen_by_c;

#ifdef __cplusplus
}
#endif

#endif
