#include <trapline/kernel/tasks.hpp>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include <trapline/kernel/kernel.hpp>

#include "manual_engine.hpp"

using namespace trapline;

namespace {

Coro<void> nothing() { co_return; }

/// Tasks with the kernel's part in place, that no kernel runs.
struct Tasks {
    Kernel kernel{manual()};
    std::vector<Task<>> tasks;

    explicit Tasks(int n) {
        for (int i = 0; i < n; ++i) {
            TaskRecord& task = *tasks.emplace_back(detail::make_task(nothing())).record();
            ::new (task.room()) TaskControl(kernel, task);
        }
    }

    TaskRecord& operator[](std::size_t i) { return *tasks[i].record(); }
};

std::vector<TaskRecord*> newest_first(const TaskTable& table) {
    std::vector<TaskRecord*> all;
    for (TaskRecord* task = table.newest(); task; task = TaskTable::older(*task))
        all.push_back(task);
    return all;
}

std::vector<TaskRecord*> in_order(const ReadyQueue::Batch& batch) {
    std::vector<TaskRecord*> all{batch.first};
    while (!batch.is_last(*all.back()))
        all.push_back(control(*all.back()).next);
    return all;
}

} // namespace

TEST_CASE("the ready queue is first in, first out") {
    Tasks tasks{3};
    ReadyQueue queue;
    CHECK(queue.empty());
    CHECK(queue.take_all().first == nullptr);
    for (std::size_t i = 0; i < 3; ++i)
        queue.push(tasks[i]);
    CHECK_FALSE(queue.empty());
    CHECK(in_order(queue.take_all()) == std::vector{&tasks[0], &tasks[1], &tasks[2]});
    CHECK(queue.empty());
}

TEST_CASE("what is pushed after the ready queue was taken waits for the next turn") {
    Tasks tasks{3};
    ReadyQueue queue;
    queue.push(tasks[0]);
    queue.push(tasks[1]);
    const ReadyQueue::Batch taken = queue.take_all();
    TaskRecord* next = control(*taken.first).next;
    queue.push(*taken.first);
    queue.push(tasks[2]);
    CHECK(next == &tasks[1]);
    CHECK(taken.is_last(*next));
    CHECK(in_order(queue.take_all()) == std::vector{&tasks[0], &tasks[2]});
}

TEST_CASE("the table lists tasks newest first, whichever leave") {
    Tasks tasks{20};
    TaskTable table;
    CHECK(table.empty());
    std::vector<TaskRecord*> expected;
    for (std::size_t i = 0; i < 20; ++i) {
        table.insert(tasks[i]);
        expected.insert(expected.begin(), &tasks[i]);
    }
    CHECK(table.size() == 20);
    CHECK(newest_first(table) == expected);
    std::mt19937 dice{3};
    while (!expected.empty()) {
        const std::size_t leaver = dice() % expected.size();
        table.remove(*expected[leaver]);
        expected.erase(expected.begin() + static_cast<std::ptrdiff_t>(leaver));
        CHECK(newest_first(table) == expected);
        CHECK(table.size() == expected.size());
    }
    CHECK(table.empty());
}
