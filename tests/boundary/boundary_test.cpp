// The rule of the house, read from the sources: nothing in traps/ or io/ includes anything of
// kernel/, nor liburing, nor epoll. And what keeps the house tidy: sizes, line lengths, no state
// behind the user's back, in each public header an example that is run.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

namespace {

namespace fs = std::filesystem;

struct Line {
    std::string file; ///< from the root of the checkout
    std::size_t number;
    std::string text;
};

std::string at(const Line& line) {
    return line.file + ":" + std::to_string(line.number) + ": " + line.text;
}

bool is_source(const fs::path& path) {
    return path.extension() == ".hpp" || path.extension() == ".cpp";
}

/// Headers and sources below `folder`, sorted.
std::vector<std::string> sources_in(const std::string& folder) {
    const fs::path root = TRAPLINE_SOURCE_DIR;
    std::vector<std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(root / folder))
        if (entry.is_regular_file() && is_source(entry.path()))
            files.push_back(fs::relative(entry.path(), root).string());
    std::sort(files.begin(), files.end());
    return files;
}

std::vector<std::string> sources_in(std::initializer_list<const char*> folders) {
    std::vector<std::string> files;
    for (const char* folder : folders)
        for (std::string& file : sources_in(std::string(folder)))
            files.push_back(std::move(file));
    return files;
}

std::vector<Line> lines_of(const std::string& file) {
    std::ifstream stream(fs::path(TRAPLINE_SOURCE_DIR) / file);
    REQUIRE(stream);
    std::vector<Line> lines;
    std::string text;
    while (std::getline(stream, text))
        lines.push_back({file, lines.size() + 1, text});
    return lines;
}

struct Include {
    Line line;
    bool quoted; ///< "..." and not <...>
    std::string name;

    /// A quoted name as a path from the root of the checkout.
    std::string target() const {
        return (fs::path(line.file).parent_path() / name).lexically_normal().string();
    }
};

std::vector<Include> includes_of(const std::string& file) {
    static const std::regex include(R"(^\s*#\s*include\s*([<"])([^>"]*)[>"].*)");
    std::vector<Include> includes;
    for (const Line& line : lines_of(file)) {
        std::smatch match;
        if (std::regex_match(line.text, match, include))
            includes.push_back({line, match[1] == "\"", match[2]});
    }
    return includes;
}

/// What of `files` breaks a rule, one line each.
template <class Rule>
std::string broken_includes(const std::vector<std::string>& files, Rule breaks) {
    std::string report;
    for (const std::string& file : files)
        for (const Include& include : includes_of(file))
            if (breaks(include))
                report += at(include.line) + "\n";
    return report;
}

template <class Rule>
std::string broken_lines(const std::vector<std::string>& files, Rule breaks) {
    std::string report;
    for (const std::string& file : files)
        for (const Line& line : lines_of(file))
            if (breaks(line))
                report += at(line) + "\n";
    return report;
}

const std::initializer_list<const char*> library = {"traps", "io", "kernel"};

/// Headers without names for users. They say so, and need no example; nor does kernel/engines/.
const std::set<std::string> internal_headers{
    "examples/http/bytes.hpp", "io/close.hpp",          "io/need.hpp",
    "io/peer_address.hpp",     "io/tls_openssl.hpp",    "io/traffic.hpp",
    "kernel/descriptors.hpp",  "kernel/follower.hpp",   "kernel/io.inl.hpp",
    "kernel/recording.hpp",    "kernel/stand_ins.hpp",  "kernel/stop_signals.hpp",
    "kernel/tasks.hpp",        "kernel/timers.hpp",     "kernel/trap_note.hpp",
    "traps/attempt.hpp",       "traps/awaitable.hpp",   "traps/closings.hpp",
    "traps/exchange.hpp",      "traps/frame_pool.hpp",  "traps/outcome.hpp",
    "traps/park.hpp",          "traps/ring_buffer.hpp", "traps/sanitizers.hpp",
    "traps/task_cell.hpp",     "traps/yielded.hpp",
};

bool is_internal(const std::string& header) {
    return internal_headers.contains(header) || header.starts_with("kernel/engines/");
}

std::vector<std::string> public_headers() {
    std::vector<std::string> headers = sources_in(library);
    for (std::string& file : sources_in("examples/http")) // may become a part of the library
        headers.push_back(std::move(file));
    std::erase_if(headers, [](const std::string& file) {
        return !file.ends_with(".hpp") || file.ends_with(".inl.hpp") || is_internal(file);
    });
    return headers;
}

