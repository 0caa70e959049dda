#include "apps/bench/chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdarg>
#include <cstdio>

namespace ds4::bench {
namespace {

// Pixels.
constexpr double kWidth = 760, kPanelHeight = 260;
constexpr double kLeft = 70, kRight = 130, kTop = 44, kBottom = 44;  // margins within a panel
constexpr double kTitleHeight = 36;
constexpr int kTicks = 6;  // about

__attribute__((format(printf, 1, 2))) std::string format(const char* pattern, ...) {
    std::array<char, 512> text{};
    va_list arguments;
    va_start(arguments, pattern);
    std::vsnprintf(text.data(), text.size(), pattern, arguments);
    va_end(arguments);
    return text.data();
}

std::string escaped(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (c == '<') {
            out += "&lt;";
        } else if (c == '&') {
            out += "&amp;";
        } else {
            out += c;
        }
    }
    return out;
}

std::string label(double x, double y, const char* anchor, const std::string& text, const char* style = "") {
    return format(R"(<text x="%.1f" y="%.1f" text-anchor="%s"%s>)", x, y, anchor, style) + escaped(text) +
           "</text>\n";
}

// 1, 2 or 5 times a power of ten, so that an axis up to `most` gets about kTicks marks.
double tick_step(double most) {
    const double rough = most / kTicks;
    const double power = std::pow(10, std::floor(std::log10(rough)));
    for (const double factor : {1.0, 2.0, 5.0}) {
        if (rough <= factor * power) return factor * power;
    }
    return 10 * power;
}

std::string number(double value) {
    return std::abs(value) >= 10000 ? format("%.0fk", value / 1000) : format("%.4g", value);
}

class PanelDrawing {
  public:
    PanelDrawing(const Panel& panel, double top) : panel_(panel), top_(top + kTop) {
        for (const Series& s : panel.series) {
            for (const auto& [x, y] : s.points) {
                most_x_ = std::max(most_x_, x);
                most_y_ = std::max(most_y_, y);
            }
        }
        if (most_x_ <= 0) most_x_ = 1;
        if (most_y_ <= 0) most_y_ = 1;
        most_y_ *= 1.05;
    }

    std::string draw(const std::string& x_label) const {
        std::string out = label(kLeft, top_ - 14, "start", panel_.title, R"( font-weight="bold")");
        out += axes();
        out += label(kLeft + width() / 2, top_ + height() + 36, "middle", x_label);
        for (const Series& s : panel_.series) out += curve(s);
        return out;
    }

  private:
    static double width() { return kWidth - kLeft - kRight; }
    static double height() { return kPanelHeight - kTop - kBottom; }
    double px(double x) const { return kLeft + x / most_x_ * width(); }
    double py(double y) const { return top_ + height() - y / most_y_ * height(); }

    std::string axes() const {
        std::string out;
        const double step_y = tick_step(most_y_);
        for (double y = 0; y <= most_y_; y += step_y) {
            out += format(R"(<path d="M%.1f %.1fh%.1f" stroke="%s"/>)", kLeft, py(y), width(),
                          y == 0 ? "#333" : "#ddd");
            out += label(kLeft - 8, py(y) + 4, "end", number(y));
        }
        const double step_x = tick_step(most_x_);
        for (double x = 0; x <= most_x_; x += step_x) {
            out += format(R"(<path d="M%.1f %.1fv5" stroke="#333"/>)", px(x), top_ + height());
            out += label(px(x), top_ + height() + 19, "middle", number(x));
        }
        return out;
    }

    std::string curve(const Series& s) const {
        if (s.points.empty()) return {};
        std::string out = "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"" + s.colour + "\"";
        if (s.is_limit) out += " stroke-dasharray=\"6 4\"";
        out += " points=\"";
        for (const auto& [x, y] : s.points) out += format("%.1f,%.1f ", px(x), py(y));
        out += "\"/>\n";
        if (!s.is_limit) {
            for (const auto& [x, y] : s.points) {
                out += format(R"(<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%s: %s</title></circle>)",
                              px(x), py(y), s.colour.c_str(), format("%.0f", x).c_str(), number(y).c_str());
            }
        }
        const auto& [x, y] = s.points.back();
        return out + label(px(x) + 8, py(y) + 4, "start", s.name, (" fill=\"" + s.colour + "\"").c_str());
    }

    const Panel& panel_;
    double top_;
    double most_x_ = 0, most_y_ = 0;
};

}  // namespace

std::string draw_chart(const std::string& title, const std::string& x_label, std::span<const Panel> panels) {
    const double height = kTitleHeight + kPanelHeight * static_cast<double>(panels.size());
    std::string out = format(
        R"(<svg xmlns="http://www.w3.org/2000/svg" width="%.0f" height="%.0f" viewBox="0 0 %.0f %.0f" )"
        R"(font-family="sans-serif" font-size="12" fill="#333">)",
        kWidth, height, kWidth, height);
    out += "\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
    out += label(kLeft, 24, "start", title, R"( font-size="14")");
    double top = kTitleHeight;
    for (const Panel& panel : panels) {
        out += PanelDrawing(panel, top).draw(x_label);
        top += kPanelHeight;
    }
    return out + "</svg>\n";
}

}  // namespace ds4::bench
