// select: waits until one of several sends and receives can happen, or some time has passed.
//
//     Channel<int> numbers;
//     Channel<std::string> words{1};
//     std::optional<int> number;
//     const std::string word = "hello";
//     switch (co_await select(numbers.receiving(number), words.sending(word), after(100ms))) {
//     case 0: break; // `number` was received; it is empty if the channel is closed
//     case 1: break; // `word` was sent
//     case 2: break; // neither could be for 100 ms
//     }
//
// Exactly one case happens, and its place among the arguments is the answer. If several can happen
// at once, it is the first of them; no other channel is touched. A closed channel can always be
// received from, and sent to in vain. `after(0s)` as the last argument asks without waiting.
//
// An interrupt means that no case has happened. Like every time limit, after() is held back within
// disable_cancellation.
#pragma once

#include <cassert>
#include <concepts>
#include <cstddef>
#include <optional>
#include <tuple>
#include <utility>

#include "cancel.hpp"
#include "channel.hpp"

namespace trapline {

/// The case of a select that happens when nothing else did for that long. One in a select.
class After {
public:
    using trapline_select_case = void;

    explicit After(Duration limit) noexcept : limit_(limit) {}
    Duration limit() const noexcept { return limit_; }

    bool try_now() const noexcept { return limit_ <= Duration::zero(); }
    void wait(detail::Alternatives&) const noexcept {}
    void leave() const noexcept {}
    bool is(const detail::Offer*) const noexcept { return false; }
    void conclude() const noexcept {}

private:
    Duration limit_;
};

/// For select, see there. Counted from when the select is awaited.
inline After after(Duration limit) noexcept { return After{limit}; }
/// The same for fractions, as in 0.5s.
template <FractionalDuration D>
After after(D limit) noexcept {
    return After{detail::whole(limit)};
}

namespace detail {

/// A case: Channel<T>::Receiving, Channel<T>::Sending, After.
template <class C>
concept SelectCase = requires { typename C::trapline_select_case; };

template <SelectCase... Cases>
class [[nodiscard]] Select : public ParkAwaiter {
public:
    explicit Select(Cases&&... cases) : cases_(std::move(cases)...) {}
    Select(Select&& other) noexcept : cases_(std::move(other.cases_)) {}

    bool await_ready() {
        std::size_t at = 0;
        const auto try_one = [&](auto& one) {
            if (!one.try_now())
                return ++at, false;
            one.conclude();
            return true;
        };
        if (!std::apply([&](auto&... each) { return (try_one(each) || ...); }, cases_))
            return ready(false);
        happened_ = at;
        return ready(true);
    }

    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> self) noexcept {
        std::apply([this](auto&... each) { (each.wait(alternatives_), ...); }, cases_);
        park(self, alternatives_.place);
    }

    std::size_t await_resume() {
        std::apply([](auto&... each) { (each.leave(), ...); }, cases_);
        end_wait();
        if (asked())
            conclude(alternatives_.met);
        return happened_;
    }

private:
    void conclude(const Offer* met) noexcept {
        assert(met);
        std::size_t at = 0;
        const auto conclude_it = [&](auto& one) {
            if (one.is(met)) {
                happened_ = at;
                one.conclude();
            }
            ++at;
        };
        std::apply([&](auto&... each) { (conclude_it(each), ...); }, cases_);
    }

    Alternatives alternatives_; // outlives the offers, which leave their lines
    std::tuple<Cases...> cases_;
    std::size_t happened_ = 0;
};

template <class... Cases>
Coro<std::size_t> select_within(Duration limit, std::size_t place, Select<Cases...> choice) {
    if (choice.await_ready()) // then no limit need be set
        co_return choice.await_resume();
    const std::optional<std::size_t> happened = co_await ignore_after(limit, std::move(choice));
    co_return happened.value_or(place);
}

} // namespace detail

/// Waits until one of the cases can happen, and lets it happen. Answers its place, from 0. Blocks
/// if none can be at once. Throws std::bad_alloc as the case itself may. Interrupted: none of them
/// happened.
template <detail::SelectCase... Cases>
auto select(Cases... cases) {
    constexpr std::size_t limits = (std::size_t{std::same_as<Cases, After>} + ... + 0);
    static_assert(sizeof...(Cases) > 0, "select of nothing would never end");
    static_assert(limits <= 1, "a select has one after()");
    if constexpr (limits == 0) {
        return detail::Select<Cases...>{std::move(cases)...};
    } else {
        std::size_t place = 0;
        Duration limit{};
        std::size_t at = 0;
        const auto find = [&](const auto& one) {
            if constexpr (requires { one.limit(); }) {
                place = at;
                limit = one.limit();
            }
            ++at;
        };
        (find(cases), ...);
        return detail::select_within(limit, place, detail::Select<Cases...>{std::move(cases)...});
    }
}

} // namespace trapline
