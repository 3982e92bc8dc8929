#include "buffered_reader.hpp"

namespace trapline::detail {

namespace {

/// What was waited for, as it can be printed: "\r\n" and the like.
std::string quoted(std::string_view text) {
    std::string quote = "\"";
    for (const char c : text) {
        switch (c) {
        case '\n': quote += "\\n"; break;
        case '\r': quote += "\\r"; break;
        case '\0': quote += "\\0"; break;
        default: quote += static_cast<unsigned char>(c) < ' ' ? '?' : c; break;
        }
    }
    return quote + "\"";
}

} // namespace

std::string ReadBuffer::take(std::size_t count) {
    std::string taken(text().substr(0, count));
    drop(count);
    return taken;
}

std::size_t ReadBuffer::take(std::span<std::byte> to) noexcept {
    const std::size_t count = std::min(to.size(), size());
    std::ranges::copy(waiting().first(count), to.begin());
    drop(count);
    return count;
}

std::span<std::byte> ReadBuffer::room() {
    if (end_ == bytes_.size() && begin_ > 0) {
        std::memmove(bytes_.data(), bytes_.data() + begin_, size());
        end_ -= begin_;
        begin_ = 0;
    }
    if (end_ == bytes_.size())
        bytes_.resize(bytes_.size() * 2);
    return std::span(bytes_).subspan(end_);
}

void ReadBuffer::put_back(std::span<const std::byte> data) {
    if (data.empty())
        return;
    std::vector<std::byte> all(std::max(bytes_.size(), data.size() + size()));
    std::ranges::copy(data, all.begin());
    std::ranges::copy(waiting(), all.begin() + static_cast<std::ptrdiff_t>(data.size()));
    end_ = data.size() + size();
    begin_ = 0;
    bytes_ = std::move(all);
}

void raise_end(std::string_view wanted, std::size_t progress) {
    throw EndOfStream("the stream ended after " + std::to_string(progress) +
                          " bytes, in the middle of what was read: " + quoted(wanted),
                      progress);
}

void raise_too_much(std::size_t bytes_max) {
    throw LimitExceeded("more than " + std::to_string(bytes_max) + " bytes", bytes_max);
}

void raise_limit(std::string_view wanted, std::size_t bytes_max) {
    throw LimitExceeded("no " + quoted(wanted) + " within " + std::to_string(bytes_max) + " bytes",
                        bytes_max);
}

} // namespace trapline::detail
