#include <trapline/traps/generator.hpp>

#include <array>
#include <memory>
#include <optional>
#include <ranges>
#include <stdexcept>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "../support/leaks.hpp"

using namespace trapline;
using test::Counted;

static_assert(std::ranges::input_range<Generator<int>>);
static_assert(std::ranges::view<Generator<int>>);
static_assert(!std::ranges::range<Generator<int, int>>);
static_assert(!std::is_copy_constructible_v<Generator<int>>);

namespace {

// generator.hpp
Generator<int> countdown(int from) {
    for (; from > 0; --from)
        co_yield from;
}

Generator<double, double> running_mean() { // co_yield answers what is sent
    double sum = co_yield 0;
    for (int n = 1;; ++n)
        sum += co_yield sum / n;
}

/// Yields `count` numbers from `first` on, with a sentinel in its frame.
Generator<int> numbers(int first, int count, Counted = {}) {
    const Counted frame;
    for (int i = 0; i < count; ++i)
        co_yield first + i;
}

Generator<int> failing_after(int count) {
    const Counted frame;
    for (int i = 0; i < count; ++i)
        co_yield i;
    throw std::runtime_error("out of numbers");
}

/// Answers what was sent before, after a dash; "stop" ends it.
Generator<std::string, std::string> echo(std::string name) {
    const Counted frame;
    std::string heard = co_yield name;
    while (heard != "stop")
        heard = co_yield name + "-" + heard;
}

template <class Y>
std::vector<std::remove_cvref_t<Y>> all_of(Generator<Y> generator) {
    std::vector<std::remove_cvref_t<Y>> values;
    for (auto&& value : generator)
        values.push_back(value);
    return values;
}

using Ints = std::vector<int>;

std::exception_ptr error(const char* text) {
    return std::make_exception_ptr(std::runtime_error(text));
}

} // namespace

TEST_CASE("generator.hpp: loop over what a generator yields") {
    Ints numbers;
    for (int left : countdown(3))
        numbers.push_back(left);
    CHECK(numbers == Ints{3, 2, 1});
}

TEST_CASE("generator.hpp: co_yield answers what is sent") {
    Generator<double, double> mean = running_mean();
    CHECK(mean.start() == 0);
    CHECK(mean.send(10) == 10);
    CHECK(mean.send(20) == 15);
    CHECK(mean.send(60) == 30);
}

TEST_CASE("next answers a value at a time, and nothing for ever when the body has ended") {
    Generator<int> generator = numbers(1, 2);
    CHECK_FALSE(generator.ended());
    CHECK(generator.next() == 1);
    CHECK(generator.next() == 2);
    CHECK_FALSE(generator.ended());
    CHECK(generator.next() == std::nullopt);
    CHECK(generator.ended());
    CHECK(generator.next() == std::nullopt);
}

TEST_CASE("a body does not run before it is asked") {
    const test::LeakGuard guard;
    bool ran = false;
    const auto body = [](bool& flag, Counted) -> Generator<int> {
        flag = true;
        co_yield 1;
    };
    {
        Generator<int> generator = body(ran, {});
        CHECK(Counted::alive() == 1);
    }
    CHECK_FALSE(ran);
}

TEST_CASE("a generator dropped or closed half way destroys its locals and arguments") {
    const test::LeakGuard guard;
    {
        Generator<int> generator = numbers(0, 10);
        generator.next();
        CHECK(Counted::alive() == 2);
    }
    CHECK(Counted::alive() == 0);

    Generator<int> generator = numbers(0, 10);
    generator.next();
    generator.close();
    CHECK(Counted::alive() == 0);
    CHECK(generator.ended());
    CHECK(generator.next() == std::nullopt);
    CHECK_NOTHROW(generator.close());
}

TEST_CASE("what has ended is destroyed at once, arguments too") {
    Generator<int> generator = numbers(0, 1);
    generator.next();
    generator.next();
    CHECK(Counted::alive() == 0);
}

TEST_CASE("a generator moves with its state, and what was moved from has ended") {
    const test::LeakGuard guard;
    Generator<int> a = numbers(0, 5);
    a.next();
    Generator<int> b = std::move(a);
    CHECK(a.ended());
    CHECK(b.next() == 1);
    Generator<int> c = numbers(10, 5);
    c.next();
    c = std::move(b);
    CHECK(Counted::alive() == 2);
    CHECK(c.next() == 2);
    CHECK(Generator<int>{}.next() == std::nullopt);
}

