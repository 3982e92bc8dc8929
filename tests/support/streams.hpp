// What every stream must do, whatever it is made of (io/stream.hpp): call check_one_way(make) or
// check_two_ways(make) with a callable that makes two connected ends.
//
//     check_two_ways([]() -> Coro<StreamEnds<MemoryStream>> {
//         MemoryStreamPair ends = memory_stream_pair();
//         co_return StreamEnds<MemoryStream>{std::move(ends.a), std::move(ends.b)};
//     });
//
// Of a one-way stream `a` sends and `b` receives. Each check has ends and a kernel of its own.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <doctest/doctest.h>

#include <trapline/io/errors.hpp>
#include <trapline/io/stream.hpp>
#include <trapline/kernel/kernel.hpp>
#include <trapline/traps/calls.hpp>
#include <trapline/traps/cancel.hpp>
#include <trapline/traps/gather.hpp>

#include "leaks.hpp"

namespace trapline::test {

using namespace std::chrono_literals;

template <class A, class B = A>
struct StreamEnds {
    A a;
    B b;

    StreamEnds(A one, B other) : a(std::move(one)), b(std::move(other)) {}
    StreamEnds(StreamEnds&&) = default;
};

/// More than any stream holds on the way.
inline constexpr std::size_t large_bytes = 8 * 1024 * 1024;

/// Bytes unlike each other, the same each time.
inline std::string pattern(std::size_t size, std::uint32_t state = 1) {
    std::string text(size, '\0');
    for (char& c : text)
        c = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
    return text;
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
    return std::as_bytes(std::span(text));
}

/// Receives to the end, in pieces of up to `piece` bytes.
template <class S>
Coro<std::string> receive_to_end(S& stream, std::size_t piece = 65536) {
    std::string all;
    std::string buffer(piece, '\0');
    while (const std::size_t n = co_await stream.recv(std::as_writable_bytes(std::span(buffer))))
        all.append(buffer, 0, n);
    co_return all;
}

template <class S>
Coro<void> send_and_close(S& stream, std::string_view text) {
    co_await stream.send_all(bytes_of(text));
    co_await stream.close();
}

/// What the error of `what` means: one of the StreamErrors; 0 if there is none.
template <class W>
Coro<int> complaint_of(W what) {
    try {
        (void)co_await detail::begin(what);
    } catch (const std::system_error& failure) {
        INFO(failure.what());
        for (const StreamError error :
             {StreamError::broken, StreamError::closed, StreamError::busy}) {
            if (failure.code() == error)
                co_return static_cast<int>(error);
        }
        co_return -1;
    }
    co_return 0;
}

inline constexpr int broken = static_cast<int>(StreamError::broken);
inline constexpr int closed = static_cast<int>(StreamError::closed);
inline constexpr int busy = static_cast<int>(StreamError::busy);

template <class Ends>
struct OneWay {
    using A = decltype(Ends::a);
    using B = decltype(Ends::b);