/// Where the example of traps/x.hpp is compiled and run: "traps/x_test.cpp", in tests/.
std::string test_of(const std::string& header) {
    const std::size_t from = header.starts_with("examples/") ? 9 : 0;
    return header.substr(from, header.size() - from - std::string_view(".hpp").size()) +
           "_test.cpp";
}

/// The example in a header's first comment: from the first line that is set in by four blanks to
/// the last one, without these blanks. What stands in between belongs to it.
std::vector<Line> example_of(const std::string& header) {
    constexpr std::string_view margin = "//     ";
    std::vector<Line> example;
    std::size_t length = 0;
    for (Line& line : lines_of(header)) {
        if (!line.text.starts_with("//"))
            break;
        const bool shown = line.text.starts_with(margin);
        if (!shown && example.empty())
            continue;
        line.text.erase(0, shown ? margin.size() : std::string_view("// ").size());
        example.push_back(std::move(line));
        if (shown)
            length = example.size();
    }
    example.resize(length);
    return example;
}

/// How many lines of `example` stand in `test` from its line `from` on, all set in alike.
std::size_t lines_found(std::span<const Line> example, const std::vector<Line>& test,
                        std::size_t from) {
    const auto indent = [](const Line& line) {
        return std::min(line.text.find_first_not_of(' '), line.text.size());
    };
    if (indent(test[from]) < indent(example.front()))
        return 0;
    const std::string margin(indent(test[from]) - indent(example.front()), ' ');
    std::size_t n = 0;
    for (; n < example.size() && from + n < test.size(); ++n) {
        const std::string& text = example[n].text;
        if (test[from + n].text != (text.empty() ? "" : margin + text))
            break;
    }
    return n;
}

/// The first line of `block` that keeps it from being found in `test`; null if it is there.
const Line* first_missing_of_block(std::span<const Line> block, const std::vector<Line>& test) {
    std::size_t found = 0;
    for (std::size_t from = 0; from < test.size(); ++from)
        found = std::max(found, lines_found(block, test, from));
    return found < block.size() ? &block[found] : nullptr;
}

/// The same of an example, whose parts between empty lines may stand in different places.
const Line* first_missing(std::span<const Line> example, const std::vector<Line>& test) {
    while (!example.empty()) {
        const auto empty = std::ranges::find(example, std::string{}, &Line::text);
        const auto length = static_cast<std::size_t>(empty - example.begin());
        if (const Line* missing = first_missing_of_block(example.first(length), test))
            return missing;
        example = example.subspan(std::min(length + 1, example.size()));
    }
    return nullptr;
}

} // namespace

TEST_CASE("there is something to read") {
    CHECK(sources_in("traps").size() > 20);
    CHECK(sources_in("io").size() > 5);
    CHECK(sources_in("kernel").size() > 10);
    CHECK(includes_of("traps/coro.hpp").size() > 5);
    CHECK(includes_of("kernel/kernel.hpp").front().line.number > 1);
}

TEST_CASE("traps/ includes nothing of the library but traps/") {
    CHECK(broken_includes(sources_in("traps"), [](const Include& include) {
              return include.quoted && !include.target().starts_with("traps/");
          }) == "");
}

TEST_CASE("io/ includes nothing of the library but io/ and traps/") {
    CHECK(broken_includes(sources_in("io"), [](const Include& include) {
              const std::string target = include.target();
              return include.quoted && !target.starts_with("io/") && !target.starts_with("traps/");
          }) == "");
}

TEST_CASE("kernel/ includes nothing of io/") {
    CHECK(broken_includes(sources_in("kernel"), [](const Include& include) {
              const std::string target = include.target();
              return include.quoted && !target.starts_with("kernel/") &&
                     !target.starts_with("traps/");
          }) == "");
}

TEST_CASE("what waits for events is named in kernel/ alone") {
    const std::set<std::string> forbidden{"liburing.h",    "linux/io_uring.h", "sys/epoll.h",
                                          "sys/eventfd.h", "sys/poll.h",       "sys/select.h",
                                          "sys/timerfd.h", "event.h",          "aio.h"};
    CHECK(broken_includes(sources_in({"traps", "io"}), [&](const Include& include) {
              return forbidden.contains(include.name) || include.name.starts_with("liburing");
          }) == "");
}

TEST_CASE("within the library, includes are relative and name files that exist") {
    CHECK(broken_includes(sources_in(library), [](const Include& include) {
              if (!include.quoted)
                  return include.name.starts_with("trapline/");
              return !fs::exists(fs::path(TRAPLINE_SOURCE_DIR) / include.target());
          }) == "");
}

