#include <trapline/kernel/descriptors.hpp>

#include <algorithm>
#include <array>
#include <climits>
#include <deque>
#include <random>
#include <vector>

#include <fcntl.h>

#include <doctest/doctest.h>

using namespace trapline;
using Admission = Descriptors::Admission;

namespace {

Operation operation_of(const traps::IoRequest& request) {
    static std::deque<traps::IoRequest> requests; // stay where they are
    Operation operation;
    operation.request = &requests.emplace_back(request);
    return operation;
}

template <class Request>
Operation on(int fd) {
    Request request{};
    request.fd = fd;
    return operation_of(request);
}

Operation read_of(int fd) { return on<traps::Recv>(fd); }
Operation write_of(int fd) { return on<traps::Send>(fd); }
Operation close_of(int fd) { return on<traps::Close>(fd); }

/// Takes it out; answers the closers that may go now.
std::vector<Operation*> leave(Descriptors& descriptors, Operation& operation) {
    std::vector<Operation*> closers;
    descriptors.leave(operation, [&](Operation& closer) { closers.push_back(&closer); });
    return closers;
}

std::size_t in_flight(Descriptors& descriptors, int fd) {
    std::size_t count = descriptors.others_on(fd);
    descriptors.for_each_on_a_side(fd, [&](Operation&) { ++count; });
    return count;
}

} // namespace

TEST_CASE("one reads while another writes, a second on the same side is busy") {
    Descriptors d;
    Operation reader = read_of(5);
    Operation writer = write_of(5);
    Operation second_reader = read_of(5);
    Operation second_writer = write_of(5);
    CHECK(d.enter(reader) == Admission::granted);
    CHECK(d.enter(writer) == Admission::granted);
    CHECK(d.enter(second_reader) == Admission::busy);
    CHECK(d.enter(second_writer) == Admission::busy);
    CHECK(leave(d, second_reader).empty()); // it was never in
    CHECK(leave(d, reader).empty());
    CHECK(d.enter(second_reader) == Admission::granted);
    CHECK(d.enter(second_writer) == Admission::busy);
    leave(d, writer);
    leave(d, second_reader);
}

TEST_CASE("descriptors do not stand in each other's way") {
    Descriptors d;
    std::vector<Operation> operations;
    for (int fd = 0; fd < 2000; fd += 37)
        operations.push_back(read_of(fd));
    for (Operation& operation : operations)
        CHECK(d.enter(operation) == Admission::granted);
    for (Operation& operation : operations)
        leave(d, operation);
}

TEST_CASE("operations without a side run side by side") {
    Descriptors d;
    std::array<Operation, 3> operations{};
    for (Operation& operation : operations) {
        operation = operation_of(traps::Read{.fd = 4, .data = nullptr, .size = 1, .offset = 0});
        CHECK(d.enter(operation) == Admission::granted);
    }
    CHECK(in_flight(d, 4) == 3);
    for (Operation& operation : operations)
        leave(d, operation);
    CHECK(in_flight(d, 4) == 0);
}

TEST_CASE("a splice takes up both descriptors, or neither") {
    Descriptors d;
    Operation writer = write_of(8);
    CHECK(d.enter(writer) == Admission::granted);
    Operation splice = operation_of(traps::Splice{.from = 7, .to = 8, .size = 1, .flags = 0});
    CHECK(d.enter(splice) == Admission::busy);
    CHECK(in_flight(d, 7) == 0);
    leave(d, writer);
    CHECK(d.enter(splice) == Admission::granted);
    Operation reader = read_of(7);
    CHECK(d.enter(reader) == Admission::busy);
    Operation other_writer = write_of(8);
    CHECK(d.enter(other_writer) == Admission::busy);
    leave(d, splice);
    CHECK(d.enter(reader) == Admission::granted);
    leave(d, reader);
}

TEST_CASE("a splice may take both sides of one descriptor") {
    Descriptors d;
    Operation splice = operation_of(traps::Splice{.from = 7, .to = 7, .size = 1, .flags = 0});
    CHECK(d.enter(splice) == Admission::granted);
    Operation reader = read_of(7);
    Operation writer = write_of(7);
    CHECK(d.enter(reader) == Admission::busy);
    CHECK(d.enter(writer) == Admission::busy);
    leave(d, splice);
    CHECK(d.enter(reader) == Admission::granted);
    CHECK(d.enter(writer) == Admission::granted);
    leave(d, reader);
    leave(d, writer);
}

TEST_CASE("a close waits for who asks about the descriptor, or looks something up beneath it") {
    for (const traps::IoRequest& request :
         {traps::IoRequest{traps::Statx{5, "", AT_EMPTY_PATH, 0, nullptr}},
          traps::IoRequest{traps::OpenAt{5, "name", 0, 0}},
          traps::IoRequest{traps::OpenAt2{5, "name", nullptr}}}) {
        Descriptors d;
        Operation asking = operation_of(request);
        Operation reader = read_of(5);
        Operation close = close_of(5);
        CHECK(d.enter(asking) == Admission::granted);
        CHECK(d.enter(reader) == Admission::granted); // it is on no side
        leave(d, reader);
        CHECK(d.enter_closing(close, 5) == Admission::waits);
        CHECK(in_flight(d, 5) == 1);
        CHECK(d.others_on(5) == 1);
        CHECK(Descriptors::occupies_no_side(request, 5));
        CHECK_FALSE(Descriptors::occupies_no_side(request, 6));
        CHECK(leave(d, asking) == std::vector<Operation*>{&close});
        d.closed(5);
        CHECK(d.enter(asking) == Admission::granted);
        leave(d, asking);
    }
    Descriptors d;
    Operation by_path = operation_of(traps::Statx{AT_FDCWD, "/", 0, 0, nullptr});
    CHECK(d.enter(by_path) == Admission::granted);
    leave(d, by_path);
}

