// The exceptions that I/O objects throw besides std::system_error.
//
//     try {
//         co_await stream.recv_exactly(buffer);
//     } catch (const EndOfStream& end) {
//         missing = buffer.size() - end.progress();
//     }
#pragma once

#include <cstddef>
#include <stdexcept>
#include <string>
#include <system_error>

namespace trapline {

/// A transfer of many bytes failed half way: `progress()` bytes were moved before.
class TransferError : public std::system_error {
public:
    TransferError(std::error_code code, const std::string& what, std::size_t progress)
        : std::system_error(code, what), progress_(progress) {}

    std::size_t progress() const noexcept { return progress_; }

private:
    std::size_t progress_;
};

/// The stream ended in the middle of what was to be read: `progress()` bytes came before.
class EndOfStream : public std::runtime_error {
public:
    EndOfStream(const std::string& what, std::size_t progress)
        : std::runtime_error(what), progress_(progress) {}

    std::size_t progress() const noexcept { return progress_; }

private:
    std::size_t progress_;
};

namespace detail {

/// Throws std::system_error(error, what).
[[noreturn]] void raise_error(int error, const std::string& what);

} // namespace detail

} // namespace trapline
