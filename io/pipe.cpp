#include "pipe.hpp"

#include <cerrno>

#include <fcntl.h>

#include "../traps/exceptions.hpp"
#include "errors.hpp"

namespace trapline {

std::string detail::PipeEnd::about(const char* operation) const {
    return std::string(operation) + (*this ? "" : " that was closed here");
}

const Reply& PipeReader::Recv::checked(const Reply& answer) const {
    if (answer.failed()) [[unlikely]]
        detail::raise_error(answer.error(), pipe_->about("read of a pipe"));
    return answer;
}

const Reply& PipeWriter::Send::checked(const Reply& answer) const {
    if (answer.failed()) [[unlikely]]
        detail::raise_error(answer.error(), pipe_->about("write to a pipe"));
    return answer;
}

Coro<void> PipeWriter::send_all(std::span<const std::byte> data) {
    std::size_t sent = 0;
    try {
        while (sent < data.size()) {
            const auto answer = co_await traps::write(fd(), data.subspan(sent));
            if (!answer)
                throw TransferError(answer.error(), about("write to a pipe"), sent);
            sent += *answer;
        }
    } catch (Cancelled& interrupt) {
        interrupt.set_progress(sent);
        throw;
    }
}

Coro<void> PipeWriter::send_all(std::string_view text) {
    return send_all(std::as_bytes(std::span(text)));
}

Coro<Pipe> Pipe::open() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0)
        detail::raise_error(errno, "pipe");
    co_return Pipe{PipeReader{Descriptor{ends[0]}}, PipeWriter{Descriptor{ends[1]}}};
}

} // namespace trapline