    static Coro<void> bytes_come_in_order_whatever_the_pieces(Ends ends) {
        const std::string text = pattern(300'000);
        Task<std::string> received =
            co_await spawn([](B& b) { return receive_to_end(b, 777); }, std::ref(ends.b));
        std::mt19937 random{7};
        for (std::string_view rest = text; !rest.empty();) {
            const std::size_t size = std::min<std::size_t>(random() % 9000, rest.size());
            co_await ends.a.send_all(bytes_of(rest.substr(0, size)));
            rest.remove_prefix(size);
        }
        co_await ends.a.close();
        CHECK((co_await received.join()) == text);
        co_await ends.b.close();
    }

    static Coro<void> more_than_the_stream_holds_waits_for_the_receiver(Ends ends) {
        const std::string text = pattern(large_bytes);
        Task<> sent =
            co_await spawn([](A& a, const std::string& t) { return send_and_close(a, t); },
                           std::ref(ends.a), std::cref(text));
        for (int turn = 0; turn < 10; ++turn)
            co_await yield_now();
        CHECK_FALSE(sent.terminated());
        const std::string received = co_await receive_to_end(ends.b);
        CHECK((received == text));
        co_await sent.join();
        co_await ends.b.close();
    }

    static Coro<void> the_end_is_a_value_again_and_again(Ends ends) {
        co_await ends.a.send_all(bytes_of("last words"));
        co_await ends.a.close();
        std::array<std::byte, 64> buffer;
        std::size_t all = 0;
        while (const std::size_t n = co_await ends.b.recv(buffer))
            all += n;
        CHECK(all == 10);
        for (int again = 0; again < 3; ++again)
            CHECK((co_await ends.b.recv(buffer)) == 0);
        co_await ends.b.close();
    }

    static Coro<void> nothing_is_sent_and_received_at_once(Ends ends) {
        co_await ends.a.send_all(std::span<const std::byte>{});
        CHECK((co_await ends.b.recv(std::span<std::byte>{})) == 0);
        co_await ends.a.send_all(bytes_of("x"));
        std::array<std::byte, 8> buffer;
        CHECK((co_await ends.b.recv(buffer)) == 1);
        co_await ends.a.close();
        co_await ends.b.close();
    }

    static Coro<void> a_receiver_that_is_gone_breaks_the_stream(Ends ends) {
        co_await ends.b.close();
        const std::string text = pattern(65536);
        int complaint = 0;
        for (int attempt = 0; attempt < 200 && complaint == 0; ++attempt)
            complaint = co_await complaint_of([&] { return ends.a.send_all(bytes_of(text)); });
        CHECK(complaint == broken);
        co_await ends.a.close();
    }

    static Coro<void> a_closed_end_says_that_it_was_closed_here(Ends ends) {
        co_await ends.a.close();
        co_await ends.b.close();
        std::array<std::byte, 8> buffer;
        CHECK((co_await complaint_of([&] { return ends.a.send_all(bytes_of("x")); })) == closed);
        CHECK((co_await complaint_of([&] { return ends.b.recv(buffer); })) == closed);
        co_await ends.a.close(); // harmless twice
        co_await ends.b.close();
    }

    static Coro<void> close_ends_a_receive_of_another_task(Ends ends) {
        std::array<std::byte, 8> buffer;
        Task<int> receiving = co_await spawn(
            [](B& b, std::span<std::byte> to) {
                return complaint_of([&b, to] { return b.recv(to); });
            },
            std::ref(ends.b), std::span<std::byte>(buffer));
        for (int turn = 0; turn < 5; ++turn)
            co_await yield_now();
        co_await ends.b.close();
        CHECK((co_await receiving.join()) == closed);
        co_await ends.a.close();
    }

    static Coro<void> close_ends_a_send_of_another_task(Ends ends) {
        const std::string text = pattern(large_bytes);
        Task<int> sending = co_await spawn(
            [](A& a, std::string_view t) {
                return complaint_of([&a, t] { return a.send_all(bytes_of(t)); });
            },
            std::ref(ends.a), std::string_view(text));
        for (int turn = 0; turn < 5; ++turn)
            co_await yield_now();
        co_await ends.a.close();
        CHECK((co_await sending.join()) == closed);
        co_await ends.b.close();
    }

    static Coro<void> a_second_receiver_and_a_second_sender_are_refused(Ends ends) {
        std::array<std::byte, 8> buffer;
        const std::string text = pattern(large_bytes);
        Task<std::size_t> receiving = co_await spawn(
            [](B& b, std::span<std::byte> to) -> Coro<std::size_t> {
                co_return co_await b.recv(to);
            },
            std::ref(ends.b), std::span<std::byte>(buffer));
        co_await yield_now();
        CHECK((co_await complaint_of([&] { return ends.b.recv(buffer); })) == busy);
        co_await ends.a.send_all(bytes_of("one"));
        CHECK((co_await receiving.join()) == 3);

        Task<> sending =
            co_await spawn([](A& a, const std::string& t) { return send_and_close(a, t); },
                           std::ref(ends.a), std::cref(text));
        co_await yield_now();
        CHECK((co_await complaint_of([&] { return ends.a.send_all(bytes_of("x")); })) == busy);
        const std::string received = co_await receive_to_end(ends.b);
        CHECK((received == text)); // whole, and nothing in between
        co_await sending.join();
        co_await ends.b.close();
    }

    static Coro<void> a_receive_that_is_interrupted_has_taken_nothing(Ends ends) {
        std::array<std::byte, 8> buffer;
        const auto received = co_await ignore_after(1ms, [&] { return ends.b.recv(buffer); });
        CHECK_FALSE(received.has_value());
        co_await ends.a.send_all(bytes_of("all of it"));
        co_await ends.a.close();
        CHECK((co_await receive_to_end(ends.b)) == "all of it");
        co_await ends.b.close();
    }

    static Coro<void> a_send_that_is_interrupted_says_how_much_went(Ends ends) {
        const std::string text = pattern(large_bytes);
        std::size_t progress = 0;
        const auto sends = [&]() -> Coro<void> {
            try {
                co_await ends.a.send_all(bytes_of(text));
            } catch (const Cancelled& interrupt) {
                progress = interrupt.progress();
                throw;
            }
        };
        CHECK_FALSE((co_await ignore_after(5ms, sends)));
        // The rest goes the same way: what comes is as if nothing had happened.
        Task<> rest = co_await spawn([](A& a, std::string_view t) { return send_and_close(a, t); },
                                     std::ref(ends.a), std::string_view(text).substr(progress));
        const std::string received = co_await receive_to_end(ends.b);
        CHECK((received == text));
        co_await rest.join();
        co_await ends.b.close();
    }
};

/// Sends all of `out` and ends, and receives to the end meanwhile.
template <class S>
Coro<std::string> exchange_all(S& end, std::string_view out) {
    Task<> sent = co_await spawn(
        [](S& stream, std::string_view text) -> Coro<void> {
            co_await stream.send_all(bytes_of(text));
            co_await stream.shutdown();
        },
        std::ref(end), out);
    std::string in = co_await receive_to_end(end);
    co_await sent.join();
    co_return in;
}

template <class Ends>
struct TwoWays {
    using B = decltype(Ends::b);

