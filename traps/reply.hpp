// What a kernel sends back for a trap: a value or -errno, or an interrupt.
//
//     Reply answer(const Trap& trap, TimePoint now) {
//         if (std::holds_alternative<traps::Yield>(trap))
//             return {};
//         if (std::holds_alternative<traps::Clock>(trap))
//             return Reply::time(now);
//         return {-ENOSYS};
//     }
#pragma once

#include <cstdint>
#include <type_traits>

#include "time.hpp"

namespace trapline {

/// Why a trap was not answered by a result.
enum class Interrupt : std::uint8_t {
    none,
    cancelled, ///< somebody cancelled the task
    timed_out, ///< a time limit ran out; `value` is its deadline
    thrown,    ///< the driver throws an exception of its own (Routine::throw_in)
};

/// Times are counted from 0 upwards: a kernel's clock must not answer negative ones.
/// Reply{n} is a result; Reply{-ENOENT} is an error; Reply{.interrupt = ...} interrupts.
struct Reply {
    std::int64_t value = 0;       ///< result or -errno; with an interrupt: its argument
    std::uint32_t progress = 0;   ///< bytes moved before an interrupt stopped a whole transfer
    std::uint16_t stopped_by = 0; ///< errno that cut a whole transfer short; value is what was done
    Interrupt interrupt = Interrupt::none;
    std::uint8_t reserved = 0; // no padding: a reply is written and read as two words

    static constexpr Reply time(TimePoint t) noexcept { return {t.time_since_epoch().count()}; }
    constexpr TimePoint time() const noexcept { return TimePoint{Duration{value}}; }

    constexpr bool failed() const noexcept { return value < 0; }
    constexpr int error() const noexcept { return static_cast<int>(-value); }
};

static_assert(std::is_trivially_copyable_v<Reply> && sizeof(Reply) == 16);

} // namespace trapline
