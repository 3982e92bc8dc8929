// Internal. Descriptors in a replay: something that can be closed stands under each number that the
// recorded program got. Where the number is taken, another one stands for it, and traps are
// compared by what stands for what.
#pragma once

#include <cstdint>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include <sys/types.h>

#include "../traps/io_request.hpp"
#include "recording.hpp"

namespace trapline {

class StandIns {
public:
    /// Keeps the numbers taken that the recorded program had open when it began.
    explicit StandIns(const std::vector<int>& open);
    StandIns(const StandIns&) = delete;
    StandIns& operator=(const StandIns&) = delete;
    ~StandIns();

    /// For a descriptor that `request` answered, or (null) one that came with a message; a file
    /// that was opened is like `file`, but has no content. Answers the number to use here. Throws
    /// std::system_error when there are no more descriptors.
    int make(int recorded, const traps::IoRequest* request, const recording::FileKind& file = {});

    /// Whether what was `recorded` is `here`. Those that the program made without a trap are learnt
    /// when they are first seen.
    bool same(std::int64_t recorded, std::int64_t here);

    /// Task `by` has begun to close it; the number may be given anew before that is over.
    void begin_close(int here, std::uint64_t by) { closing_.try_emplace(here, by); }
    void end_close(int here, std::uint64_t by, bool was_open) noexcept;

private:
    using Identity = std::pair<dev_t, ino_t>;
    struct Known {
        int here;
        Identity file; ///< to see whether it was closed without a trap
    };

    bool is_reserved(int fd) const noexcept;

    std::unordered_map<int, Known> known_; ///< by their recorded numbers
    Identity nothing_{};                   ///< of what stands under those that follow
    std::set<int> reserved_;
    std::unordered_map<int, std::uint64_t> closing_; ///< and which task does it
};

} // namespace trapline
