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
    void set_progress(std::size_t bytes) noexcept { progress_ = bytes; }

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

/// What was to be read grew beyond its limit. It stays readable.
class LimitExceeded : public std::runtime_error {
public:
    LimitExceeded(const std::string& what, std::size_t bytes_max)
        : std::runtime_error(what), bytes_max_(bytes_max) {}

    std::size_t bytes_max() const noexcept { return bytes_max_; }

private:
    std::size_t bytes_max_;
};

namespace detail {

/// Throws std::system_error(error, what).
[[noreturn]] void raise_error(int error, const std::string& what);

} // namespace detail

} // namespace trapline