TEST_CASE("an exception passes to the one who asked, and the generator has ended") {
    const test::LeakGuard guard;
    Generator<int> generator = failing_after(1);
    CHECK(generator.next() == 0);
    CHECK_THROWS_WITH_AS(generator.next(), "out of numbers", std::runtime_error);
    CHECK(generator.ended());
    CHECK(generator.next() == std::nullopt);

    Ints seen;
    const auto loop = [&] {
        for (const int value : failing_after(3))
            seen.push_back(value);
    };
    CHECK_THROWS_WITH_AS(loop(), "out of numbers", std::runtime_error);
    CHECK(seen == Ints{0, 1, 2});
}

TEST_CASE("a loop that is left half way goes on where it was, and then to the end") {
    Generator<int> generator = numbers(0, 5);
    for (const int value : generator)
        if (value == 1)
            break;
    Ints rest;
    for (const int value : generator)
        rest.push_back(value);
    CHECK(rest == Ints{2, 3, 4});
    for (const int value : generator)
        FAIL("there was still " << value);
}

TEST_CASE("a generator is a view of the ranges library") {
    const auto naturals = []() -> Generator<int> {
        for (int n = 0;; ++n)
            co_yield n;
    };
    Ints seen;
    for (const int value : naturals() | std::views::filter([](int n) { return n % 2 == 1; }) |
                               std::views::transform([](int n) { return n * n; }) |
                               std::views::take(3))
        seen.push_back(value);
    CHECK(seen == Ints{1, 9, 25});
}

TEST_CASE("values that cannot be copied, references and things of no default can be yielded") {
    const auto pointers = []() -> Generator<std::unique_ptr<int>> {
        co_yield std::make_unique<int>(1);
        auto two = std::make_unique<int>(2);
        co_yield std::move(two);
    };
    Ints seen;
    for (std::unique_ptr<int>& pointer : pointers())
        seen.push_back(*std::exchange(pointer, nullptr));
    Generator<std::unique_ptr<int>> again = pointers();
    while (const auto pointer = again.next())
        seen.push_back(**pointer);
    CHECK(seen == Ints{1, 2, 1, 2});

    struct Plain {
        explicit Plain(int n) : number(n) {}
        int number;
    };
    const auto plain = []() -> Generator<Plain> { co_yield Plain{7}; };
    CHECK(plain().next()->number == 7);

    struct Row { // moved, not assigned
        const int number;
    };
    const auto rows = []() -> Generator<Row> {
        co_yield Row{8};
        co_yield Row{9};
    };
    seen.clear();
    for (const Row& row : rows())
        seen.push_back(row.number);
    CHECK(seen == Ints{8, 9});

    const auto converted = []() -> Generator<std::string> {
        co_yield "text";
        co_yield {'x', 'x', 'x'};
        const std::string kept = "kept";
        co_yield kept;
        co_yield kept;
    };
    CHECK(all_of(converted()) == std::vector<std::string>{"text", "xxx", "kept", "kept"});
}

TEST_CASE("a generator of references yields the object itself, and next answers a pointer") {
    Ints numbers{1, 2, 3};
    const auto elements = [](Ints& of) -> Generator<int&> {
        for (int& number : of)
            co_yield number;
    };
    for (int& number : elements(numbers))
        number *= 10;
    CHECK(numbers == Ints{10, 20, 30});
    Generator<int&> generator = elements(numbers);
    int* first = generator.next();
    CHECK(first == &numbers[0]);
    generator.next();
    generator.next();
    CHECK(generator.next() == nullptr);

    const auto texts = []() -> Generator<const std::string&> {
        co_yield "a temporary that lives as long as it is looked at";
        co_yield std::string("b");
    };
    CHECK(all_of(texts()) ==
          std::vector<std::string>{"a temporary that lives as long as it is looked at", "b"});
}

TEST_CASE("a value is destroyed when the next one is asked for") {
    const auto counted = []() -> Generator<Counted> {
        co_yield Counted{};
        CHECK(Counted::alive() == 0);
        co_yield Counted{};
    };
    const test::LeakGuard guard;
    int seen = 0;
    for (Counted& value : counted()) {
        (void)value;
        ++seen;
        CHECK(Counted::alive() <= 2); // it, and what it was made of
    }
    CHECK(seen == 2);
}

// --- sending ---------------------------------------------------------------------------------

TEST_CASE("a generator that takes values is started, then sent to until it ends") {
    const test::LeakGuard guard;
    Generator<std::string, std::string> generator = echo("a");
    CHECK(generator.start() == "a");
    CHECK(generator.send("x") == "a-x");
    CHECK(generator.send("y") == "a-y");
    CHECK(generator.send("stop") == std::nullopt);
    CHECK(generator.ended());
    CHECK(generator.send("z") == std::nullopt);
    CHECK(generator.start() == std::nullopt);
}

