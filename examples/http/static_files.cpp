#include "static_files.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <expected>
#include <system_error>

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <trapline/traps/calls.hpp>

#include "bytes.hpp"
#include "date.hpp"

namespace trapline::http {

using detail::without_blanks;

/// A file, or the status that says why there is none.
struct StaticFiles::Found {
    int status = 200;
    Descriptor file{};
    struct stat about{};

    Found() = default;
    Found(Found&&) = default;
    Found& operator=(Found&&) = default;
    explicit Found(int refusal) : status(refusal) {}
};

namespace {

using Opened = std::expected<int, std::error_code>;

/// Opens `path` beneath `directory`. What Linux has in memory it finds without waiting; else the
/// kernel is asked.
Coro<Opened> open_beneath(int directory, const char* path) {
    // A FIFO must not wait for a peer, nor a terminal become ours.
    constexpr std::uint64_t flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    constexpr std::uint64_t beneath = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
    open_how how{.flags = flags, .mode = 0, .resolve = beneath | RESOLVE_CACHED};
    const long fd = ::syscall(SYS_openat2, directory, path, &how, sizeof how);
    if (fd >= 0)
        co_return static_cast<int>(fd);
    // EINVAL: RESOLVE_CACHED came with Linux 5.12, and ENOSYS: seccomp may know no openat2.
    if (errno != EAGAIN && errno != EINVAL && errno != ENOSYS)
        co_return std::unexpected(std::error_code(errno, std::system_category()));
    how.resolve = beneath;
    co_return co_await traps::open_at2(directory, path, how);
}

/// The status for a path that cannot be opened; 0 if that is no answer but a failure of ours.
int status_of(int error) noexcept {
    switch (error) {
    case ENOENT:
    case ENOTDIR:
    case EXDEV: // it leads out
    case ELOOP:
    case ENAMETOOLONG:
    case EINVAL:
    case ENXIO: // a socket
    case ENODEV: return 404;
    case EACCES:
    case EPERM: return 403;
    case EMFILE:
    case ENFILE:
    case ENOMEM: return 503;
    default: return 0;
    }
}

/// Reads `size` bytes from `offset` on; fewer if the file ends before.
Coro<std::string> read_part(int file, std::uint64_t offset, std::size_t size) {
    std::string text(size, '\0');
    std::size_t got = 0;
    while (got < size) {
        const iovec rest{text.data() + got, size - got};
        const auto from = static_cast<off_t>(offset + got);
        // What is in memory comes without waiting, and without a round trip.
        const ssize_t count = ::preadv2(file, &rest, 1, from, RWF_NOWAIT);
        if (count == 0)
            break;
        if (count > 0) {
            got += static_cast<std::size_t>(count);
            continue;
        }
        if (errno == EINTR)
            continue;
        const auto answer =
            co_await traps::read(file, std::as_writable_bytes(std::span(text).subspan(got)), from);
        if (!answer)
            throw std::system_error(answer.error(), "read of a file to be served");
        if (*answer == 0)
            break;
        got += *answer;
    }
    text.resize(got);
    co_return text;
}

/// Changes whenever the file does, as far as its file system tells.
std::string etag_of(const struct stat& about) {
    std::string etag;
    etag.reserve(52);
    const auto put = [&etag](char before, std::uint64_t number) {
        std::array<char, 16> digits;
        const char* const begin = digits.data();
        const char* const end =
            std::to_chars(digits.data(), digits.data() + digits.size(), number, 16).ptr;
        etag.append(1, before).append(begin, end);
    };
    put('"', about.st_ino);
    put('-', static_cast<std::uint64_t>(about.st_size));
    put('-', static_cast<std::uint64_t>(about.st_mtim.tv_sec) * 1'000'000'000 +
                 static_cast<std::uint64_t>(about.st_mtim.tv_nsec));
    etag += '"';
    return etag;
}

/// Whether a list of entity tags has this one in it, weak or not.
bool lists(std::string_view tags, std::string_view etag) noexcept {
    while (!tags.empty()) {
        const std::size_t comma = std::min(tags.find(','), tags.size());
        std::string_view tag = without_blanks(tags.substr(0, comma));
        if (tag == "*")
            return true;
        if (tag.starts_with("W/"))
            tag.remove_prefix(2);
        if (tag == etag)
            return true;
        tags.remove_prefix(std::min(comma + 1, tags.size()));
    }
    return false;
}

/// Whether the client has it as it is.
bool is_unchanged(const Request& request, std::string_view etag, std::time_t modified) {
    if (const auto tags = request.header("If-None-Match"))
        return lists(*tags, etag);
    const auto since = request.header("If-Modified-Since");
    if (!since)
        return false;
    const std::optional<std::time_t> time = parse_http_date(*since);
    return time && modified <= *time;
}

RangeAnswer range_of(const Request& request, std::string_view etag, std::string_view modified,
                     std::uint64_t size) {
    const auto range = request.header("Range");
    if (!range || request.method != "GET")
        return {};
    // A part of what the client has, if it has it as it is; else the whole.
    const auto condition = request.header("If-Range");
    if (condition && *condition != etag && *condition != modified)
        return {};
    return parse_range(*range, size);
}

/// To the same path with a slash at its end. One slash at the beginning: with two it would be
/// another host's.
Response redirect(const Request& request) {
    std::string path = percent_decoded(request.path).value_or("/");
    path.erase(0, std::min(path.find_first_not_of('/'), path.size()));
    std::string location = "/" + percent_encoded(path) + "/";
    if (!request.query.empty())
        location.append("?").append(request.query);
    Response answer = error_response(301);
    answer.set("Location", location);
    return answer;
}

bool number(std::string_view digits, std::uint64_t& value) noexcept {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc{} && end == digits.data() + digits.size();
}

} // namespace

Coro<StaticFiles> StaticFiles::open(std::string directory, StaticFileOptions options) {
    const auto opened =
        co_await traps::open_at(AT_FDCWD, directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (!opened)
        throw std::system_error(opened.error(), "open of directory " + directory);
    co_return StaticFiles{Descriptor{*opened}, std::move(options)};
}

Coro<StaticFiles::Found> StaticFiles::find(std::string path) const {
    Opened opened = co_await open_beneath(directory_.get(), path.c_str());
    if (!opened) {
        const int status = status_of(opened.error().value());
        if (status == 0)
            throw std::system_error(opened.error(), "open of a file to be served");
        co_return Found{status};
    }
    Found found;
    found.file = Descriptor{*opened};
    // It is open: what fstat answers is in memory.
    if (::fstat(*opened, &found.about) != 0)
        throw std::system_error(errno, std::system_category(), "stat of a file to be served");
    co_return found;
}

Coro<Response> StaticFiles::serve(const Request& request, std::string_view path) const {
    std::optional<std::string> decoded = percent_decoded(path);
    if (!decoded || decoded->contains('\0'))
        co_return error_response(400, "a path that cannot be decoded");
    std::string relative = std::move(*decoded);
    relative.erase(0, std::min(relative.find_first_not_of('/'), relative.size()));
    if (relative.empty() || relative.ends_with('/')) {
        if (options_.index.empty())
            co_return error_response(404);
        relative += options_.index;
    }
    Found found = co_await find(relative);
    if (found.status != 200)
        co_return error_response(found.status);
    if (S_ISDIR(found.about.st_mode))
        co_return redirect(request);
    if (!S_ISREG(found.about.st_mode))
        co_return error_response(404);

    const auto size = static_cast<std::uint64_t>(found.about.st_size);
    const std::string etag = etag_of(found.about);
    const std::string modified = http_date(found.about.st_mtim.tv_sec);
    RangeAnswer range;
    Response answer{304};
    if (!is_unchanged(request, etag, found.about.st_mtim.tv_sec)) {
        range = range_of(request, etag, modified, size);
        if (range.kind == RangeAnswer::Kind::unsatisfiable) {
            answer = error_response(416);
            answer.set("Content-Range", "bytes */" + std::to_string(size));
            co_return answer;
        }
        if (range.kind == RangeAnswer::Kind::whole)
            range.size = size;
        const bool in_memory = range.size <= options_.in_memory && request.method != "HEAD";
        std::string text;
        if (in_memory)
            text = co_await read_part(found.file.get(), range.offset,
                                      static_cast<std::size_t>(range.size));
        if (in_memory && text.size() != range.size)
            throw std::system_error(EIO, std::system_category(), "a file became shorter");
        const int status = range.kind == RangeAnswer::Kind::part ? 206 : 200;
        answer = Response{status, content_type_of(relative), std::move(text)};
        if (!in_memory)
            answer.set_file({std::move(found.file), range.offset, range.size});
        if (status == 206)
            answer.set("Content-Range", "bytes " + std::to_string(range.offset) + "-" +
                                            std::to_string(range.offset + range.size - 1) + "/" +
                                            std::to_string(size));
        answer.set("Accept-Ranges", "bytes");
    }
    answer.set("ETag", etag);
    answer.set("Last-Modified", modified);
    co_return answer;
}

RangeAnswer parse_range(std::string_view header, std::uint64_t size) noexcept {
    constexpr std::string_view unit = "bytes=";
    using Kind = RangeAnswer::Kind;
    if (!same_name(header.substr(0, unit.size()), unit))
        return {};
    header = without_blanks(header.substr(unit.size()));
    const std::size_t dash = header.find('-');
    if (dash == header.npos)
        return {};
    const std::string_view first_text = header.substr(0, dash);
    const std::string_view last_text = header.substr(dash + 1);
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    if (!last_text.empty() && !number(last_text, last))
        return {};
    if (first_text.empty()) { // so many bytes from the end
        if (last_text.empty())
            return {};
        const std::uint64_t count = std::min(last, size);
        if (count == 0)
            return {Kind::unsatisfiable};
        return {Kind::part, size - count, count};
    }
    if (!number(first_text, first) || (!last_text.empty() && last < first))
        return {};
    if (first >= size)
        return {Kind::unsatisfiable};
    const std::uint64_t end = last_text.empty() || last >= size ? size : last + 1;
    return {Kind::part, first, end - first};
}

std::string_view content_type_of(std::string_view path) noexcept {
    struct Type {
        std::string_view ending;
        std::string_view type;
    };
    static constexpr std::array types = std::to_array<Type>({
        {".html", html_type},
        {".htm", html_type},
        {".css", "text/css; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".mjs", "text/javascript; charset=utf-8"},
        {".json", "application/json"},
        {".txt", text_type},
        {".md", text_type},
        {".csv", "text/csv; charset=utf-8"},
        {".xml", "application/xml"},
        {".svg", "image/svg+xml"},
        {".png", "image/png"},
        {".jpg", "image/jpeg"},
        {".jpeg", "image/jpeg"},
        {".gif", "image/gif"},
        {".webp", "image/webp"},
        {".avif", "image/avif"},
        {".ico", "image/x-icon"},
        {".woff", "font/woff"},
        {".woff2", "font/woff2"},
        {".ttf", "font/ttf"},
        {".wasm", "application/wasm"},
        {".pdf", "application/pdf"},
        {".zip", "application/zip"},
        {".gz", "application/gzip"},
        {".mp3", "audio/mpeg"},
        {".ogg", "audio/ogg"},
        {".mp4", "video/mp4"},
        {".webm", "video/webm"},
    });
    path.remove_prefix(path.rfind('/') + 1); // npos + 1 is 0
    const std::size_t dot = path.rfind('.');
    if (dot == path.npos)
        return "application/octet-stream";
    for (const Type& type : types)
        if (same_name(path.substr(dot), type.ending))
            return type.type;
    return "application/octet-stream";
}

} // namespace trapline::http
