// Items for programs that pass them on, and the ledger of who gave and who took which.
#pragma once

#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../support/leaks.hpp"

namespace trapline::properties {

/// Moves only, and knows when it was moved from. Its life counts like a frame's: one that is
/// forgotten somewhere is a leak.
class Item {
public:
    explicit Item(int number) noexcept : number_(number) {}
    Item(Item&& other) noexcept : number_(std::exchange(other.number_, gone)) {}
    Item& operator=(Item&& other) noexcept {
        number_ = std::exchange(other.number_, gone);
        return *this;
    }

    static constexpr int gone = -1;
    int number() const noexcept { return number_; }

    friend bool operator<(const Item& a, const Item& b) noexcept { return a.number_ < b.number_; }

private:
    int number_;
    test::Counted life_;
};

/// Numbers and tickets are drawn when a task asks to give or to take, and rise with the time.
class Ledger {
public:
    /// The number of an item that is to be given; `rank`, below 1000, says more than the time.
    int new_number(unsigned rank = 0) {
        was_given_.push_back(false);
        was_taken_.push_back(false);
        return static_cast<int>(rank * serials) + static_cast<int>(was_given_.size()) - 1;
    }
    std::size_t new_ticket() noexcept { return ++last_ticket_; }

    void given(int number) {
        if (mark(was_given_, number))
            complain("an item was given twice");
    }
    void taken(std::size_t ticket, int number) {
        if (mark(was_taken_, number))
            complain("an item was taken twice");
        takings_.emplace_back(ticket, number);
    }

    void complain(std::string what) {
        if (complaint_.empty())
            complaint_ = std::move(what);
    }

    /// At the end, when what was left has been taken, too.
    std::string complaint() const {
        if (!complaint_.empty())
            return complaint_;
        for (std::size_t i = 0; i < was_given_.size(); ++i) {
            if (was_given_[i] != was_taken_[i])
                return was_given_[i] ? "an item is lost" : "an item was taken that was not given";
        }
        return "";
    }

    /// Whether each who took got the item that was next when he asked.
    bool in_order() {
        std::sort(takings_.begin(), takings_.end());
        return std::is_sorted(takings_.begin(), takings_.end(),
                              [](const auto& a, const auto& b) { return a.second < b.second; });
    }

private:
    static constexpr unsigned serials = 1'000'000;

    /// Whether it was marked already.
    bool mark(std::vector<bool>& marks, int number) {
        if (number < 0) {
            complain("an item was moved from before it came");
            return false;
        }
        const auto serial = static_cast<std::size_t>(number) % serials;
        const bool before = marks[serial];
        marks[serial] = true;
        return before;
    }

    std::vector<bool> was_given_;
    std::vector<bool> was_taken_;
    std::vector<std::pair<std::size_t, int>> takings_;
    std::size_t last_ticket_ = 0;
    std::string complaint_;
};

/// One more of a count while it lives.
class Among {
public:
    explicit Among(int& count) noexcept : count_(++count) {}
    Among(const Among&) = delete;
    Among& operator=(const Among&) = delete;
    ~Among() { --count_; }

private:
    int& count_;
};

} // namespace trapline::properties
