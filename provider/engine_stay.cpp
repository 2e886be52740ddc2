#include "provider/engine_stay.hpp"

#include <ctime>
#include <new>

namespace sanpoll::provider {

namespace {

// Trivially destroyed, so still readable at the very end.
thread_local bool thread_ends = false;
thread_local std::uint32_t wordless_here = 0;

void sleep_a_moment() noexcept {
    const timespec moment{0, 50000};
    ::nanosleep(&moment, nullptr);
}

}  // namespace

constinit thread_local EngineStay::Word* EngineStay::my_word = nullptr;
constinit std::atomic<EngineStay::Word*> EngineStay::words{nullptr};
constinit std::atomic<std::uint32_t> EngineStay::wordless{0};

struct EngineStay::Giver {
    Word* word = nullptr;
    ~Giver() {
        thread_ends = true;
        my_word = nullptr;
        if (word != nullptr) {
            // Pairs with the exchange in find_word(): whoever has it next finds the depth that is left, 0.
            word->taken.store(false, std::memory_order_release);
        }
    }
};

EngineStay::Word* EngineStay::find_word() noexcept {
    if (thread_ends) {
        return nullptr;
    }
    // Pairs with the release below.
    Word* word = words.load(std::memory_order_acquire);
    while (word != nullptr && word->taken.exchange(true, std::memory_order_acquire)) {
        word = word->next;
    }
    if (word == nullptr) {
        word = new (std::nothrow) Word;
        if (word == nullptr) {
            return nullptr;
        }
        word->next = words.load(std::memory_order_relaxed);
        // Release pairs with the acquires here and in wait_for_all(); sequentially consistent, as the looks there: a
        // thread whose word is not found there sees, after this, that the provider is down.
        while (!words.compare_exchange_weak(word->next, word, std::memory_order_seq_cst,
                                            std::memory_order_relaxed)) {
        }
    }
    static thread_local Giver giver;
    giver.word = word;
    my_word = word;
    return word;
}

void EngineStay::enter_without_word() noexcept {
    // Sequentially consistent, as the accesses in wait_for_all(): either it sees this, or we see that the provider is down.
    ++wordless_here;
    wordless.fetch_add(1, std::memory_order_seq_cst);
    life_ = common().life.load(std::memory_order_seq_cst);
}

void EngineStay::leave_without_word() noexcept {
    --wordless_here;
    wordless.fetch_sub(1, std::memory_order_release);  // pairs with the load in wait_for_all()
}

bool EngineStay::here() noexcept {
    return wordless_here != 0 ||
           (my_word != nullptr && my_word->depth.load(std::memory_order_relaxed) != 0);
}

void EngineStay::abandon_in_child() noexcept {
    for (Word* word = words.load(std::memory_order_acquire); word != nullptr; word = word->next) {
        if (word != my_word) {
            word->depth.store(0, std::memory_order_relaxed);
            word->taken.store(false, std::memory_order_relaxed);
        }
    }
    wordless.store(wordless_here, std::memory_order_relaxed);
}

void EngineStay::wait_for_all() noexcept {
    if (!engine::heavy_fence()) {
        // Without membarrier nothing but time makes a raised word seen: no processor keeps a store to itself for so long.
        const timespec long_enough{0, 2000000};
        ::nanosleep(&long_enough, nullptr);
    }
    for (const Word* word = words.load(std::memory_order_seq_cst); word != nullptr;
         word = word->next) {
        // Acquire pairs with the release in the destructor.
        while (word->depth.load(std::memory_order_acquire) != 0) {
            sleep_a_moment();
        }
    }
    while (wordless.load(std::memory_order_seq_cst) != 0) {
        sleep_a_moment();
    }
}

}  // namespace sanpoll::provider
