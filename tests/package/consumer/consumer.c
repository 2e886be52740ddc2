/* A C11 program that links the provider. A version older than any provider's must be refused. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <ws2san.h>

int main(void) {
    WSPDATA data;
    WSPUPCALLTABLEEX upcalls;
    WSPPROC_TABLE table;
    WSAPROTOCOL_INFOW tcp_ip;
    memset(&upcalls, 0, sizeof(upcalls));
    memset(&tcp_ip, 0, sizeof(tcp_ip));

    int error = WSPStartupEx(0x0001, &data, &tcp_ip, &upcalls, &table);
    if (error != WSAVERNOTSUPPORTED) {
        fprintf(stderr, "WSPStartupEx with version 1.0 returned %d\n", error);
        return 1;
    }
    return 0;
}