TEST_CASE("what cannot be copied can be sent, and references") {
    const auto sums = []() -> Generator<int, std::unique_ptr<int>> {
        int sum = 0;
        for (;;) {
            const std::unique_ptr<int> sent = co_yield sum;
            sum += *sent;
        }
    };
    Generator<int, std::unique_ptr<int>> sum = sums();
    sum.start();
    CHECK(sum.send(std::make_unique<int>(2)) == 2);
    CHECK(sum.send(std::make_unique<int>(3)) == 5);

    const auto increments = []() -> Generator<bool, int&> {
        for (;;)
            ++(co_yield true);
    };
    Generator<bool, int&> increment = increments();
    increment.start();
    int number = 1;
    increment.send(number);
    increment.send(number);
    CHECK(number == 3);
}

TEST_CASE("an exception that is thrown in can be caught, and the body goes on") {
    const auto body = []() -> Generator<std::string> {
        for (;;) {
            std::string next = "went on";
            try {
                co_yield "waits";
            } catch (const std::runtime_error& failure) {
                next = failure.what();
            }
            co_yield next;
        }
    };
    Generator<std::string> generator = body();
    CHECK(generator.next() == "waits");
    CHECK(generator.throw_in(error("thrown in")) == "thrown in");
    CHECK(generator.next() == "waits");
    CHECK(generator.next() == "went on");
    CHECK_THROWS_WITH_AS(generator.throw_in(error("passes")), "passes", std::runtime_error);
    CHECK(generator.ended());
}

TEST_CASE("misuse of a generator is refused, and leaves it as it was") {
    Generator<std::string, std::string> generator = echo("a");
    CHECK_THROWS_WITH_AS(generator.send("x"), "generator: send() before start()", std::logic_error);
    CHECK_THROWS_AS(generator.throw_in(error("early")), std::logic_error);
    generator.start();
    CHECK_THROWS_WITH_AS(generator.start(), "generator: it was started before", std::logic_error);
    CHECK_THROWS_AS(generator.throw_in(nullptr), std::logic_error);
    CHECK(generator.send("x") == "a-x");
    generator.close();
    CHECK_THROWS_AS(generator.throw_in(error("late")), std::logic_error);
}

TEST_CASE("a generator that asks itself, or closes itself, is told so") {
    Generator<int>* self = nullptr;
    const auto body = [](Generator<int>*& it) -> Generator<int> {
        co_yield 1;
        CHECK_THROWS_WITH_AS(it->next(), "generator: it is running already", std::logic_error);
        CHECK_THROWS_AS(it->close(), std::logic_error);
        co_yield 2;
    };
    Generator<int> generator = body(self);
    self = &generator;
    CHECK(generator.next() == 1);
    CHECK(generator.next() == 2);
    CHECK(generator.next() == std::nullopt);
}

// --- delegation ------------------------------------------------------------------------------

TEST_CASE("elements_of yields all of another generator in its place") {
    const test::LeakGuard guard;
    const auto body = []() -> Generator<int> {
        co_yield 0;
        co_yield elements_of(numbers(1, 2));
        co_yield elements_of(numbers(7, 0));
        co_yield elements_of(Generator<int>{});
        CHECK(Counted::alive() == 0);
        Generator<int> begun = numbers(10, 3);
        begun.next();
        co_yield elements_of(std::move(begun));
        CHECK(begun.ended());
        co_yield 3;
    };
    CHECK(all_of(body()) == Ints{0, 1, 2, 11, 12, 3});
}

TEST_CASE("elements_of takes any range of what converts") {
    const Ints kept{1, 2};
    const auto body = [](const Ints& of) -> Generator<long> {
        co_yield elements_of(of);
        co_yield elements_of(std::array<short, 2>{3, 4});
        co_yield elements_of(std::views::iota(5, 7));
        co_yield elements_of(countdown(2)); // a Generator of another type
    };
    CHECK(all_of(body(kept)) == std::vector<long>{1, 2, 3, 4, 5, 6, 2, 1});
}

TEST_CASE("values pass both ways through a generator that delegates") {
    const test::LeakGuard guard;
    const auto middle = []() -> Generator<std::string, std::string> {
        const Counted frame;
        co_yield elements_of(echo("deep"));
        co_yield elements_of(echo("deeper"));
    };
    const auto outer = [](auto inner) -> Generator<std::string, std::string> {
        const Counted frame;
        co_yield elements_of(inner());
        const std::string heard = co_yield "outer";
        co_yield "outer-" + heard;
    };
    Generator<std::string, std::string> generator = outer(middle);
    CHECK(generator.start() == "deep");
    CHECK(generator.send("1") == "deep-1");
    CHECK(generator.send("stop") == "deeper");
    CHECK(generator.send("2") == "deeper-2");
    CHECK(Counted::alive() == 3);
    CHECK(generator.send("stop") == "outer");
    CHECK(Counted::alive() == 1);
    CHECK(generator.send("3") == "outer-3");
    CHECK(generator.send("4") == std::nullopt);
}

