// Internal. From what a trap call answered to what I/O objects throw.
#pragma once

#include <expected>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

namespace trapline::detail {

/// The answer; an error is thrown as std::system_error(error, what).
template <class T>
T need(std::expected<T, std::error_code> answer, const std::string& what) {
    if (!answer)
        throw std::system_error(answer.error(), what);
    if constexpr (!std::is_void_v<T>)
        return *std::move(answer);
}

} // namespace trapline::detail
