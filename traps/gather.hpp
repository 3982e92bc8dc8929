// Several things at once: gather waits for all of them, race for the first.
//
//     std::tuple<std::string, int> both = co_await gather(fetch_name(), fetch_size());
//     std::vector<int> all = co_await gather(std::move(coros));
//     std::variant<int, TimePoint> first = co_await race(fetch_size(), sleep(2s));
//
// Each runs as a task of its own, in a task_group: when gather or race ends, all of them have
// ended. What is given is a Coro, a callable that returns one (it is kept alive), or any other
// awaitable of ours. A result of void is std::monostate, a reference is std::reference_wrapper.
//
// If one fails, the others are cancelled, and TaskGroupError holds every failure. If the caller is
// interrupted, all are cancelled and waited for before the interrupt passes on, and what they have
// got so far is dropped, in race also what those that came too late have got: to wait for one of
// several items, take select, which takes one alone. If a stranger cancels one of gather's, the
// others go on, and then TaskError says so.
#pragma once

#include <concepts>
#include <cstddef>
#include <functional>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "group.hpp"

namespace trapline {

namespace detail {

/// A result as something that can be kept in a tuple, variant or vector.
template <class R>
using kept_result_t =
    std::conditional_t<std::is_void_v<R>, std::monostate,
                       std::conditional_t<std::is_lvalue_reference_v<R>,
                                          std::reference_wrapper<std::remove_reference_t<R>>, R>>;

template <class T>
Coro<T> as_coro(Coro<T> coro) noexcept {
    return coro;
}
template <Body W>
Coro<body_result_t<W>> as_coro(W what) {
    co_return co_await begin(what);
}

/// The result of a task that has ended, moved out if `task` is its last handle. Throws TaskError.
template <class T>
kept_result_t<T> take_result_of(Task<T>&& task) {
    auto& cell = static_cast<TaskCell<T>&>(*task.record());
    if constexpr (std::is_void_v<T>) {
        cell.hand_out(true);
        return {};
    } else {
        return cell.hand_out(cell.references == 1);
    }
}

template <class... T, std::size_t... I>
Coro<std::tuple<kept_result_t<T>...>> gather_all(std::index_sequence<I...>, Coro<T>... coros) {
    std::tuple<Task<T>...> tasks;
    co_await task_group([&](TaskGroup& group) -> Coro<void> {
        ((std::get<I>(tasks) = co_await group.spawn(std::move(coros))), ...);
        co_return; // so that it is a coroutine, however few there are
    });
    co_return std::tuple<kept_result_t<T>...>{take_result_of(std::move(std::get<I>(tasks)))...};
}

template <class... T, std::size_t... I>
Coro<std::variant<kept_result_t<T>...>> race_all(std::index_sequence<I...>, Coro<T>... coros) {
    using Result = std::variant<kept_result_t<T>...>;
    std::tuple<Task<T>...> tasks;
    Task<> winner;
    co_await task_group(WaitFor::any, [&](TaskGroup& group) -> Coro<void> {
        ((std::get<I>(tasks) = co_await group.spawn(std::move(coros))), ...);
        co_await group.join();
        winner = group.completed();
    });
    if (!winner) // the kernel's shutdown cancelled them all: the first one's error says so
        winner = std::get<0>(tasks);
    std::optional<Result> result;
    const auto take = [&]<std::size_t index>(std::integral_constant<std::size_t, index>) {
        if (std::get<index>(tasks) != winner)
            return false;
        winner = {};
        result.emplace(std::in_place_index<index>,
                       take_result_of(std::move(std::get<index>(tasks))));
        return true;
    };
    (void)(take(std::integral_constant<std::size_t, I>{}) || ...);
    co_return *std::move(result);
}

} // namespace detail

/// Answers the results of all, in the order in which they were given. Blocks.
template <detail::Body... W>
auto gather(W... what) -> Coro<std::tuple<detail::kept_result_t<detail::body_result_t<W>>...>> {
    return detail::gather_all(std::index_sequence_for<W...>{}, detail::as_coro(std::move(what))...);
}

/// Answers the results of all, in the order in which they were given. Blocks.
template <class T>
Coro<std::vector<detail::kept_result_t<T>>> gather(std::vector<Coro<T>> coros) {
    std::vector<Task<T>> tasks;
    co_await task_group([&](TaskGroup& group) -> Coro<void> {
        tasks.reserve(coros.size());
        for (Coro<T>& coro : coros)
            tasks.push_back(co_await group.spawn(std::move(coro)));
    });
    std::vector<detail::kept_result_t<T>> results;
    results.reserve(tasks.size());
    for (Task<T>& task : tasks)
        results.push_back(detail::take_result_of(std::move(task)));
    co_return results;
}

/// Answers the result of the one that ends first; the variant's index says which it is. The others
/// are cancelled, and waited for: a result that they have all the same is dropped, a failure is
/// thrown. Blocks.
template <detail::Body... W>
    requires(sizeof...(W) > 0)
auto race(W... what) -> Coro<std::variant<detail::kept_result_t<detail::body_result_t<W>>...>> {
    return detail::race_all(std::index_sequence_for<W...>{}, detail::as_coro(std::move(what))...);
}

} // namespace trapline
