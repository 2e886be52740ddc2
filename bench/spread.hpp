// The figures of several rounds as a reader wants them: the middle one and how far the others lie around it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace sanpoll::bench {

struct Spread {
    double median = 0;  // of an even number the mean of the middle two
    double least = 0;
    double most = 0;
};

// All zero without values.
inline Spread spread_of(std::vector<double> values) {
    if (values.empty()) return {};
    std::sort(values.begin(), values.end());
    const std::size_t half = values.size() / 2;
    const double median =
        values.size() % 2 != 0 ? values[half] : (values[half - 1] + values[half]) / 2;
    return {median, values.front(), values.back()};
}

}  // namespace sanpoll::bench
