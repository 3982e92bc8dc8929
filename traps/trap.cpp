#include "trap.hpp"

#include <array>

namespace trapline::traps {

const char* name_of(std::size_t index) noexcept {
    static constexpr std::array<const char*, std::variant_size_v<Trap>> names{
        "Yield",       "Sleep",    "SleepUntil", "Clock",        "Self", "Spawn",
        "Join",        "Cancel",   "SetTimeout", "UnsetTimeout", "Mask", "Park",
        "AwaitThread", "ReadWait", "WriteWait",  "IoRelease",    "Io"};
    return names[index];
}

const char* name_of(const Trap& trap) noexcept {
    // A kernel may keep a ReadWait or WriteWait as the Poll that it stands for.
    if (const Io* io = std::get_if<Io>(&trap)) {
        if (const Poll* poll = std::get_if<Poll>(&io->request); poll && poll->side != Side::none)
            return poll->side == Side::read ? "ReadWait" : "WriteWait";
    }
    return name_of(trap.index());
}

} // namespace trapline::traps