TEST_CASE("a close of an idle descriptor goes at once, and shuts the door until it is done") {
    Descriptors d;
    Operation close = close_of(5);
    Operation reader = read_of(5);
    Operation second_close = close_of(5);
    CHECK(d.enter_closing(close, 5) == Admission::granted);
    CHECK(d.enter(reader) == Admission::closing);
    CHECK(d.enter_closing(second_close, 5) == Admission::closing);
    d.closed(5);
    CHECK(d.enter(reader) == Admission::granted); // the number may be in use anew
    leave(d, reader);
}

TEST_CASE("a close waits for all that is in flight, and is let go by the last of them") {
    Descriptors d;
    Operation reader = read_of(5);
    Operation writer = write_of(5);
    Operation close = close_of(5);
    CHECK(d.enter(reader) == Admission::granted);
    CHECK(d.enter(writer) == Admission::granted);
    CHECK(d.enter_closing(close, 5) == Admission::waits);
    CHECK(in_flight(d, 5) == 2);
    CHECK(leave(d, reader).empty());
    CHECK(leave(d, writer) == std::vector<Operation*>{&close});
    d.closed(5);
}

TEST_CASE("both ends of a splice may have a close that waits for it") {
    Descriptors d;
    Operation splice = operation_of(traps::Splice{.from = 7, .to = 8, .size = 1, .flags = 0});
    Operation close_from = close_of(7);
    Operation close_to = close_of(8);
    CHECK(d.enter(splice) == Admission::granted);
    CHECK(d.enter_closing(close_from, 7) == Admission::waits);
    CHECK(d.enter_closing(close_to, 8) == Admission::waits);
    CHECK(leave(d, splice) == std::vector<Operation*>{&close_from, &close_to});
    d.closed(7);
    d.closed(8);
}

TEST_CASE("numbers that no descriptor has pass: the engine says what is wrong with them") {
    Descriptors d;
    for (const int fd : {-1, INT_MIN, INT_MAX, 1 << 20}) {
        Operation reader = read_of(fd);
        Operation close = close_of(fd);
        CHECK(d.enter(reader) == Admission::granted);
        CHECK(leave(d, reader).empty());
        CHECK(d.enter_closing(close, fd) == Admission::granted);
        d.closed(fd);
    }
}

TEST_CASE("operations may be taken out in any order") {
    Descriptors d;
    std::vector<Operation> operations(20);
    for (Operation& operation : operations) {
        operation = operation_of(traps::Fsync{.fd = 3, .data_only = false});
        CHECK(d.enter(operation) == Admission::granted);
    }
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < operations.size(); ++i)
        order.push_back(i);
    std::shuffle(order.begin(), order.end(), std::mt19937{5});
    std::size_t left = order.size();
    for (std::size_t i : order) {
        CHECK(leave(d, operations[i]).empty());
        CHECK(in_flight(d, 3) == --left);
    }
    CHECK(in_flight(d, 3) == 0);
}

TEST_CASE("a close counts those on no side that it waits for") {
    Descriptors d;
    std::vector<Operation> operations(3);
    for (Operation& operation : operations) {
        operation = operation_of(traps::Fsync{.fd = 3, .data_only = false});
        CHECK(d.enter(operation) == Admission::granted);
    }
    Operation reader = read_of(3);
    CHECK(d.enter(reader) == Admission::granted);
    Operation close = close_of(3);
    CHECK(d.enter_closing(close, 3) == Admission::waits);
    CHECK(d.others_on(3) == 3);
    CHECK(leave(d, operations[1]).empty());
    CHECK(leave(d, reader).empty());
    CHECK(leave(d, operations[0]).empty());
    CHECK(d.others_on(3) == 1);
    CHECK(leave(d, operations[2]) == std::vector<Operation*>{&close});
    CHECK(close.transferred == 0); // it goes to the engine like any other
    d.closed(3);
    CHECK(leave(d, close).empty());
    CHECK(d.others_on(3) == 0);
}

TEST_CASE("which request occupies a descriptor but no side of it") {
    constexpr auto on_none = [](const traps::IoRequest& request, int fd) {
        return Descriptors::occupies_no_side(request, fd);
    };
    CHECK(on_none(traps::Read{.fd = 4, .data = nullptr, .size = 1, .offset = 0}, 4));
    CHECK_FALSE(on_none(traps::Read{.fd = 4, .data = nullptr, .size = 1}, 4));
    CHECK_FALSE(on_none(traps::Close{4}, 4)); // who waits for the others
    const traps::Splice into_file{.from = 4, .to = 5, .to_offset = 0, .size = 1, .flags = 0};
    CHECK_FALSE(on_none(into_file, 4));
    CHECK(on_none(into_file, 5));
}
