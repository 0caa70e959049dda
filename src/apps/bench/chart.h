#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

namespace ds4::bench {

// A curve; its points are (x, y) with ascending x.
struct Series {
    std::string name;
    std::string colour;     // as CSS has it
    bool is_limit = false;  // dashed and without dots
    std::vector<std::pair<double, double>> points;
};

struct Panel {
    std::string title;
    std::vector<Series> series;
};

// Panels one below the other over the same kind of x axis, each with its own y axis from 0 on, as an SVG
// document.
std::string draw_chart(const std::string& title, const std::string& x_label, std::span<const Panel> panels);

}  // namespace ds4::bench
