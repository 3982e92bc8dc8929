#include "stream.hpp"

#include <cerrno>
#include <string>

namespace trapline {

namespace {

class StreamErrors final : public std::error_category {
public:
    const char* name() const noexcept override { return "stream"; }

    std::string message(int error) const override {
        switch (static_cast<StreamError>(error)) {
        case StreamError::broken: return "the stream is broken";
        case StreamError::closed: return "the stream was closed here";
        case StreamError::busy: return "another task uses the stream";
        }
        return "unknown error of a stream";
    }

    bool equivalent(const std::error_code& code, int error) const noexcept override {
        if (code.category() != std::system_category() && code.category() != std::generic_category())
            return error_category::equivalent(code, error);
        switch (static_cast<StreamError>(error)) {
        case StreamError::broken: return is_broken(code.value());
        case StreamError::closed: return code.value() == EBADF || code.value() == ECANCELED;
        case StreamError::busy: return code.value() == EBUSY;
        }
        return false;
    }

private:
    static bool is_broken(int error) noexcept {
        switch (error) {
        case ECONNRESET:
        case ECONNABORTED:
        case EPIPE:
        case ETIMEDOUT:
        case ENETRESET:
        case ENETDOWN:
        case ENETUNREACH:
        case EHOSTDOWN:
        case EHOSTUNREACH:
        case EIO: return true;
        default: return false;
        }
    }
};

} // namespace

const std::error_category& stream_error_category() noexcept {
    static const StreamErrors category;
    return category;
}

} // namespace trapline
