// Probes for compiler bugs in coroutines. Each of these has been wrong in some compiler: g++ 12
// destroys temporaries twice, g++ before 15 skips destructors, clang 15 elides frames that live.
// See DESIGN.md, section 8; a compiler that fails here cannot be used.
#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/traps/calls.hpp>
#include <trapline/traps/coro.hpp>

#include "hand_loop.hpp"

using namespace trapline;

namespace {

/// Counts its births and deaths, and dies at its own address or not at all.
class Tracked {
public:
    inline static int born = 0;
    inline static int died = 0;
    inline static int moved_by_bytes = 0;

    explicit Tracked(std::string t = "a text that is too long to be stored inline")
        : text(std::move(t)) {
        ++born;
    }
    Tracked(const Tracked& other) : text(other.text) { ++born; }
    Tracked(Tracked&& other) noexcept : text(std::move(other.text)) { ++born; }
    Tracked& operator=(const Tracked&) = default;
    Tracked& operator=(Tracked&&) = default;
    ~Tracked() {
        ++died;
        if (self_ != this)
            ++moved_by_bytes;
    }

    static void reset() { born = died = moved_by_bytes = 0; }
    static bool balanced() { return born == died && moved_by_bytes == 0; }

    std::string text;

private:
    Tracked* self_ = this;
};

struct Owning { // an aggregate with owning members
    Tracked first;
    Tracked second{};
    int number = 0;
};

struct Options { // like SpawnOptions: views only
    std::string_view name;
    bool flag = false;
};

Coro<std::size_t> takes_value(Tracked t) {
    co_await yield_now();
    co_return t.text.size();
}

Coro<std::size_t> takes_reference(const Tracked& t) {
    co_await yield_now();
    co_return t.text.size();
}

Coro<std::size_t> takes_aggregate(Owning o) {
    co_await yield_now();
    co_return o.first.text.size() + o.second.text.size();
}

Coro<std::size_t> takes_aggregate_reference(const Owning& o) {
    co_await yield_now();
    co_return o.first.text.size() + o.second.text.size();
}

Coro<std::size_t> takes_options(Options options) {
    co_await yield_now();
    co_return options.name.size();
}

Coro<std::size_t> takes_vector(std::vector<Tracked> v) {
    co_await yield_now();
    co_return v.size();
}

Coro<Tracked> makes() {
    co_await yield_now();
    co_return Tracked{};
}

Coro<Owning> makes_aggregate() {
    co_await yield_now();
    co_return Owning{.first = Tracked{}};
}

template <class F>
Coro<std::size_t> calls(F function) {
    co_await yield_now();
    co_return function();
}

/// An awaiter that owns something, held as a temporary of the await.
class OwningAwaiter : public SureTrap<traps::Yield> {
public:
    explicit OwningAwaiter(Tracked t)
        : SureTrap<traps::Yield>(traps::Yield{}), tracked_(std::move(t)) {}
    std::size_t await_resume() {
        SureTrap<traps::Yield>::await_resume();
        return tracked_.text.size();
    }

private:
    Tracked tracked_;
};

constexpr std::size_t text_size = 43;

/// Runs it to its end; dropped half way; and with an exception thrown in. Each time, everything
/// that was born must have died once.
template <class F>
void check_balance(F body) {
    Tracked::reset();
    drive(body());
    CHECK(Tracked::born > 0);
    CHECK(Tracked::balanced());

    Tracked::reset();
    {
        Routine routine{body()};
        routine.start();
    }
    CHECK(Tracked::balanced());

    Tracked::reset();
    {
        Routine routine{body()};
        if (routine.start())
            routine.throw_in(std::make_exception_ptr(std::runtime_error("thrown in")));
    }
    CHECK(Tracked::balanced());
}

} // namespace

TEST_CASE("a temporary argument of an awaited call is destroyed exactly once") {
    check_balance([]() -> Coro<std::size_t> { co_return co_await takes_value(Tracked{}); });
    check_balance([]() -> Coro<std::size_t> { co_return co_await takes_reference(Tracked{}); });
    check_balance([]() -> Coro<std::size_t> {
        const std::size_t size = co_await takes_value(Tracked{}) + co_await takes_value(Tracked{});
        co_return size;
    });
}

TEST_CASE("an aggregate with owning members as argument is destroyed exactly once") {
    check_balance([]() -> Coro<std::size_t> {
        co_return co_await takes_aggregate({.first = Tracked{"a"}, .number = 1});
    });
    check_balance([]() -> Coro<std::size_t> {
        co_return co_await takes_aggregate_reference({Tracked{"a"}, Tracked{"b"}});
    });
    check_balance([]() -> Coro<std::size_t> {
        co_return co_await takes_aggregate(Owning{.first = Tracked{}, .second = Tracked{}});
    });
    CHECK(drive([]() -> Coro<std::size_t> {
              co_return co_await takes_aggregate({.first = Tracked{"ab"}, .second = Tracked{"c"}});
          }()) == 3);
}