TEST_CASE("engines are included from kernel/ alone, and tests of rings") {
    CHECK(broken_includes(sources_in({"traps", "io", "examples"}), [](const Include& include) {
              return include.name.contains("engines/");
          }) == "");
    // Nor by what is installed: engines are no part of the interface.
    for (const std::string& file : sources_in("kernel")) {
        if (!file.ends_with(".hpp") || file.contains("engines/"))
            continue;
        CHECK(broken_includes({file}, [](const Include& include) {
                  return include.name.contains("engines/") || include.name.contains("uring");
              }) == "");
    }
}

TEST_CASE("examples include the library as its users do") {
    CHECK(broken_includes(sources_in("examples"), [](const Include& include) {
              return include.quoted && !include.target().starts_with("examples/");
          }) == "");
    // A loop of one's own needs no kernel.
    CHECK(broken_includes(
              {"examples/own_loop.cpp", "examples/rockets.hpp"}, [](const Include& include) {
                  return include.name.contains("kernel") || include.name == "trapline/trapline.hpp";
              }) == "");
}

TEST_CASE("a source includes its own header first") {
    for (const std::string& file : sources_in(library)) {
        if (!file.ends_with(".cpp"))
            continue;
        const std::string header = file.substr(0, file.size() - 3) + "hpp";
        if (!fs::exists(fs::path(TRAPLINE_SOURCE_DIR) / header))
            continue;
        CAPTURE(file);
        const std::vector<Include> includes = includes_of(file);
        REQUIRE_FALSE(includes.empty());
        CHECK(includes.front().target() == header);
    }
}

TEST_CASE("every header says what it is first, and is included once") {
    for (const std::string& file : sources_in(library)) {
        if (!file.ends_with(".hpp"))
            continue;
        CAPTURE(file);
        const std::vector<Line> lines = lines_of(file);
        REQUIRE(lines.size() > 3);
        CHECK(lines.front().text.starts_with("// "));
        const auto pragma = std::find_if(lines.begin(), lines.end(), [](const Line& line) {
            return line.text == "#pragma once";
        });
        REQUIRE(pragma != lines.end());
        CHECK(std::all_of(lines.begin(), pragma,
                          [](const Line& line) { return line.text.starts_with("//"); }));
    }
}

TEST_CASE("every header for the library's own use says so first, and no other does") {
    for (const std::string& header : internal_headers)
        CHECK(fs::exists(fs::path(TRAPLINE_SOURCE_DIR) / header));
    for (const std::string& file : sources_in(library)) {
        if (!file.ends_with(".hpp"))
            continue;
        CAPTURE(file);
        CHECK(lines_of(file).front().text.starts_with("// Internal. ") == is_internal(file));
    }
}

TEST_CASE("every public header shows an example of at most 15 lines") {
    std::string report;
    for (const std::string& header : public_headers()) {
        const std::size_t lines = example_of(header).size();
        if (lines == 0 || lines > 15)
            report += header + " shows " + std::to_string(lines) + " lines\n";
    }
    CHECK(report == "");
}

TEST_CASE("every example is compiled and run, as it is shown, by its header's test") {
    std::string report;
    for (const std::string& header : public_headers()) {
        const std::vector<Line> example = example_of(header);
        const std::string test = "tests/" + test_of(header);
        if (!fs::exists(fs::path(TRAPLINE_SOURCE_DIR) / test))
            report += header + " has no " + test + "\n";
        else if (const Line* missing = first_missing(example, lines_of(test)))
            report += at(*missing) + "\n    is not so in " + test + "\n";
    }
    CHECK(report == "");
}

TEST_CASE("every public header's test is in the build") {
    std::string listed;
    for (const Line& line : lines_of("tests/meson.build"))
        listed += line.text + "\n";
    for (const std::string& header : public_headers()) {
        CAPTURE(header);
        CHECK(listed.contains("'" + test_of(header) + "'"));
    }
}