TEST_CASE("exceptions pass through delegation both ways") {
    const test::LeakGuard guard;
    const auto careful = []() -> Generator<std::string> {
        std::string note;
        try {
            co_yield "waits";
        } catch (const std::runtime_error& failure) {
            note = failure.what();
        }
        co_yield note;
        throw std::runtime_error("from inside");
    };
    const auto outer = [](auto inner) -> Generator<std::string> {
        std::string note;
        try {
            co_yield elements_of(inner());
        } catch (const std::runtime_error& failure) {
            note = failure.what();
        }
        co_yield note + ", caught outside";
        co_yield elements_of(inner());
    };
    Generator<std::string> generator = outer(careful);
    CHECK(generator.next() == "waits");
    CHECK(generator.throw_in(error("thrown in")) == "thrown in");
    CHECK(generator.next() == "from inside, caught outside");
    CHECK(generator.next() == "waits");
    CHECK(generator.throw_in(error("again")) == "again");
    CHECK_THROWS_WITH_AS(generator.next(), "from inside", std::runtime_error);
    CHECK(generator.ended());
}

TEST_CASE("one that delegates and is dropped half way destroys all") {
    const test::LeakGuard guard;
    const auto outer = []() -> Generator<int> {
        const Counted frame;
        co_yield elements_of(numbers(0, 10));
    };
    {
        Generator<int> generator = outer();
        generator.next();
        CHECK(Counted::alive() == 4); // two frames, an argument and what it was made of
    }
    CHECK(Counted::alive() == 0);
}

TEST_CASE("one that delegates already can be delegated to") {
    const auto outer = [](Generator<int> sub) -> Generator<int> {
        co_yield elements_of(std::move(sub));
        co_yield -1;
    };
    Generator<int> inner = outer(outer(numbers(0, 3)));
    CHECK(inner.next() == 0);
    CHECK(all_of(outer(std::move(inner))) == Ints{1, 2, -1, -1, -1});
}

TEST_CASE("a generator that takes values is not delegated to once it was started") {
    const auto body = [](std::string& note) -> Generator<std::string, std::string> {
        Generator<std::string, std::string> begun = echo("a");
        begun.start();
        try {
            co_yield elements_of(std::move(begun));
        } catch (const std::logic_error& failure) {
            note = failure.what();
        }
    };
    std::string note;
    CHECK(body(note).start() == std::nullopt);
    CHECK(note == "generator: it was started before");
}

namespace {

/// The numbers below 2^depth, from a tree of generators.
Generator<int> tree(int depth, int base = 0) {
    if (depth == 0) {
        co_yield base;
        co_return;
    }
    co_yield elements_of(tree(depth - 1, 2 * base));
    co_yield elements_of(tree(depth - 1, 2 * base + 1));
}

/// `n` down to 1, each by a generator of its own inside of the one before.
Generator<int> nested(int n) {
    co_yield n;
    if (n > 1)
        co_yield elements_of(nested(n - 1));
}

} // namespace

TEST_CASE("a tree walks itself") {
    int expected = 0;
    for (const int number : tree(10))
        CHECK(number == expected++);
    CHECK(expected == 1024);
}

TEST_CASE("neither many values nor deep delegation take stack") {
    long sum = 0;
    for (const int number : numbers(0, 1'000'000))
        sum += number;
    CHECK(sum == 499'999'500'000);

    const auto one_by_one = []() -> Generator<int> {
        for (int i = 0; i < 1'000'000; ++i)
            co_yield elements_of(numbers(i, i % 2));
    };
    int count = 0;
    for (const int number : one_by_one()) {
        (void)number;
        ++count;
    }
    CHECK(count == 500'000);

    int expected = 100'000;
    bool in_order = true;
    for (const int number : nested(100'000))
        in_order = number == expected-- && in_order;
    CHECK(in_order);
    CHECK(expected == 0);
}

TEST_CASE("dropping a deep delegation takes no stack, and destroys the innermost first") {
    Generator<int> generator = nested(100'000);
    for (int i = 0; i < 100'000; ++i)
        generator.next();
    generator.close();
    CHECK(generator.ended());

    struct Note {
        std::string& order;
        char name;
        ~Note() { order += name; }
    };
    const auto noting = [](auto self, std::string& order, char name) -> Generator<int> {
        const Note note{order, name};
        co_yield 0;
        if (name < 'd')
            co_yield elements_of(self(self, order, static_cast<char>(name + 1)));
    };
    std::string order;
    {
        Generator<int> letters = noting(noting, order, 'a');
        for (int i = 0; i < 4; ++i)
            letters.next();
    }
    CHECK(order == "dcba");
}