    static Coro<void> both_directions_work_at_once(Ends ends) {
        const std::string there = pattern(large_bytes, 3);
        const std::string back = pattern(large_bytes, 4);
        Task<std::string> at_b =
            co_await spawn(exchange_all<B>, std::ref(ends.b), std::string_view(back));
        const std::string at_a = co_await exchange_all(ends.a, there);
        const std::string got = co_await at_b.join();
        CHECK((at_a == back));
        CHECK((got == there));
        co_await ends.a.close();
        co_await ends.b.close();
    }

    static Coro<void> after_half_a_close_the_other_direction_stays_open(Ends ends) {
        co_await ends.a.send_all(bytes_of("question"));
        co_await ends.a.shutdown();
        CHECK((co_await receive_to_end(ends.b)) == "question");
        co_await ends.b.send_all(bytes_of("answer"));
        co_await ends.b.close();
        CHECK((co_await receive_to_end(ends.a)) == "answer");
        CHECK((co_await complaint_of([&] { return ends.a.send_all(bytes_of("x")); })) == broken);
        co_await ends.a.close();
    }
};

namespace detail {

template <class Make, class... Checks>
void run_checks(Make make, Checks... checks) {
    int number = 0;
    const auto one = [&](auto check) {
        INFO("check ", ++number);
        const LeakGuard guard;
        run([&]() -> Coro<void> { co_await check(co_await make()); });
    };
    (one(checks), ...);
}

} // namespace detail

template <class Make>
void check_one_way(Make make) {
    using C = OneWay<trapline::detail::coro_result_t<Make>>;
    detail::run_checks(
        make, C::bytes_come_in_order_whatever_the_pieces,
        C::more_than_the_stream_holds_waits_for_the_receiver, C::the_end_is_a_value_again_and_again,
        C::nothing_is_sent_and_received_at_once, C::a_receiver_that_is_gone_breaks_the_stream,
        C::a_closed_end_says_that_it_was_closed_here, C::close_ends_a_receive_of_another_task,
        C::close_ends_a_send_of_another_task, C::a_second_receiver_and_a_second_sender_are_refused,
        C::a_receive_that_is_interrupted_has_taken_nothing,
        C::a_send_that_is_interrupted_says_how_much_went);
}

/// All that holds one way, in both directions, and what both have to do with each other.
template <class Make>
void check_two_ways(Make make) {
    using Ends = trapline::detail::coro_result_t<Make>;
    check_one_way(make);
    check_one_way([make]() -> Coro<Ends> {
        Ends ends = co_await make();
        co_return Ends{std::move(ends.b), std::move(ends.a)};
    });
    detail::run_checks(make, TwoWays<Ends>::both_directions_work_at_once,
                       TwoWays<Ends>::after_half_a_close_the_other_direction_stays_open);
}

} // namespace trapline::test
