#include "bench/ring_peers/ck_ring_loops.h"

#include <ck_ring.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct item64 {
    uint64_t words[8];
};

CK_RING_PROTOTYPE(item64, item64)

struct one_ring {
    ck_ring_t ring;
    void* buffer;
};

struct ck_pair {
    struct one_ring there;
    struct one_ring back;
    unsigned bytes;
};

enum { kMaxBurst = 64 };

/* Both sizes with one face: `item` is a uint64_t or an item64, the number is its first word. */
static inline bool push8(struct one_ring* to, const uint64_t* item) {
    return ck_ring_enqueue_spsc(&to->ring, to->buffer, (void*)(uintptr_t)*item);
}

static inline bool pop8(struct one_ring* from, uint64_t* item) {
    return ck_ring_dequeue_spsc(&from->ring, from->buffer, item);
}

static inline bool push64(struct one_ring* to, struct item64* item) {
    return ck_ring_enqueue_spsc_item64(&to->ring, to->buffer, item);
}

static inline bool pop64(struct one_ring* from, struct item64* item) {
    return ck_ring_dequeue_spsc_item64(&from->ring, from->buffer, item);
}

/* As touch() in element.hpp. */
#define TOUCH(item) __asm__ volatile("" : : "r"(&(item)) : "memory")
#define NUMBER(item) (*(uint64_t*)&(item))

#define LOOPS(suffix, item_type)                                                                 \
    static void put_##suffix(struct ck_pair* pair, uint64_t count) {                             \
        item_type item;                                                                          \
        memset(&item, 0, sizeof item);                                                           \
        for (uint64_t i = 0; i < count; ++i) {                                                   \
            NUMBER(item) = i;                                                                    \
            TOUCH(item);                                                                         \
            while (!push##suffix(&pair->there, &item)) {                                         \
            }                                                                                    \
        }                                                                                        \
    }                                                                                            \
    static uint64_t take_##suffix(struct ck_pair* pair, uint64_t count) {                        \
        item_type item;                                                                          \
        uint64_t errors = 0;                                                                     \
        for (uint64_t i = 0; i < count; ++i) {                                                   \
            while (!pop##suffix(&pair->there, &item)) {                                          \
            }                                                                                    \
            TOUCH(item);                                                                         \
            errors += NUMBER(item) != i;                                                         \
        }                                                                                        \
        return errors;                                                                           \
    }                                                                                            \
    static void put_bursts_##suffix(struct ck_pair* pair, uint64_t count, unsigned burst) {      \
        item_type items[kMaxBurst];                                                              \
        memset(items, 0, sizeof items);                                                          \
        for (uint64_t i = 0; i < count; i += burst) {                                            \
            for (unsigned k = 0; k < burst; ++k) {                                               \
                NUMBER(items[k]) = i + k;                                                        \
            }                                                                                    \
            TOUCH(items);                                                                        \
            for (unsigned k = 0; k < burst;) {                                                   \
                k += push##suffix(&pair->there, &items[k]);                                      \
            }                                                                                    \
        }                                                                                        \
    }                                                                                            \
    static uint64_t take_bursts_##suffix(struct ck_pair* pair, uint64_t count, unsigned burst) { \
        item_type items[kMaxBurst];                                                              \
        uint64_t errors = 0;                                                                     \
        for (uint64_t i = 0; i < count;) {                                                       \
            unsigned got = 0;                                                                    \
            while (got < burst && pop##suffix(&pair->there, &items[got])) {                      \
                ++got;                                                                           \
            }                                                                                    \
            TOUCH(items);                                                                        \
            for (unsigned k = 0; k < got; ++k) {                                                 \
                errors += NUMBER(items[k]) != i + k;                                             \
            }                                                                                    \
            i += got;                                                                            \
        }                                                                                        \
        return errors;                                                                           \
    }                                                                                            \
    static uint64_t ask_##suffix(struct ck_pair* pair, uint64_t count) {                         \
        item_type item;                                                                          \
        uint64_t errors = 0;                                                                     \
        memset(&item, 0, sizeof item);                                                           \
        for (uint64_t i = 0; i < count; ++i) {                                                   \
            NUMBER(item) = i;                                                                    \
            TOUCH(item);                                                                         \
            while (!push##suffix(&pair->there, &item)) {                                         \
            }                                                                                    \
            while (!pop##suffix(&pair->back, &item)) {                                           \
            }                                                                                    \
            TOUCH(item);                                                                         \
            errors += NUMBER(item) != i;                                                         \
        }                                                                                        \
        return errors;                                                                           \
    }                                                                                            \
    static void answer_##suffix(struct ck_pair* pair, uint64_t count) {                          \
        item_type item;                                                                          \
        for (uint64_t i = 0; i < count; ++i) {                                                   \
            while (!pop##suffix(&pair->there, &item)) {                                          \
            }                                                                                    \
            TOUCH(item);                                                                         \
            while (!push##suffix(&pair->back, &item)) {                                          \
            }                                                                                    \
        }                                                                                        \
    }

LOOPS(8, uint64_t)
LOOPS(64, struct item64)

static bool make_ring(struct one_ring* ring, unsigned capacity, unsigned bytes) {
    ck_ring_init(&ring->ring, capacity);
    ring->buffer = aligned_alloc(128, (size_t)capacity * bytes);
    if (ring->buffer == NULL) {
        return false;
    }
    memset(ring->buffer, 0, (size_t)capacity * bytes);
    return true;
}

struct ck_pair* ck_pair_make(unsigned capacity, unsigned bytes) {
    struct ck_pair* pair = aligned_alloc(128, (sizeof *pair + 127) & ~(size_t)127);
    if (pair == NULL) {
        return NULL;
    }
    memset(pair, 0, sizeof *pair);
    pair->bytes = bytes;
    if (!make_ring(&pair->there, capacity, bytes) || !make_ring(&pair->back, capacity, bytes)) {
        ck_pair_free(pair);
        return NULL;
    }
    return pair;
}

void ck_pair_free(struct ck_pair* pair) {
    if (pair != NULL) {
        free(pair->there.buffer);
        free(pair->back.buffer);
        free(pair);
    }
}

void ck_put(struct ck_pair* pair, uint64_t count) {
    pair->bytes == 8 ? put_8(pair, count) : put_64(pair, count);
}

uint64_t ck_take(struct ck_pair* pair, uint64_t count) {
    return pair->bytes == 8 ? take_8(pair, count) : take_64(pair, count);
}

void ck_put_bursts(struct ck_pair* pair, uint64_t count, unsigned burst) {
    pair->bytes == 8 ? put_bursts_8(pair, count, burst) : put_bursts_64(pair, count, burst);
}

uint64_t ck_take_bursts(struct ck_pair* pair, uint64_t count, unsigned burst) {
    return pair->bytes == 8 ? take_bursts_8(pair, count, burst)
                            : take_bursts_64(pair, count, burst);
}

uint64_t ck_ask(struct ck_pair* pair, uint64_t count) {
    return pair->bytes == 8 ? ask_8(pair, count) : ask_64(pair, count);
}

void ck_answer(struct ck_pair* pair, uint64_t count) {
    pair->bytes == 8 ? answer_8(pair, count) : answer_64(pair, count);
}
