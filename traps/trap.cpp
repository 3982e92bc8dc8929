#include "trap.hpp"

#include <array>

namespace trapline::traps {

const char* name_of(const Trap& trap) noexcept {
    static constexpr std::array<const char*, std::variant_size_v<Trap>> names{
        "Yield",       "Sleep",    "SleepUntil", "Clock",        "Self", "Spawn",
        "Join",        "Cancel",   "SetTimeout", "UnsetTimeout", "Mask", "Park",
        "AwaitThread", "ReadWait", "WriteWait",  "IoRelease",    "Io"};
    return names[trap.index()];
}

} // namespace trapline::traps
