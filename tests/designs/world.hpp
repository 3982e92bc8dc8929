// A loop of futures whose time is a number, and what its exception handler is told.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../../bench/designs/future/loop.hpp"
#include "../kernel/manual_engine.hpp"

namespace future_design {

inline std::unique_ptr<Engine> virtual_time() { return std::make_unique<trapline::ManualEngine>(); }

struct World {
    explicit World(std::unique_ptr<Engine> engine = virtual_time()) : loop(std::move(engine)) {
        loop.set_exception_handler([this](const ExceptionContext& context) {
            told.push_back(context.message +
                           (context.exception ? ": " + describe(context.exception) : ""));
        });
    }
    Duration passed() { return loop.time() - start; }

    std::vector<std::string> told;
    Loop loop;
    const TimePoint start = loop.time();
};

} // namespace future_design