TEST_CASE("options with a view on a temporary string live until the await is over") {
    const auto body = [](const std::string& name) -> Coro<std::size_t> {
        co_return co_await takes_options({.name = name + " and a good deal of text behind it"});
    };
    CHECK(drive(body("name")) == 38);
}

// g++ 14 takes the list's array, which lives in the coroutine frame, for one on the stack.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wdangling-pointer"
#endif

TEST_CASE("an initialiser list as argument is destroyed exactly once") {
    check_balance([]() -> Coro<std::size_t> {
        co_return co_await takes_vector({Tracked{}, Tracked{}, Tracked{}});
    });
}

TEST_CASE("a lambda with captures that is passed by value is destroyed exactly once") {
    check_balance([]() -> Coro<std::size_t> {
        co_return co_await calls([t = Tracked{}] { return t.text.size(); });
    });
    check_balance([]() -> Coro<std::size_t> {
        const Tracked local;
        co_return co_await calls(
            [local, &same = local] { return local.text.size() + same.text.size(); });
    });
}

TEST_CASE("results are destroyed exactly once, kept, used in place or ignored") {
    check_balance([]() -> Coro<std::size_t> {
        const Tracked kept = co_await makes();
        co_return kept.text.size();
    });
    check_balance([]() -> Coro<std::size_t> { co_return (co_await makes()).text.size(); });
    check_balance([]() -> Coro<void> { co_await makes(); });
    check_balance([]() -> Coro<std::size_t> {
        const Owning kept = co_await makes_aggregate();
        co_return kept.first.text.size();
    });
    check_balance([]() -> Coro<std::size_t> { co_return co_await takes_value(co_await makes()); });
}

TEST_CASE("an awaiter that owns something is destroyed exactly once") {
    check_balance([]() -> Coro<std::size_t> { co_return co_await OwningAwaiter{Tracked{}}; });
    CHECK(drive([]() -> Coro<std::size_t> { co_return co_await OwningAwaiter{Tracked{}}; }()) ==
          text_size);
}

TEST_CASE("temporaries of a full expression live across its awaits, and no longer") {
    const auto body = []() -> Coro<int> {
        const int during = (Tracked{}, co_await yield_now(), Tracked::born - Tracked::died);
        co_return during * 10 + (Tracked::born - Tracked::died);
    };
    Tracked::reset();
    CHECK(drive(body()) == 10);
}

TEST_CASE("awaits in conditions, loops and both arms of an operator") {
    const auto yes = [](bool value) -> Coro<bool> {
        const Tracked local;
        co_await yield_now();
        co_return value;
    };
    const auto body = [&]() -> Coro<int> {
        int score = 0;
        if (co_await yes(true) && !co_await yes(false))
            score += 1;
        if (co_await yes(false) || co_await yes(true))
            score += 10;
        for (int i = 0; co_await yes(i < 3); ++i)
            score += 100;
        score += co_await yes(true) ? static_cast<int>((co_await makes()).text.size()) : 0;
        while (const auto size = co_await takes_value(Tracked{score < 1000 ? "x" : ""})) {
            score += 1000 * static_cast<int>(size);
        }
        co_return score;
    };
    Tracked::reset();
    CHECK(drive(body()) == 1354);
    CHECK(Tracked::balanced());
}

TEST_CASE("locals of enclosing scopes are destroyed in reverse order, also by an exception") {
    std::string order;
    struct Note {
        std::string& order;
        char name;
        ~Note() { order += name; }
    };
    const auto body = [&](bool fails) -> Coro<void> {
        const Note a{order, 'a'};
        try {
            const Note b{order, 'b'};
            {
                const Note c{order, 'c'};
                co_await yield_now();
                if (fails)
                    throw 1;
            }
            order += '.';
        } catch (int) {
            order += '!';
        }
        co_await yield_now();
    };
    drive(body(false));
    CHECK(order == "c.ba");
    order.clear();
    drive(body(true));
    CHECK(order == "cb!a");
}

TEST_CASE("a large frame keeps its contents across awaits") {
    const auto body = []() -> Coro<int> {
        std::array<int, 4096> numbers{};
        for (int i = 0; i < 4096; ++i)
            numbers[static_cast<std::size_t>(i)] = i;
        co_await yield_now();
        int wrong = 0;
        for (int i = 0; i < 4096; ++i)
            wrong += numbers[static_cast<std::size_t>(i)] != i;
        co_return wrong;
    };
    CHECK(drive(body()) == 0);
}

TEST_CASE("a parameter that is moved from inside leaves nothing behind twice") {
    check_balance([]() -> Coro<std::size_t> {
        const auto moves = [](Tracked t) -> Coro<Tracked> {
            co_await yield_now();
            co_return std::move(t);
        };
        co_return (co_await moves(Tracked{})).text.size();
    });
}
