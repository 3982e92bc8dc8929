// The programs that are written once in each design, and what is measured while one runs:
//
//     design_trap spawn_join operations=100000
//     design_future switch tasks=100 depth=3 operations=100000
//
//  switch      tasks, depth   tasks let each other run from `depth` coroutines deep; one turn of
//  one spawn_join                 an empty task is made and waited for gather      width so many
//  tasks are made at once, the sum of their results taken; one timers      tasks          each
//  sleeps under a limit, both random and below 10 ms; one sleep limit                      I/O that
//  does nothing, under a limit of ten seconds cancel      tasks          all wait for an event that
//  never comes, and are cancelled; one of them lock        tasks          each takes the lock, lets
//  others run, gives it back; one time queue                      two tasks pass a number to and
//  fro by two queues of one; one way nop         tasks          I/O that does nothing, by each
//  task; one operation pipe                       two tasks pass 64 bytes to and fro by two pipes;
//  one way waiting     tasks          wait for an event; the memory of one echo        port a
//  server: sends back what it gets http        port           a server: answers requests without a
//  body, each whole within 5 s
//
// The numbers are the arguments; what one operation is stands last in a line, and `operations` is
// how many are done (of `cancel` and `waiting`: one a task). Servers listen on 127.0.0.1 until
// SIGTERM. They, and `waiting`, are not run to warm up.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>

namespace designs {

/// What a program is run with, and what is measured of it.
class Run {
public:
    explicit Run(std::map<std::string, std::int64_t, std::less<>> numbers)
        : numbers_(std::move(numbers)) {}

    /// The number of that name. Throws std::invalid_argument if there is none.
    int operator[](std::string_view name) const;

    enum class Warm : bool { no, yes };

    /// Measures `body`, which answers how many operations it did. To warm up it is called once
    /// before that. `system_calls` answers how many there were so far.
    void measure(const std::function<std::uint64_t()>& system_calls,
                 const std::function<std::uint64_t()>& body, Warm warm = Warm::yes);

    /// The memory is at its largest now.
    void note_memory();

    /// {"operations": ...}
    std::string result() const;

private:
    struct Counts;

    std::map<std::string, std::int64_t, std::less<>> numbers_;
    std::uint64_t operations_ = 0;
    std::uint64_t ns_ = 0;
    std::uint64_t cpu_ns_ = 0;
    std::uint64_t system_calls_ = 0;
    std::uint64_t allocations_ = 0;
    std::uint64_t allocated_bytes_ = 0;
    std::int64_t resident_before_ = 0;
    std::int64_t resident_ = 0; ///< bytes, beyond what there was before
};

struct Program {
    std::string_view name;
    void (*run)(Run&);
};

/// A design has these.
extern const std::span<const Program> programs;

/// The same small random numbers in each design (Lehmer's, with Park and Miller's factor).
class Random {
public:
    explicit Random(int seed) noexcept : state_(static_cast<std::uint64_t>(seed) + 1) {}
    int below(int limit) noexcept {
        state_ = state_ * 48271 % 2147483647;
        return static_cast<int>(state_ % static_cast<std::uint64_t>(limit));
    }

private:
    std::uint64_t state_;
};

inline constexpr int longest_sleep_us = 10'000;

inline constexpr std::string_view http_answer = "HTTP/1.1 200 OK\r\n"
                                                "Content-Type: text/plain\r\n"
                                                "Content-Length: 13\r\n"
                                                "\r\n"
                                                "Hello, world!";

} // namespace designs