TEST_CASE("each part of an example is found as a whole, set in alike, or its first other line is") {
    const std::vector<Line> example = {
        {"x.hpp", 3, "if (a)"}, {"x.hpp", 4, "    b();"}, {"x.hpp", 5, ""}, {"x.hpp", 6, "c();"}};
    const auto missing = [&](std::initializer_list<const char*> lines) {
        std::vector<Line> test;
        for (const char* line : lines)
            test.push_back({"x_test.cpp", test.size() + 1, line});
        const Line* line = first_missing(example, test);
        return line ? line->number : 0;
    };
    CHECK(missing({"if (a)", "    b();", "", "c();"}) == 0);
    CHECK(missing({"{", "    if (a)", "        b();", "", "    c();", "}"}) == 0);
    CHECK(missing({"if (a)", "if (a)", "    b();", "", "c();"}) == 0);
    CHECK(missing({}) == 3);
    CHECK(missing({"// if (a)", "//     b();", "//", "// c();"}) == 3);
    CHECK(missing({"if (a)", "b();", "", "c();"}) == 4);
    CHECK(missing({"if (a)", "    b();", "c();"}) == 0);
    CHECK(missing({"c();", "other();", "if (a)", "    b();"}) == 0);
    CHECK(missing({"if (a)", "other();", "    b();", "c();"}) == 4);
    CHECK(missing({"if (a)", "    b();", "", "c(); // not"}) == 6);
    CHECK(missing({"if (a)", "    b();", ""}) == 6);
}

TEST_CASE("there is no hidden state but what is noted: three thread-locals, a pool and counts") {
    static const std::regex thread_local_use(R"(^[^/"]*\bthread_local\b.*)");
    static const std::regex mutable_static(
        R"(^\s*(inline\s+)?static\s+)"
        R"((?!(inline\s+)?(const|constexpr|constinit|consteval|thread_local|_)).*(=|;)\s*.*$)");
    static const std::regex function(R"(.*\w\s*\(.*)");
    static const std::regex global(R"(^(inline\s+)?constinit\s+(?!thread_local|const).*)");
    const std::set<std::string> noted{"traps/frame_pool.hpp", "traps/frame_pool.cpp",
                                      "kernel/kernel.cpp", "io/signals.cpp"};
    const std::set<std::string> counting{"traps/closings.cpp", "kernel/recording_files.cpp"};
    // run_in_thread's, see traps/thread_pool.hpp.
    const std::string the_pool =
        "    static ThreadPool& pool = *new ThreadPool{run_in_thread_max};";
    CHECK(broken_lines(sources_in(library), [&](const Line& line) {
              return std::regex_match(line.text, thread_local_use) && !noted.contains(line.file);
          }) == "");
    CHECK(broken_lines(sources_in(library), [&](const Line& line) {
              return std::regex_match(line.text, mutable_static) &&
                     !std::regex_match(line.text, function) && line.text != the_pool;
          }) == "");
    CHECK(broken_lines(sources_in(library), [&](const Line& line) {
              return std::regex_match(line.text, global) && !counting.contains(line.file);
          }) == "");
    int pools = 0;
    for (const Line& line : lines_of("traps/thread_pool.cpp"))
        pools += line.text == the_pool;
    CHECK(pools == 1);
    int in_kernel = 0;
    for (const Line& line : lines_of("kernel/kernel.cpp"))
        in_kernel += std::regex_match(line.text, thread_local_use);
    CHECK(in_kernel == 1);
}

TEST_CASE("headers have at most 350 lines, sources 600") {
    for (const std::string& file : sources_in(library)) {
        const std::size_t budget = file.ends_with(".hpp") ? 350 : 600;
        CAPTURE(file);
        CHECK(lines_of(file).size() <= budget);
    }
}

TEST_CASE("lines have at most 100 columns, and neither tabs nor blanks at the end") {
    CHECK(broken_lines(sources_in({"traps", "io", "kernel", "examples", "tests", "bench"}),
                       [](const Line& line) {
                           const auto columns =
                               std::count_if(line.text.begin(), line.text.end(), [](char c) {
                                   return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
                               });
                           return columns > 100 || line.text.contains('\t') ||
                                  line.text.ends_with(' ');
                       }) == "");
}

TEST_CASE("every note of work to be done says what kind it is") {
    static const std::regex todo(R"(.*\b(TODO|FIXME|XXX|HACK)\b.*)");
    static const std::regex known(R"(.*\bTODO\((perf|kernel-version|test)\): .*)");
    CHECK(broken_lines(sources_in(library), [](const Line& line) {
              return std::regex_match(line.text, todo) && !std::regex_match(line.text, known);
          }) == "");
}

TEST_CASE("trapline.hpp includes only headers that exist") {
    const std::vector<Include> includes = includes_of("trapline.hpp");
    CHECK(includes.size() > 5);
    for (const Include& include : includes) {
        CAPTURE(include.name);
        CHECK(include.quoted);
        CHECK(fs::exists(fs::path(TRAPLINE_SOURCE_DIR) / include.name));
        CHECK_FALSE(include.name.contains("engines/"));
    }
}
