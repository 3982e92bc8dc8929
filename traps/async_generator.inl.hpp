// How an AsyncGenerator is closed, looped over and collected: see async_generator.hpp.
#pragma once

#include "async_generator.hpp"

namespace trapline {

namespace detail {

template <class T>
class [[nodiscard]] ClosingStep : public AsyncGeneratorStep<T> {
public:
    using AsyncGeneratorStep<T>::AsyncGeneratorStep;

    template <class Promise>
    HandOver await_suspend(std::coroutine_handle<Promise> asking) noexcept {
        this->generator().body_.promise().closing = true;
        return AsyncGeneratorStep<T>::await_suspend(asking);
    }

    void await_resume() {
        AsyncGeneratorPromise<T>& body = *this->stepped();
        const bool goes_on = body.yielded.full();
        const std::exception_ptr failure = this->end(body);
        if (goes_on)
            raise_generator_goes_on();
        try {
            if (failure)
                std::rethrow_exception(failure);
        } catch (const GeneratorClosed&) {}
    }
};

template <class T>
Coro<void> close_generator(AsyncGenerator<T> generator) {
    co_await disable_cancellation(ClosingStep<T>{generator});
}

/// What for_each hands to its callable: a reference as it is, a value to be moved out.
template <class T, class F, class Item>
decltype(auto) call_with_item(F& function, Item& item) {
    if constexpr (std::is_lvalue_reference_v<T>)
        return std::invoke(function, item);
    else
        return invoke_kept(function, item);
}

template <class T, class F>
using item_result_t =
    decltype(call_with_item<T>(std::declval<F&>(), std::declval<typename Yielded<T>::Item&>()));

/// A callable that takes a T and returns an awaitable of ours or a plain value.
template <class F, class T>
concept ItemFunction = std::invocable<F&, T> || std::invocable<F&, typename Yielded<T>::Item&>;

template <class T, class F>
Coro<void> loop_over(AsyncGenerator<T>& generator, F& function) {
    while (auto item = co_await generator.next()) {
        using Result = item_result_t<T, F>;
        if constexpr (Awaitable<Result>) {
            if constexpr (std::is_same_v<await_result_t<Result>, bool>) {
                const bool more = co_await call_with_item<T>(function, *item);
                if (!more)
                    co_return;
            } else {
                co_await call_with_item<T>(function, *item);
            }
        } else if constexpr (std::is_same_v<Result, bool>) {
            if (!call_with_item<T>(function, *item))
                co_return;
        } else {
            call_with_item<T>(function, *item);
        }
    }
}

/// G is the generator, or a reference to it.
template <class G, class F>
Coro<void> for_each_of(G generator, F function) {
    Outcome<void> looped;
    Outcome<void> closed;
    co_await Attempt{loop_over(generator, function), looped};
    if (!generator.ended())
        co_await Attempt{generator.close(), closed};
    else
        closed.set_value();
    looped.take();
    closed.take();
}

template <class T, class G>
Coro<std::vector<std::remove_cvref_t<T>>> collect_of(G generator, std::size_t items_max) {
    std::vector<std::remove_cvref_t<T>> items;
    const auto keep = [&items, items_max](T item) {
        items.push_back(std::forward<T>(item));
        return items.size() < items_max;
    };
    if (items_max > 0)
        co_await for_each_of<AsyncGenerator<T>&>(generator, keep);
    else
        co_await generator.close();
    co_return items;
}

} // namespace detail

template <class T>
Coro<void> AsyncGenerator<T>::close() {
    if (body_ && body_.promise().running)
        detail::raise_generator_in_use("close()");
    if (body_ && !body_.promise().started)
        destroy();
    if (!body_)
        return []() -> Coro<void> { co_return; }();
    return detail::close_generator(std::move(*this));
}

} // namespace trapline
