// Internal. What a coroutine ended with: nothing yet, a value, or an exception.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace trapline::detail {

template <class T>
class Outcome {
public:
    static_assert(!std::is_rvalue_reference_v<T>, "a coroutine cannot return an rvalue reference");
    using Stored = std::conditional_t<
        std::is_lvalue_reference_v<T>, std::add_pointer_t<std::remove_reference_t<T>>,
        std::conditional_t<std::is_void_v<T>, std::type_identity<void>, std::remove_cv_t<T>>>;

    Outcome() noexcept {}
    Outcome(const Outcome&) = delete;
    Outcome& operator=(const Outcome&) = delete;
    ~Outcome() { clear(); }

    /// The value: a T, a pointer for a reference, nothing for void.
    template <class... Args>
    void set_value(Args&&... args) {
        clear(); // there is one already if a local's destructor threw after the first co_return
        std::construct_at(std::addressof(value_), std::forward<Args>(args)...);
        kind_ = Kind::value;
    }

    void set_failure(std::exception_ptr failure) noexcept {
        clear();
        std::construct_at(&failure_, std::move(failure));
        kind_ = Kind::failure;
    }

    bool has_value() const noexcept { return kind_ == Kind::value; }
    bool has_failure() const noexcept { return kind_ == Kind::failure; }

    /// Only if has_failure().
    const std::exception_ptr& failure() const noexcept { return failure_; }

    /// Only if has_value(). The value where it is kept; nothing for void.
    std::add_lvalue_reference_t<T> get() noexcept {
        if constexpr (std::is_void_v<T>)
            return;
        else if constexpr (std::is_lvalue_reference_v<T>)
            return *value_;
        else
            return value_;
    }

    /// Only if has_value(). A copy where T can be copied.
    T copy() const {
        if constexpr (std::is_void_v<T>)
            return;
        else if constexpr (std::is_lvalue_reference_v<T>)
            return *value_;
        else
            return value_;
    }

    /// Moves the value out, or throws the exception.
    T take() {
        if (kind_ != Kind::value) [[unlikely]]
            rethrow(failure_);
        if constexpr (std::is_void_v<T>)
            return;
        else if constexpr (std::is_lvalue_reference_v<T>)
            return *value_;
        else
            return std::move(value_);
    }

    /// Moves the value out and leaves nothing. Only if has_value().
    T move_out() {
        struct Clear {
            Outcome* outcome;
            ~Clear() { outcome->clear(); }
        } clear_after{this};
        return take();
    }

    void move_to(Outcome& other) {
        if (has_value())
            other.set_value(std::move(value_));
        else if (has_failure())
            other.set_failure(std::move(failure_));
    }

private:
    enum class Kind : std::uint8_t { empty, value, failure };

    /// Out of the way of those who take a value.
    [[noreturn, gnu::noinline]] static void rethrow(const std::exception_ptr& failure) {
        std::rethrow_exception(failure);
    }

    void clear() noexcept {
        if (kind_ == Kind::value)
            std::destroy_at(std::addressof(value_));
        else if (kind_ == Kind::failure)
            std::destroy_at(&failure_);
        kind_ = Kind::empty;
    }

    union {
        Stored value_;
        std::exception_ptr failure_;
    };
    Kind kind_ = Kind::empty;
};

} // namespace trapline::detail
