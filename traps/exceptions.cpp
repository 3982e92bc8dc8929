#include "exceptions.hpp"

#include <cstdlib>
#include <string_view>
#include <typeinfo>

#include <cxxabi.h>

namespace trapline {

bool is_interrupt(const std::exception_ptr& failure) noexcept {
    try {
        std::rethrow_exception(failure);
    } catch (const Cancelled&) {
        return true;
    } catch (...) {
        return false;
    }
}

std::string describe(const std::source_location& at) {
    std::string_view file = at.file_name();
    if (file.empty())
        return "the start";
    if (const auto slash = file.rfind('/'); slash != file.npos)
        file.remove_prefix(slash + 1);
    return std::string(file) + ":" + std::to_string(at.line()) + " (" + at.function_name() + ")";
}

std::string message_of(const std::exception_ptr& failure) {
    if (!failure)
        return "no exception";
    try {
        std::rethrow_exception(failure);
    } catch (const std::exception& e) {
        return e.what();
    } catch (const Cancelled& e) {
        return e.what();
    } catch (...) {
        int status = 0;
        const std::type_info* type = abi::__cxa_current_exception_type();
        if (!type)
            return "an exception that is not a C++ one";
        char* readable = abi::__cxa_demangle(type->name(), nullptr, nullptr, &status);
        std::string name = status == 0 ? readable : type->name();
        std::free(readable);
        return "an exception of type " + name;
    }
}

} // namespace trapline
