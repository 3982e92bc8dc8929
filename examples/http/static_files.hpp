// StaticFiles: serves what lies beneath a directory, and nothing else.
//
//     StaticFiles files = co_await StaticFiles::open(directory);
//     router.add("GET", "/{path...}", [&files](Request& request) {
//         return files.serve(request, request.parameter("path"));
//     });
//
// Paths are not looked at: Linux opens them relative to the directory and refuses what leads out of
// it, be it "..", a link or a rename at the same time (openat2, RESOLVE_BENEATH). Relative links
// that stay inside are followed. Only regular files are served; of a directory its index.html, and
// only with a slash at the end, to which others are redirected.
//
// Answers have an ETag and a Last-Modified, and heed If-None-Match, If-Modified-Since, If-Range and
// a Range of one piece; several pieces are answered by the whole.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <trapline/io/descriptor.hpp>
#include <trapline/traps/coro.hpp>

#include "message.hpp"

namespace trapline::http {

struct StaticFileOptions {
    std::string index = "index.html";  ///< of directories; empty: they are not found
    std::size_t in_memory = 64 * 1024; ///< larger files are not read, but sent as FileBody
};

class StaticFiles {
public:
    /// Throws std::system_error if there is no such directory. Blocks.
    static Coro<StaticFiles> open(std::string directory, StaticFileOptions options = {});

    /// Answers a GET or HEAD by the file at `path`, which is still encoded, and which stays the
    /// caller's until the answer; slashes at its beginning do not count. What cannot be found or
    /// must not be read is an answer, too. Throws std::system_error if reading fails. Blocks while
    /// a disk is waited for.
    Coro<Response> serve(const Request& request, std::string_view path) const;

private:
    struct Found;

    StaticFiles(Descriptor directory, StaticFileOptions options)
        : directory_(std::move(directory)), options_(std::move(options)) {}

    Coro<Found> find(std::string path) const;

    Descriptor directory_;
    StaticFileOptions options_;
};

/// What a Range header asks of `size` bytes.
struct RangeAnswer {
    enum class Kind : unsigned char {
        whole,         ///< none, several, or one that makes no sense
        part,          ///< `size` bytes from `offset` on
        unsatisfiable, ///< it begins behind the end
    };
    Kind kind = Kind::whole;
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
};
RangeAnswer parse_range(std::string_view header, std::uint64_t size) noexcept;

/// The type of a file by the end of its name, for Content-Type.
std::string_view content_type_of(std::string_view path) noexcept;

} // namespace trapline::http
