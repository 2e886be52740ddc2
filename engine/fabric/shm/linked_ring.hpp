// Things that have something in common, such as links, without memory for a list.
#pragma once

namespace sanpoll::engine::shm {

/// What one keeps for being in a ring.
template <typename T>
struct InRing {
    T* next = nullptr;  // nullptr: it is not
    T* previous = nullptr;
};

/// A ring by one of their members; whose turn it is comes first. One thread. Nothing blocks or allocates.
template <typename T, InRing<T> T::*kMember>
class LinkedRing {
public:
    [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
    [[nodiscard]] T* first() const noexcept { return first_; }
    [[nodiscard]] T* last() const noexcept { return (first_->*kMember).previous; }  // if any
    [[nodiscard]] static bool has(const T& one) noexcept { return (one.*kMember).next != nullptr; }
    [[nodiscard]] static T* after(const T& one) noexcept { return (one.*kMember).next; }

    /// As the last one; not if it is there.
    void add(T& one) noexcept {
        if (has(one)) {
            return;
        }
        InRing<T>& own = one.*kMember;
        if (first_ == nullptr) {
            own = {&one, &one};
            first_ = &one;
            return;
        }
        own = {first_, (first_->*kMember).previous};
        (own.previous->*kMember).next = &one;
        (first_->*kMember).previous = &one;
    }
    /// If it is there.
    void remove(T& one) noexcept {
        InRing<T>& own = one.*kMember;
        if (own.next == nullptr) {
            return;
        }
        (own.previous->*kMember).next = own.next;
        (own.next->*kMember).previous = own.previous;
        if (first_ == &one) {
            first_ = own.next == &one ? nullptr : own.next;
        }
        own = {};
    }
    /// The first becomes the last.
    void rotate() noexcept { first_ = (first_->*kMember).next; }

private:
    T* first_ = nullptr;
};

}  // namespace sanpoll::engine::shm
