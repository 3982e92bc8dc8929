// Random programs over with_resource: opening, using and closing take their time, fail, and are
// interrupted; resources lie within resources. What was opened is closed, once and undisturbed.
#include <trapline/traps/resource.hpp>

#include <stdexcept>
#include <string>

#include "items.hpp"
#include "programs.hpp"

using namespace trapline;
using namespace trapline::properties;

namespace {

class OpenError : public std::runtime_error {
public:
    OpenError() : std::runtime_error("cannot be opened") {}
};

class BodyError : public std::runtime_error {
public:
    BodyError() : std::runtime_error("a body failed") {}
};

class CloseError : public std::runtime_error {
public:
    CloseError() : std::runtime_error("cannot be closed") {}
};

class Resources {
public:
    static constexpr bool always_ends = true;

    explicit Resources(World& world) : world_(world) {}

    Coro<void> step(World& world) { return world.one_in(2) ? world.pause() : use(0); }

    std::string complaint_at_rest() const { return open_ == 0 ? "" : "something is still open"; }

    std::string complaint() const { return open_ == 0 ? complaint_ : "something was not closed"; }

private:
    /// Something that is opened, and what became of it.
    struct Handle {
        Item life{1};
        int* open;
    };

    struct Course {
        int opened = 0; ///< by opening; 0 at the end
        int closed = 0;
        bool in_body = false;
        bool open_failed = false;
        bool body_failed = false;
        bool close_failed = false;
    };

    void check(bool holds, const char* otherwise) {
        if (!holds && complaint_.empty())
            complaint_ = otherwise;
    }

    Coro<void> use(int depth) {
        const test::Counted frame;
        Course course;
        const Checked checked{*this, course};
        try {
            const int answer = co_await with_resource(
                [this, &course] { return open(course); },
                [this, &course, depth](Handle&) { return body(course, depth); },
                [this, &course](Handle& handle) { return close(course, handle); });
            check(answer == 7 && !course.body_failed, "the body's result is not what comes out");
            check(!course.open_failed && !course.close_failed, "a failure was swallowed");
        } catch (const OpenError&) {
            check(course.open_failed && course.opened == 0, "opening had not failed");
        } catch (const BodyError&) {
            check(course.body_failed, "the body had not failed");
        } catch (const CloseError&) {
            check(course.close_failed && !course.body_failed, "closing was not alone in failing");
        }
        co_await world_.note_result();
    }

    /// However the use of a resource ends.
    struct Checked {
        Checked(Resources& owner, const Course& of) : program(owner), course(of) {}
        Checked(const Checked&) = delete;
        Checked& operator=(const Checked&) = delete;
        ~Checked() {
            program.check(course.closed == course.opened, "closed not as often as opened");
            program.check(!course.in_body, "it ended before the body");
        }
        Resources& program;
        const Course& course;
    };

    Coro<Handle> open(Course& course) {
        const test::Counted frame;
        co_await world_.pause();
        if (world_.one_in(10)) {
            course.open_failed = true;
            throw OpenError();
        }
        ++open_;
        ++course.opened;
        co_return Handle{.open = &open_};
    }

    Coro<int> body(Course& course, int depth) {
        const test::Counted frame;
        check(course.opened == 1 && course.closed == 0, "a body without its resource");
        course.in_body = true;
        const Left left{course};
        if (depth < 2 && world_.one_in(3))
            co_await use(depth + 1);
        else
            co_await world_.pause();
        if (world_.one_in(10)) {
            course.body_failed = true;
            throw BodyError();
        }
        co_return 7;
    }

    struct Left {
        Course& course;
        ~Left() { course.in_body = false; }
    };

    Coro<void> close(Course& course, Handle& handle) {
        const test::Counted frame;
        check(!course.in_body, "closed while the body runs");
        try {
            co_await world_.pause();
        } catch (const Cancelled&) {
            check(false, "closing was interrupted");
        }
        --*handle.open;
        ++course.closed;
        if (world_.one_in(10)) {
            course.close_failed = true;
            throw CloseError();
        }
    }

    World& world_;
    int open_ = 0;
    std::string complaint_;
};

} // namespace

TEST_CASE("what with_resource has opened it closes, once and undisturbed") {
    run<Resources>("with_resource");
}
