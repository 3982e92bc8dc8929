// Internal. Where a generator puts what it yields, until somebody takes it.
#pragma once

#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace trapline::detail {

/// Room for one Y. A reference is kept as a pointer: what it refers to is the generator's own.
template <class Y>
class Yielded {
public:
    static_assert(!std::is_void_v<Y>, "a generator that yields nothing: yield std::monostate");
    static_assert(!std::is_rvalue_reference_v<Y>, "yield the value itself: it is moved");

    /// What asking for the next value answers: false if there is none.
    using Next = std::conditional_t<std::is_lvalue_reference_v<Y>,
                                    std::add_pointer_t<std::remove_reference_t<Y>>,
                                    std::optional<std::remove_cv_t<Y>>>;
    using Item = std::remove_reference_t<decltype(*std::declval<Next&>())>;

    template <class U>
    void fill(U&& value) {
        if constexpr (std::is_lvalue_reference_v<Y>)
            next_ = std::addressof(value);
        else
            next_.emplace(std::forward<U>(value));
    }

    bool full() const noexcept { return static_cast<bool>(next_); }

    /// Only if it is full.
    Item& item() noexcept { return *next_; }

    void clear() noexcept {
        if constexpr (std::is_lvalue_reference_v<Y>)
            next_ = nullptr;
        else
            next_.reset();
    }

    /// What is in it, moved out. Leaves nothing.
    Next take() {
        if constexpr (std::is_lvalue_reference_v<Y>) {
            return std::exchange(next_, nullptr);
        } else {
            struct Clear {
                Yielded* self;
                ~Clear() { self->next_.reset(); }
            } const clear_after{this};
            return std::move(next_);
        }
    }

private:
    Next next_{};
};

/// What may stand behind `co_yield` for a Y. (For a reference a parameter of that very type, so
/// that a temporary made for it lives as long as the co_yield.)
template <class U, class Y>
concept YieldableAs = !std::is_reference_v<Y> && std::is_convertible_v<U&&, Y>;

} // namespace trapline::detail
