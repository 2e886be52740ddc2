/* Concurrency Kit's ring, whose header is C: the loops of ring_pair.hpp in C, so that the ring is compiled into
 * them as the others are. `bytes` is 8 (the pointer itself is the element) or 64. The contracts are RingPair's. */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct ck_pair;

struct ck_pair* ck_pair_make(unsigned capacity, unsigned bytes); /* NULL: no memory */
void ck_pair_free(struct ck_pair* pair);

void ck_put(struct ck_pair* pair, uint64_t count);
uint64_t ck_take(struct ck_pair* pair, uint64_t count);
void ck_put_bursts(struct ck_pair* pair, uint64_t count, unsigned burst);
uint64_t ck_take_bursts(struct ck_pair* pair, uint64_t count, unsigned burst);
uint64_t ck_ask(struct ck_pair* pair, uint64_t count);
void ck_answer(struct ck_pair* pair, uint64_t count);

#ifdef __cplusplus
}
#endif
